// MinAtar Seaquest: shoot fish and submarines, pick up divers, surface before the oxygen is gone.
//
// A fish or a submarine pays 1. Surfacing refills the oxygen and costs one diver, and ends the
// game when none is aboard; with six aboard it pays one point per twentieth of a full tank left
// over. Anything hostile that meets the player ends the game, and so does an empty tank. With
// difficulty ramping each surfacing brings enemies sooner, every second one also faster.
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

struct Seaquest {
  enum Channel : int {
    kSubFront,
    kSubBack,
    kFriendlyBullet,
    kTrail,
    kEnemyBullet,
    kEnemyFish,
    kEnemySub,
    kOxygenGauge,
    kDiverGauge,
    kDiver,
    kNumChannels
  };

  using Options = MinAtarOptions;
  static constexpr int kNumActions = kNumAllActions;
  static constexpr std::array<int, 6> kMinimalActions{kNoop, kLeft, kUp, kRight, kDown, kFire};
  static constexpr std::array<int, 3> kObsShape{kSide, kSide, kNumChannels};
  static constexpr std::size_t kObsSize = Canvas<kNumChannels>::kSize;
  static constexpr int kObsHigh = 1;

  static constexpr int kFirstLaneRow = 1;
  static constexpr int kNumLanes = 8;
  static constexpr int kDeepest = kFirstLaneRow + kNumLanes - 1;
  static constexpr int kGaugeRow = kSide - 1;
  static constexpr std::int16_t kFullTank = 200;
  static constexpr int kFullCrew = 6;
  static constexpr std::int8_t kReload = 5;
  static constexpr std::int8_t kEnemyReload = 10;
  static constexpr std::int8_t kDiverSpawnInterval = 30;
  static constexpr std::int8_t kDiverMoveInterval = 5;
  static constexpr std::int8_t kFastestMove = 2;

  struct Bullet {
    std::int8_t col = 0;
    std::int8_t row = 0;
    bool right = false;
  };

  struct Swimmer {  ///< A fish or a diver.
    std::int8_t col = 0;
    std::int8_t row = 0;
    bool right = false;
    std::int8_t move_timer = 0;
  };

  struct EnemySub : Swimmer {
    std::int8_t shot_timer = kEnemyReload;
  };

  // A bullet crosses the board in 9 steps and the next leaves after 5; a diver takes 60 steps and
  // the next comes after 30. Enemies are most when ramping has ended: one a step, 30 steps across,
  // so 30 at once and, as each sub shoots every 11 steps, fewer than 40 bullets.
  using Bullets = BoundedList<Bullet, 4>;
  using EnemyBullets = BoundedList<Bullet, 48>;
  using Divers = BoundedList<Swimmer, 4>;
  using Fish = BoundedList<Swimmer, 32>;
  using EnemySubs = BoundedList<EnemySub, 32>;

  MinAtarOptions options;
  StickyAction sticky;
  bool facing_right = false;
  bool surfaced = true;  ///< At the top since it last surfaced (or since the start).
  std::int8_t sub_row = 0;
  std::int8_t sub_col = 5;
  std::int8_t shot_timer = 0;
  std::int8_t spawn_interval = 20;
  std::int8_t spawn_timer = 20;
  std::int8_t diver_spawn_timer = kDiverSpawnInterval;
  std::int8_t move_interval = 5;
  std::int8_t num_ramps = 0;
  std::int16_t oxygen = kFullTank;
  std::int32_t num_divers = 0;  ///< Below zero after a full crew has been landed: see README.md.
  Bullets friendly_bullets;
  EnemyBullets enemy_bullets;
  Divers divers;
  Fish fish;
  EnemySubs enemy_subs;

  Seaquest() = default;
  explicit Seaquest(const MinAtarOptions& chosen) noexcept : options(chosen) {}

  template <RandomSource R>
  void reset(R& /*rng*/) noexcept {
    *this = Seaquest(options);
  }

