// MinAtar Breakout: a ball on diagonals, three rows of bricks, a paddle on the bottom row.
//
// A brick pays 1. When the ball reaches the bottom row with no brick left, the wall is rebuilt.
// Missing the ball ends the game. Difficulty does not ramp.
//
// Rules:  Young and Tian 2019, arXiv:1903.03176, and the minatar package seen from outside
//         (README.md).
// Oracle: tests/oracle/test_minatar.py, in lockstep with minatar 1.0.15 on the package's draws.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "csrc/core/env.h"
#include "csrc/core/rng.h"
#include "envs/minatar/board.h"
#include "envs/minatar/minimal_actions.h"
#include "envs/minatar/options.h"

namespace fastrl::envs::minatar {

struct Breakout {
  enum Channel : int { kPaddle, kBall, kTrail, kBrick, kNumChannels };

  using Options = MinAtarOptions;
  static constexpr int kNumActions = kNumAllActions;
  static constexpr std::array<int, 3> kMinimalActions{kNoop, kLeft, kRight};
  static constexpr std::array<int, 3> kObsShape{kSide, kSide, kNumChannels};
  static constexpr std::size_t kObsSize = Canvas<kNumChannels>::kSize;
  static constexpr int kObsHigh = 1;

  static constexpr int kFirstBrickRow = 1;
  static constexpr int kNumBricks = 3 * kSide;
  static constexpr std::uint32_t kWall = (1U << kNumBricks) - 1U;

  MinAtarOptions options;
  StickyAction sticky;
  bool right = true;  ///< The ball's next move; down likewise.
  bool down = true;
  bool struck = false;  ///< The last move broke a brick: the next brick lets the ball through.
  std::int8_t paddle_col = 4;
  std::int8_t ball_row = 3;
  std::int8_t ball_col = 0;
  std::int8_t trail_row = 3;
  std::int8_t trail_col = 0;
  std::uint32_t bricks = kWall;  ///< Bit (row - kFirstBrickRow) * kSide + col.

  Breakout() = default;
  explicit Breakout(const MinAtarOptions& chosen) noexcept : options(chosen) {}

  /// The ball starts in one of the upper corners and heads for the middle.
  template <RandomSource R>
  void reset(R& rng) noexcept {
    *this = Breakout(options);
    if (rng.below(2) == 1) {
      right = false;
      ball_col = trail_col = kSide - 1;
    }
  }

  /// The pool has checked that `action` is in [0, kNumActions).
  template <RandomSource R>
  [[nodiscard]] Transition step(int action, R& rng) noexcept {
    action = sticky(action, options.sticky_action_prob, rng);
    if (action == kLeft && paddle_col > 0) --paddle_col;
    if (action == kRight && paddle_col < kSide - 1) ++paddle_col;

    trail_row = ball_row;
    trail_col = ball_col;
    int row = ball_row + (down ? 1 : -1);
    int col = ball_col + (right ? 1 : -1);
    if (col < 0 || col >= kSide) {
      col = std::clamp(col, 0, kSide - 1);
      right = !right;
    }

    Transition result;
    bool on_brick = false;
    if (row < 0) {
      row = 0;
      down = !down;
    } else if ((bricks & brick(row, col)) != 0) {
      on_brick = true;
      if (!struck) {
        bricks &= ~brick(row, col);
        row = trail_row;
        down = !down;
        result.reward = 1.0F;
      }
    } else if (row == kSide - 1) {
      if (bricks == 0) bricks = kWall;
      if (paddle_col == trail_col) {  // It came down on the paddle.
        row = trail_row;
        down = !down;
      } else if (paddle_col == col) {  // It came down on the corner beside its column.
        row = trail_row;
        down = !down;
        right = !right;
      } else {
        result.terminated = true;
      }
    }
    struck = on_brick;
    ball_row = static_cast<std::int8_t>(row);
    ball_col = static_cast<std::int8_t>(col);
    return result;
  }

  void observe(std::span<std::uint8_t, kObsSize> obs) const noexcept {
    Canvas<kNumChannels> canvas(obs);
    canvas.set(kPaddle, kSide - 1, paddle_col);
    canvas.set(kBall, ball_row, ball_col);
    canvas.set(kTrail, trail_row, trail_col);
    for (std::uint32_t left = bricks; left != 0; left &= left - 1) {
      canvas.set(kBrick, kFirstBrickRow, std::countr_zero(left));  // Rows follow each other.
    }
  }

 private:
  /// The bit of the brick that may be at (row, col), or no bit in a row without bricks.
  static constexpr std::uint32_t brick(int row, int col) noexcept {
    const int index = ((row - kFirstBrickRow) * kSide) + col;
    return index >= 0 && index < kNumBricks ? 1U << index : 0U;
  }
};

static_assert(Env<Breakout>);
static_assert(Env<MinimalActions<Breakout>>);

}  // namespace fastrl::envs::minatar
