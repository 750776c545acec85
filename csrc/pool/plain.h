// A game that is a state and nothing else, as the pool wants every game.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "csrc/core/env.h"
#include "csrc/core/rng.h"

namespace fastrl {

/// The game, and the random stream that the pool keeps for it.
template <PoolableEnv E>
struct Plain {
  /// What environments have in common: what they start as. It carries the game's options.
  struct Shared {
    E prototype;

    Shared() = default;
    Shared(const E& start) : prototype(start) {}  // NOLINT: Pool<Game>(config, game)

    static constexpr int num_actions() noexcept { return E::kNumActions; }
    static constexpr int obs_high() noexcept { return fastrl::obs_high<E>(); }
    static constexpr std::size_t memory_size() noexcept { return 0; }
    static constexpr std::size_t scratch_size() noexcept { return 0; }
    static std::vector<int> obs_shape() { return {E::kObsShape.begin(), E::kObsShape.end()}; }
  };
  static constexpr std::array<const char*, 0> kInfo{};
  static constexpr std::uint64_t kMaxSeed = std::numeric_limits<std::uint64_t>::max();

  E game;
  Rng rng;

  Plain(const Shared& shared, int /*index*/, std::uint64_t first_seed) noexcept
      : game(shared.prototype), rng(first_seed) {}

  void seed(std::uint64_t value) noexcept { rng = Rng(value); }
  void reset(const Lent<Shared>& /*lent*/) { game.reset(rng); }
  GameTransition step(const Lent<Shared>& /*lent*/, Action action) {
    const Transition result = game.step(static_cast<int>(action.number), rng);
    return {.told = result,
            .raw_reward = result.reward,
            .game_over = result.terminated || result.truncated};
  }
  void observe(const Lent<Shared>& /*lent*/, std::span<std::uint8_t> obs) const {
    game.observe(obs.first<E::kObsSize>());
  }
  [[nodiscard]] std::array<std::int32_t, 0> info() const noexcept { return {}; }
};

/// `E` itself if it is a `HostedEnv`, else around it what makes it one.
template <typename E>
struct Hosting {
  using Env = Plain<E>;
};
template <HostedEnv E>
struct Hosting<E> {
  using Env = E;
};
template <typename E>
using Hosted = typename Hosting<E>::Env;

}  // namespace fastrl
