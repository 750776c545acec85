// What a game must be to run in the pool.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "csrc/core/rng.h"

namespace fastrl {

/// What one `step` reports. The pool writes it into the batch buffers.
struct Transition {
  float reward = 0.0F;
  bool terminated = false;  ///< The task ended: the next state has no value.
  bool truncated = false;   ///< A time limit cut the episode: bootstrap from the state reached.
};

/// What the pool's machinery needs. Games that ship satisfy `Env` below; a `PoolableEnv` may also
/// throw, and then its exception is raised in the caller's `recv`.
///
/// Trivially copyable, so copying the struct is a snapshot. Options belong to the struct: the pool
/// copies a prototype into every slot.
template <typename E>
concept PoolableEnv =
    std::is_trivially_copyable_v<E> &&
    requires(E env, const E& seen, Rng& rng, int action, std::span<std::uint8_t, E::kObsSize> obs) {
      { env.reset(rng) };
      { env.step(action, rng) } -> std::same_as<Transition>;
      { seen.observe(obs) };
      { E::kNumActions } -> std::convertible_to<int>;
      { E::kObsShape.size() } -> std::convertible_to<std::size_t>;
    };

/// The largest value in an observation: `E::kObsHigh` where the game says, else 255.
template <typename E>
constexpr int obs_high() {
  if constexpr (requires { E::kObsHigh; }) {
    return E::kObsHigh;
  } else {
    return 255;
  }
}

/// A game. It owns its state and nothing else: no heap, no thread, no clock, no exception.
template <typename E>
concept Env = PoolableEnv<E> && requires(E env, const E& seen, Rng& rng, int action,
                                         std::span<std::uint8_t, E::kObsSize> obs) {
  { env.reset(rng) } noexcept;
  { env.step(action, rng) } noexcept;
  { seen.observe(obs) } noexcept;
};

}  // namespace fastrl
