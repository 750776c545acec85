// What a game must be to run in the pool.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

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

// ---- games that are more than a state -----------------------------------------------------------

/// An action as the pool hands it on.
struct Action {
  std::int64_t number = 0;
  float strength = 1.0F;  ///< How far an analogue control is moved.
};

/// What one step of a `HostedEnv` reports.
struct GameTransition {
  Transition told;  ///< What the agent is told: perhaps a clipped reward, a lost life as an end.
  float raw_reward = 0.0F;
  bool game_over = false;  ///< The environment is to be reset before its next step.
};

/// What the pool lends a game for one call.
template <typename Shared>
struct Lent {
  const Shared& shared;            ///< One for the whole pool; nobody writes it.
  std::span<std::uint8_t> memory;  ///< shared.memory_size() bytes of this environment's own.
  std::span<float> scratch;        ///< shared.scratch_size() of this thread, of no meaning later.
};

/// A game for which the pool keeps house. `Shared` holds what environments have in common (options,
/// read-only data, shapes), so that the state needs no pointer; `memory` is state whose size the
/// options decide. State and memory make a snapshot. The game owns its random stream: `seed` takes
/// effect at the next reset.
///
/// May also have:
///     env.kind()                                                      a snapshot fits its kind
///     alone shared.action_bounds(), shared.action_of(values)             actions that are some
///     floats E::kFrameWidth, env.frame_height(lent), env.render(lent, rgb)   pictures
template <typename E>
concept HostedEnv = std::is_trivially_copyable_v<E> &&
                    requires(E env, const E& seen, const typename E::Shared& shared,
                             const Lent<typename E::Shared>& lent, Action action,
                             std::span<std::uint8_t> obs, int index, std::uint64_t seed) {
                      E(shared, index, seed);  // Environment `index`, with a seed of its own.
                      { env.seed(seed) } noexcept;
                      { env.reset(lent) };
                      { env.step(lent, action) } -> std::same_as<GameTransition>;
                      { seen.observe(lent, obs) };
                      { seen.info().size() } -> std::convertible_to<std::size_t>;
                      {
                        E::kInfo.size()
                      } -> std::convertible_to<std::size_t>;  // Names of the int32 in info().
                      { E::kMaxSeed } -> std::convertible_to<std::uint64_t>;
                      { shared.num_actions() } -> std::same_as<int>;
                      { shared.obs_shape() } -> std::same_as<std::vector<int>>;
                      { shared.obs_high() } -> std::same_as<int>;
                      { shared.memory_size() } -> std::same_as<std::size_t>;
                      { shared.scratch_size() } -> std::same_as<std::size_t>;
                    };

}  // namespace fastrl
