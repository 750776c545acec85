// Catch: a ball falls one row per step; the paddle must be under it when it lands.
//
// The smallest complete game, and the one to copy when adding another.
//
// Rules:  bsuite "catch", 10 rows by 5 columns (Osband et al. 2020, arXiv:1908.03568).
// Oracle: tests/oracle/test_catch.py plays every start and action string against the rules
//         written out in Python.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "csrc/core/env.h"
#include "csrc/core/rng.h"

namespace fastrl::envs {

struct Catch {
  static constexpr int kRows = 10;
  static constexpr int kCols = 5;
  static constexpr int kNumActions = 3;  // 0 left, 1 stay, 2 right
  static constexpr std::array<int, 3> kObsShape{1, kRows, kCols};
  static constexpr std::size_t kObsSize = std::size_t{kRows} * kCols;
  static constexpr int kObsHigh = 1;

  int ball_row = 0;
  int ball_col = 0;
  int paddle_col = kCols / 2;

  template <RandomSource R>
  void reset(R& rng) noexcept {
    *this = Catch{};
    ball_col = rng.below(kCols);
  }

  /// Moves the paddle, then drops the ball. Only the last row pays: +1 caught, -1 missed.
  ///
  /// The pool has checked that `action` is in [0, kNumActions).
  template <RandomSource R>
  [[nodiscard]] Transition step(int action, R& /*rng*/) noexcept {
    paddle_col = std::clamp(paddle_col + action - 1, 0, kCols - 1);
    ++ball_row;
    if (ball_row < kRows - 1) return {};
    return {.reward = ball_col == paddle_col ? 1.0F : -1.0F, .terminated = true};
  }

  /// Writes a (1, kRows, kCols) board of zeros and ones.
  void observe(std::span<std::uint8_t, kObsSize> obs) const noexcept {
    std::ranges::fill(obs, std::uint8_t{0});
    obs[cell(ball_row, ball_col)] = 1;
    obs[cell(kRows - 1, paddle_col)] = 1;
  }

 private:
  static constexpr std::size_t cell(int row, int col) noexcept {
    return (static_cast<std::size_t>(row) * kCols) + static_cast<std::size_t>(col);
  }
};

static_assert(Env<Catch>);

}  // namespace fastrl::envs
