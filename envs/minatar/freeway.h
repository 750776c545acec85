// MinAtar Freeway: cross eight lanes of traffic as often as 2501 steps allow.
//
// Reaching the top row pays 1, sends the chicken back and gives every lane a new speed. A car
// sends it back too. The chicken moves at most every third step. Difficulty does not ramp.
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

struct Freeway {
  static constexpr int kMaxInterval = 5;  // A lane's car moves every 1 to 5 steps.

  /// Channel kInterval1 + n - 1 holds the trail of cars that move every n steps.
  enum Channel : int { kChicken, kCar, kInterval1, kNumChannels = kInterval1 + kMaxInterval };

  using Options = MinAtarOptions;
  static constexpr int kNumActions = kNumAllActions;
  static constexpr std::array<int, 3> kMinimalActions{kNoop, kUp, kDown};
  static constexpr std::array<int, 3> kObsShape{kSide, kSide, kNumChannels};
  static constexpr std::size_t kObsSize = Canvas<kNumChannels>::kSize;
  static constexpr int kObsHigh = 1;

  static constexpr int kNumLanes = 8;
  static constexpr int kFirstLaneRow = 1;
  static constexpr int kChickenCol = 4;
  static constexpr std::int8_t kChickenStart = kSide - 1;
  static constexpr std::int8_t kChickenInterval = 3;
  static constexpr std::int16_t kTimeLimit = 2500;

  struct Car {
    std::int8_t col = 0;
    std::int8_t interval = 1;
    std::int8_t timer = 0;
    bool right = true;
  };

  MinAtarOptions options;
  StickyAction sticky;
  std::int8_t chicken_row = kChickenStart;
  std::int8_t chicken_timer = kChickenInterval;
  std::int16_t time_left = kTimeLimit;
  std::array<Car, kNumLanes> cars{};

  Freeway() = default;
  explicit Freeway(const MinAtarOptions& chosen) noexcept : options(chosen) {}

  template <RandomSource R>
  void reset(R& rng) noexcept {
    *this = Freeway(options);
    draw_speeds(rng);
  }

  /// The pool has checked that `action` is in [0, kNumActions).
  template <RandomSource R>
  [[nodiscard]] Transition step(int action, R& rng) noexcept {
    action = sticky(action, options.sticky_action_prob, rng);
    if (chicken_timer == 0 && (action == kUp || action == kDown)) {
      chicken_timer = kChickenInterval;
      if (action == kUp) --chicken_row;  // Reaching the top never lasts to the next step.
      if (action == kDown && chicken_row < kSide - 1) ++chicken_row;
    }

    Transition result;
    if (chicken_row == 0) {
      result.reward = 1.0F;
      draw_speeds(rng);
      chicken_row = kChickenStart;
    }
    for (int lane = 0; lane < kNumLanes; ++lane) {
      Car& car = cars[static_cast<std::size_t>(lane)];
      hit(lane, car);
      if (car.timer == 0) {
        car.timer = car.interval;
        drive(car);
        hit(lane, car);
      } else {
        --car.timer;
      }
    }
    if (chicken_timer > 0) --chicken_timer;
    --time_left;
    result.terminated = time_left < 0;
    return result;
  }

  void observe(std::span<std::uint8_t, kObsSize> obs) const noexcept {
    Canvas<kNumChannels> canvas(obs);
    canvas.set(kChicken, chicken_row, kChickenCol);
    for (int lane = 0; lane < kNumLanes; ++lane) {
      const Car& car = cars[static_cast<std::size_t>(lane)];
      Car behind = {.col = car.col, .right = !car.right};
      drive(behind);
      canvas.set(kCar, lane + kFirstLaneRow, car.col);
      canvas.set(kInterval1 + car.interval - 1, lane + kFirstLaneRow, behind.col);
    }
  }

 private:
  /// All intervals, then all directions. Cars stay where they are.
  template <RandomSource R>
  void draw_speeds(R& rng) noexcept {
    for (Car& car : cars) car.timer = car.interval = static_cast<std::int8_t>(1 + rng.below(5));
    for (Car& car : cars) car.right = !rng.chance(0.5);
  }

  /// One column on, around the edge.
  static void drive(Car& car) noexcept {
    if (car.right) {
      car.col = car.col == kSide - 1 ? std::int8_t{0} : static_cast<std::int8_t>(car.col + 1);
    } else {
      car.col = car.col == 0 ? std::int8_t{kSide - 1} : static_cast<std::int8_t>(car.col - 1);
    }
  }

  void hit(int lane, const Car& car) noexcept {
    if (car.col == kChickenCol && chicken_row == lane + kFirstLaneRow) chicken_row = kChickenStart;
  }
};

static_assert(Env<Freeway>);
static_assert(Env<MinimalActions<Freeway>>);

}  // namespace fastrl::envs::minatar
