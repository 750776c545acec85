// MinAtar Asterix: walk among eight lanes, collect the gold, keep off the enemies.
//
// Each lane holds at most one thing, which crosses the board from either side. Gold pays 1; an
// enemy ends the game. With difficulty ramping things appear sooner and move faster every
// hundred-odd steps.
//
// Rules:  Young and Tian 2019, arXiv:1903.03176, and the minatar package seen from outside
//         (README.md).
// Oracle: tests/oracle/test_minatar.py, in lockstep with minatar 1.0.15 on the package's draws.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "csrc/core/env.h"
#include "csrc/core/rng.h"
#include "envs/minatar/board.h"
#include "envs/minatar/minimal_actions.h"
#include "envs/minatar/options.h"

namespace fastrl::envs::minatar {

struct Asterix {
  enum Channel : int { kPlayer, kEnemy, kTrail, kGold, kNumChannels };

  using Options = MinAtarOptions;
  static constexpr int kNumActions = kNumAllActions;
  static constexpr std::array<int, 5> kMinimalActions{kNoop, kLeft, kUp, kRight, kDown};
  static constexpr std::array<int, 3> kObsShape{kSide, kSide, kNumChannels};
  static constexpr std::size_t kObsSize = Canvas<kNumChannels>::kSize;
  static constexpr int kObsHigh = 1;

  static constexpr int kNumLanes = 8;
  static constexpr int kFirstLaneRow = 1;
  static constexpr int kRampInterval = 100;

  struct Mover {
    bool present = false;
    bool right = false;
    bool gold = false;
    std::int8_t col = 0;
  };

  MinAtarOptions options;
  StickyAction sticky;
  std::int8_t player_row = 5;
  std::int8_t player_col = 5;
  std::int8_t spawn_interval = 10;
  std::int8_t spawn_timer = 10;
  std::int8_t move_interval = 5;
  std::int8_t move_timer = 5;
  std::int8_t ramp_timer = kRampInterval;
  std::int8_t num_ramps = 0;
  std::array<Mover, kNumLanes> lanes{};

  Asterix() = default;
  explicit Asterix(const MinAtarOptions& chosen) noexcept : options(chosen) {}

  template <RandomSource R>
  void reset(R& /*rng*/) noexcept {
    *this = Asterix(options);
  }

  /// The pool has checked that `action` is in [0, kNumActions).
  template <RandomSource R>
  [[nodiscard]] Transition step(int action, R& rng) noexcept {
    action = sticky(action, options.sticky_action_prob, rng);
    if (spawn_timer == 0) {
      spawn(rng);
      spawn_timer = spawn_interval;
    }
    move_player(action);

    Transition result;
    touch(result);
    if (move_timer == 0) {
      move_timer = move_interval;
      for (Mover& mover : lanes) {
        if (!mover.present) continue;
        mover.right ? ++mover.col : --mover.col;
        mover.present = mover.col >= 0 && mover.col < kSide;
      }
      touch(result);
    }
    --spawn_timer;
    --move_timer;
    if (options.difficulty_ramping) ramp();
    return result;
  }

  void observe(std::span<std::uint8_t, kObsSize> obs) const noexcept {
    Canvas<kNumChannels> canvas(obs);
    canvas.set(kPlayer, player_row, player_col);
    for (int lane = 0; lane < kNumLanes; ++lane) {
      const Mover& mover = lanes[static_cast<std::size_t>(lane)];
      if (!mover.present) continue;
      canvas.set(mover.gold ? kGold : kEnemy, lane + kFirstLaneRow, mover.col);
      const int behind = mover.right ? mover.col - 1 : mover.col + 1;
      if (behind >= 0 && behind < kSide) canvas.set(kTrail, lane + kFirstLaneRow, behind);
    }
  }

 private:
  /// Side, then kind, then one of the free lanes. With no lane free the first two are still drawn.
  template <RandomSource R>
  void spawn(R& rng) noexcept {
    const bool right = rng.chance(0.5);
    const bool gold = rng.chance(1.0 / 3.0);
    int num_free = 0;
    for (const Mover& mover : lanes) num_free += mover.present ? 0 : 1;
    if (num_free == 0) return;
    int skip = rng.below(num_free);
    for (Mover& mover : lanes) {
      if (mover.present || skip-- > 0) continue;
      mover = {.present = true,
               .right = right,
               .gold = gold,
               .col = static_cast<std::int8_t>(right ? 0 : kSide - 1)};
      return;
    }
  }

  void move_player(int action) noexcept {
    if (action == kLeft && player_col > 0) --player_col;
    if (action == kRight && player_col < kSide - 1) ++player_col;
    if (action == kUp && player_row > kFirstLaneRow) --player_row;
    if (action == kDown && player_row < kFirstLaneRow + kNumLanes - 1) ++player_row;
  }

  /// The player meets what shares its cell. Only its own lane can.
  void touch(Transition& result) noexcept {
    Mover& mover = lanes[static_cast<std::size_t>(player_row - kFirstLaneRow)];
    if (!mover.present || mover.col != player_col) return;
    if (mover.gold) {
      mover.present = false;
      result.reward += 1.0F;
    } else {
      result.terminated = true;
    }
  }

  void ramp() noexcept {
    if (spawn_interval == 1 && move_interval == 1) return;
    if (ramp_timer >= 0) {
      --ramp_timer;
      return;
    }
    if (num_ramps % 2 == 1 && move_interval > 1) --move_interval;
    if (spawn_interval > 1) --spawn_interval;
    ++num_ramps;
    ramp_timer = kRampInterval;
  }
};

static_assert(Env<Asterix>);
static_assert(Env<MinimalActions<Asterix>>);

}  // namespace fastrl::envs::minatar