  /// The pool has checked that `action` is in [0, kNumActions).
  ///
  /// Within a list the last to come is served first; of several targets the first to come is hit.
  template <RandomSource R>
  [[nodiscard]] Transition step(int action, R& rng) noexcept {
    action = sticky(action, options.sticky_action_prob, rng);
    spawn(rng);
    act(action);

    Transition result;
    move_friendly_bullets(result);
    move_divers();
    move_enemy_subs(result);
    move_enemy_bullets(result);
    move_fish(result);

    --spawn_timer;
    --diver_spawn_timer;
    if (shot_timer > 0) --shot_timer;
    if (oxygen <= 0) result.terminated = true;
    if (sub_row > 0) {
      --oxygen;
      surfaced = false;
    } else if (!surfaced) {
      surface(result);
    }
    return result;
  }

  void observe(std::span<std::uint8_t, kObsSize> obs) const noexcept {
    Canvas<kNumChannels> canvas(obs);
    canvas.set(kSubFront, sub_row, sub_col);
    // On the board, because the move that reached an edge has turned the sub to face it.
    canvas.set(kSubBack, sub_row, facing_right ? sub_col - 1 : sub_col + 1);
    for (int col = 0; col < oxygen * kSide / kFullTank; ++col) {
      canvas.set(kOxygenGauge, kGaugeRow, col);
    }
    for (int i = 0; i < num_divers; ++i) canvas.set(kDiverGauge, kGaugeRow, kSide - 2 - i);
    for (const Bullet& b : friendly_bullets) canvas.set(kFriendlyBullet, b.row, b.col);
    for (const Bullet& b : enemy_bullets) canvas.set(kEnemyBullet, b.row, b.col);
    for (const Swimmer& s : fish) draw(canvas, kEnemyFish, s);
    for (const Swimmer& s : enemy_subs) draw(canvas, kEnemySub, s);
    for (const Swimmer& s : divers) draw(canvas, kDiver, s);
  }

 private:
  static void draw(Canvas<kNumChannels>& canvas, int channel, const Swimmer& swimmer) noexcept {
    canvas.set(channel, swimmer.row, swimmer.col);
    const int behind = swimmer.right ? swimmer.col - 1 : swimmer.col + 1;
    if (behind >= 0 && behind < kSide) canvas.set(kTrail, swimmer.row, behind);
  }

  /// One column on. False if that leaves the board.
  template <typename T>
  static bool advance(T& thing) noexcept {
    thing.right ? ++thing.col : --thing.col;
    return thing.col >= 0 && thing.col < kSide;
  }

  template <typename T>
  [[nodiscard]] bool on_player(const T& thing) const noexcept {
    return thing.row == sub_row && thing.col == sub_col;
  }

  /// Removes the first of `targets` in the cell of `thing`. False if there is none.
  template <typename List, typename T>
  static bool remove_hit(List& targets, const T& thing) noexcept {
    for (int i = 0; i < targets.count; ++i) {
      if (targets[i].row != thing.row || targets[i].col != thing.col) continue;
      targets.erase(i);
      return true;
    }
    return false;
  }

  template <RandomSource R>
  void spawn(R& rng) noexcept {
    if (spawn_timer == 0) {
      spawn_enemy(rng);
      spawn_timer = spawn_interval;
    }
    if (diver_spawn_timer == 0) {
      divers.push(draw_swimmer(rng.chance(0.5), kDiverMoveInterval, rng));
      diver_spawn_timer = kDiverSpawnInterval;
    }
  }

  /// Side, kind, lane. Nothing comes into a lane where an enemy swims the other way.
  template <RandomSource R>
  void spawn_enemy(R& rng) noexcept {
    const bool right = rng.chance(0.5);
    const bool is_sub = rng.chance(1.0 / 3.0);
    const Swimmer enemy = draw_swimmer(right, move_interval, rng);
    const auto opposes = [&](const Swimmer& other) {
      return other.row == enemy.row && other.right != right;
    };
    for (const Swimmer& other : fish) {
      if (opposes(other)) return;
    }
    for (const Swimmer& other : enemy_subs) {
      if (opposes(other)) return;
    }
    if (is_sub) {
      enemy_subs.push({enemy, kEnemyReload});
    } else {
      fish.push(enemy);
    }
  }

  template <RandomSource R>
  static Swimmer draw_swimmer(bool right, std::int8_t interval, R& rng) noexcept {
    return {.col = static_cast<std::int8_t>(right ? 0 : kSide - 1),
            .row = static_cast<std::int8_t>(kFirstLaneRow + rng.below(kNumLanes)),
            .right = right,
            .move_timer = interval};
  }

