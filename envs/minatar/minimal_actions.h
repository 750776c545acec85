// The -v1 games: the same games with only the actions that do something.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "csrc/core/env.h"
#include "envs/minatar/options.h"

namespace fastrl::envs::minatar {

/// Action i of this game is action `Game::kMinimalActions[i]` of `Game`.
///
/// Oracle: tests/oracle/test_minatar.py compares the list with `minimal_action_set()`.
template <typename Game>
struct MinimalActions {
  using Options = MinAtarOptions;
  static constexpr int kNumActions = static_cast<int>(Game::kMinimalActions.size());
  static constexpr auto kObsShape = Game::kObsShape;
  static constexpr std::size_t kObsSize = Game::kObsSize;
  static constexpr int kObsHigh = Game::kObsHigh;

  Game game;

  MinimalActions() = default;
  explicit MinimalActions(const MinAtarOptions& options) noexcept : game(options) {}

  template <RandomSource R>
  void reset(R& rng) noexcept {
    game.reset(rng);
  }

  /// The pool has checked that `action` is in [0, kNumActions).
  template <RandomSource R>
  [[nodiscard]] Transition step(int action, R& rng) noexcept {
    return game.step(Game::kMinimalActions[static_cast<std::size_t>(action)], rng);
  }

  void observe(std::span<std::uint8_t, kObsSize> obs) const noexcept { game.observe(obs); }
};

}  // namespace fastrl::envs::minatar
