// MinAtar Space Invaders: shoot the marching aliens before they shoot you or come down.
//
// An alien pays 1. The game ends when a bullet or an alien meets the cannon, or when the aliens
// must step down from the bottom row. A cleared board brings the next wave; with difficulty
// ramping it marches faster.
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

struct SpaceInvaders {
  enum Channel : int {
    kCannon,
    kAlien,
    kAlienLeft,
    kAlienRight,
    kFriendlyBullet,
    kEnemyBullet,
    kNumChannels
  };

  using Options = MinAtarOptions;
  static constexpr int kNumActions = kNumAllActions;
  static constexpr std::array<int, 4> kMinimalActions{kNoop, kLeft, kRight, kFire};
  static constexpr std::array<int, 3> kObsShape{kSide, kSide, kNumChannels};
  static constexpr std::size_t kObsSize = Canvas<kNumChannels>::kSize;
  static constexpr int kObsHigh = 1;

  static constexpr int kBottom = kSide - 1;
  static constexpr std::int8_t kSlowestMarch = 12;  // Steps between two moves of the aliens.
  static constexpr std::int8_t kFastestMarch = 6;   // What ramping ends at.
  static constexpr std::int8_t kEnemyReload = 10;
  static constexpr std::int8_t kReload = 5;

  /// One bit per column, column 0 lowest; rows from the top.
  using Rows = std::array<std::uint16_t, kSide>;
  static constexpr std::uint16_t kLeftEdge = 1U << 0U;
  static constexpr std::uint16_t kRightEdge = 1U << (kSide - 1U);
  static constexpr std::uint16_t kWaveColumns = 0b0011111100;
  static constexpr Rows kWave{kWaveColumns, kWaveColumns, kWaveColumns, kWaveColumns};

  MinAtarOptions options;
  StickyAction sticky;
  bool aliens_right = false;
  std::int8_t cannon_col = 5;
  std::int8_t march_interval = kSlowestMarch;
  std::int8_t march_timer = kSlowestMarch;
  std::int8_t enemy_shot_timer = kEnemyReload;
  std::int8_t shot_timer = 0;
  std::int8_t num_ramps = 0;
  Rows aliens = kWave;
  Rows friendly_bullets{};
  Rows enemy_bullets{};

  SpaceInvaders() = default;
  explicit SpaceInvaders(const MinAtarOptions& chosen) noexcept : options(chosen) {}

  template <RandomSource R>
  void reset(R& /*rng*/) noexcept {
    *this = SpaceInvaders(options);
  }

  /// The pool has checked that `action` is in [0, kNumActions).
  template <RandomSource R>
  [[nodiscard]] Transition step(int action, R& rng) noexcept {
    act(sticky(action, options.sticky_action_prob, rng));

    // Bullets that leave the board are gone.
    std::shift_left(friendly_bullets.begin(), friendly_bullets.end(), 1);
    friendly_bullets.back() = 0;
    std::shift_right(enemy_bullets.begin(), enemy_bullets.end(), 1);
    enemy_bullets.front() = 0;

    Transition result;
    result.terminated = on_cannon(enemy_bullets) || on_cannon(aliens);
    if (march_timer == 0) {
      march_timer = static_cast<std::int8_t>(std::min<int>(count(aliens), march_interval));
      if (march()) result.terminated = true;
      if (on_cannon(aliens)) result.terminated = true;
    }
    if (enemy_shot_timer == 0) {
      enemy_shot_timer = kEnemyReload;
      shoot_from_nearest();
    }
    result.reward = static_cast<float>(kill());
    if (shot_timer > 0) --shot_timer;
    --march_timer;
    --enemy_shot_timer;
    if (columns(aliens) == 0) next_wave();
    return result;
  }

  void observe(std::span<std::uint8_t, kObsSize> obs) const noexcept {
    Canvas<kNumChannels> canvas(obs);
    canvas.set(kCannon, kBottom, cannon_col);
    const int direction = aliens_right ? kAlienRight : kAlienLeft;
    for (int row = 0; row < kSide; ++row) {
      const auto r = static_cast<std::size_t>(row);
      for_each_column(aliens[r], [&](int col) {
        canvas.set(kAlien, row, col);
        canvas.set(direction, row, col);
      });
      for_each_column(friendly_bullets[r], [&](int col) { canvas.set(kFriendlyBullet, row, col); });
      for_each_column(enemy_bullets[r], [&](int col) { canvas.set(kEnemyBullet, row, col); });
    }
  }

 private:
  template <typename Visit>
  static void for_each_column(unsigned bits, Visit visit) noexcept {
    for (; bits != 0; bits &= bits - 1) visit(std::countr_zero(bits));
  }

  static constexpr std::uint16_t bit(int col) noexcept {
    return static_cast<std::uint16_t>(1U << static_cast<unsigned>(col));
  }

  static int count(const Rows& rows) noexcept {
    int total = 0;
    for (const std::uint16_t row : rows) total += std::popcount(row);
    return total;
  }

  static std::uint16_t columns(const Rows& rows) noexcept {
    std::uint16_t all = 0;
    for (const std::uint16_t row : rows) all |= row;
    return all;
  }

  [[nodiscard]] bool on_cannon(const Rows& rows) const noexcept {
    return (rows[kBottom] & bit(cannon_col)) != 0;
  }

  void act(int action) noexcept {
    if (action == kLeft && cannon_col > 0) --cannon_col;
    if (action == kRight && cannon_col < kSide - 1) ++cannon_col;
    if (action == kFire && shot_timer == 0) {
      friendly_bullets[kBottom] |= bit(cannon_col);
      shot_timer = kReload;
    }
  }

  /// One column on, or at the edge one row down and about. True if a row had to leave the board;
  /// it comes back in at the top, where only the last observation of the game shows it.
  bool march() noexcept {
    if ((columns(aliens) & (aliens_right ? kRightEdge : kLeftEdge)) == 0) {
      for (std::uint16_t& row : aliens) {
        row = static_cast<std::uint16_t>(aliens_right ? row << 1U : row >> 1U);
      }
      return false;
    }
    aliens_right = !aliens_right;
    std::rotate(aliens.begin(), aliens.end() - 1, aliens.end());
    return aliens.front() != 0;
  }

  /// The lowest alien of the column nearest to the cannon shoots; of two such columns, the left.
  void shoot_from_nearest() noexcept {
    const unsigned occupied = columns(aliens);
    for (int distance = 0; distance < kSide; ++distance) {
      for (const int col : {cannon_col - distance, cannon_col + distance}) {
        if (col < 0 || col >= kSide || (occupied & bit(col)) == 0) continue;
        std::size_t row = kBottom;
        while ((aliens[row] & bit(col)) == 0) --row;
        enemy_bullets[row] |= bit(col);
        return;
      }
    }
  }

  /// Removes each alien together with the bullet that met it; returns how many.
  int kill() noexcept {
    int num_killed = 0;
    for (std::size_t row = 0; row < kSide; ++row) {
      const auto met = static_cast<std::uint16_t>(aliens[row] & friendly_bullets[row]);
      if (met == 0) continue;
      num_killed += std::popcount(met);
      aliens[row] ^= met;
      friendly_bullets[row] ^= met;
    }
    return num_killed;
  }

  void next_wave() noexcept {
    if (options.difficulty_ramping && march_interval > kFastestMarch) {
      --march_interval;
      ++num_ramps;
    }
    aliens = kWave;
  }
};

static_assert(Env<SpaceInvaders>);
static_assert(Env<MinimalActions<SpaceInvaders>>);

}  // namespace fastrl::envs::minatar