  void act(int action) noexcept {
    switch (action) {
      case kLeft:
        if (sub_col > 0) --sub_col;
        facing_right = false;
        break;
      case kRight:
        if (sub_col < kSide - 1) ++sub_col;
        facing_right = true;
        break;
      case kUp:
        if (sub_row > 0) --sub_row;
        break;
      case kDown:
        if (sub_row < kDeepest) ++sub_row;
        break;
      case kFire:
        if (shot_timer > 0) break;
        friendly_bullets.push({.col = sub_col, .row = sub_row, .right = facing_right});
        shot_timer = kReload;
        break;
      default:
        break;
    }
  }

  void move_friendly_bullets(Transition& result) noexcept {
    for (int i = friendly_bullets.count - 1; i >= 0; --i) {
      Bullet& bullet = friendly_bullets[i];
      if (!advance(bullet)) {
        friendly_bullets.erase(i);
      } else if (remove_hit(fish, bullet) || remove_hit(enemy_subs, bullet)) {
        friendly_bullets.erase(i);
        result.reward += 1.0F;
      }
    }
  }

  void move_divers() noexcept {
    for (int i = divers.count - 1; i >= 0; --i) {
      Swimmer& diver = divers[i];
      if (pick_up(i)) continue;
      if (diver.move_timer == 0) {
        diver.move_timer = kDiverMoveInterval;
        if (!advance(diver)) {
          divers.erase(i);
        } else {
          pick_up(i);
        }
      } else {
        --diver.move_timer;
      }
    }
  }

  bool pick_up(int i) noexcept {
    if (!on_player(divers[i]) || num_divers >= kFullCrew) return false;
    divers.erase(i);
    ++num_divers;
    return true;
  }

  void move_enemy_subs(Transition& result) noexcept {
    for (int i = enemy_subs.count - 1; i >= 0; --i) {
      EnemySub sub = enemy_subs[i];
      const bool gone = move_enemy(sub, result);
      // A sub shoots even in the step in which it is hit. From beyond the edge the shot is lost.
      if (sub.shot_timer == 0) {
        sub.shot_timer = kEnemyReload;
        enemy_bullets.push({.col = sub.col, .row = sub.row, .right = sub.right});
      } else {
        --sub.shot_timer;
      }
      if (gone) {
        enemy_subs.erase(i);
      } else {
        enemy_subs[i] = sub;
      }
    }
  }

  void move_enemy_bullets(Transition& result) noexcept {
    for (int i = enemy_bullets.count - 1; i >= 0; --i) {
      Bullet& bullet = enemy_bullets[i];
      if (on_player(bullet)) result.terminated = true;
      if (!advance(bullet)) {
        enemy_bullets.erase(i);
      } else if (on_player(bullet)) {
        result.terminated = true;
      }
    }
  }

  void move_fish(Transition& result) noexcept {
    for (int i = fish.count - 1; i >= 0; --i) {
      if (move_enemy(fish[i], result)) fish.erase(i);
    }
  }

  /// True if the enemy is gone: it left the board or swam into a bullet.
  bool move_enemy(Swimmer& enemy, Transition& result) noexcept {
    if (on_player(enemy)) result.terminated = true;
    if (enemy.move_timer > 0) {
      --enemy.move_timer;
      return false;
    }
    enemy.move_timer = move_interval;
    if (!advance(enemy)) return true;
    if (on_player(enemy)) {
      result.terminated = true;
      return false;
    }
    if (!remove_hit(friendly_bullets, enemy)) return false;
    result.reward += 1.0F;
    return true;
  }

  void surface(Transition& result) noexcept {
    if (num_divers == 0) {
      result.terminated = true;
      return;
    }
    surfaced = true;
    if (num_divers == kFullCrew) {
      num_divers = 0;
      result.reward += static_cast<float>(oxygen * kSide / kFullTank);
    }
    --num_divers;
    oxygen = kFullTank;
    if (options.difficulty_ramping) ramp();
  }

  void ramp() noexcept {
    if (spawn_interval == 1 && move_interval == kFastestMove) return;
    if (spawn_interval > 1) --spawn_interval;
    if (num_ramps % 2 == 1 && move_interval > kFastestMove) --move_interval;
    ++num_ramps;
  }
};

static_assert(Env<Seaquest>);
static_assert(Env<MinimalActions<Seaquest>>);

}  // namespace fastrl::envs::minatar
