// What is plugged into the two ports and the switches on the console, as the chips see them.
//
// Document: console_spec.md 6.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <utility>

#include "envs/atari/rom.h"

namespace fastrl::envs::atari {

struct Joystick {
  bool up = false;
  bool down = false;
  bool left = false;
  bool right = false;
  bool fire = false;
};

struct Paddle {
  std::int32_t resistance = 0;
  bool fire = false;
};

enum class Difficulty : std::uint8_t { kUntouched, kA, kB };

/// Everything a person can do to the console. Player A is the left object, B the right one.
struct Input {
  std::array<Joystick, 2> joysticks{};
  std::array<Paddle, 2> paddles{};
  std::array<Difficulty, 2> difficulty{};  ///< Left, right.
  bool select = false;
  bool reset = false;
};

/// The nine pins of a port that matter. Digital pins: true is high, i.e. not pressed.
struct Port {
  static constexpr std::int32_t kOpen = std::numeric_limits<std::int32_t>::max();

  bool pin1 = true;
  bool pin2 = true;
  bool pin3 = true;
  bool pin4 = true;
  bool pin6 = true;
  std::int32_t pin5 = kOpen;  ///< A resistance.
  std::int32_t pin9 = kOpen;

  friend bool operator==(const Port&, const Port&) = default;
  /// The port's half of SWCHA.
  [[nodiscard]] constexpr std::uint8_t nibble() const noexcept {
    return static_cast<std::uint8_t>((pin4 << 3) | (pin3 << 2) | (pin2 << 1) | int{pin1});
  }
};

struct Ports {
  Port left;
  Port right;

  /// Whether it matters when a capacitor was dumped.
  [[nodiscard]] constexpr bool have_paddles() const noexcept {
    const auto turns = [](std::int32_t pin) { return pin != Port::kOpen && pin != 0; };
    return turns(left.pin5) || turns(left.pin9) || turns(right.pin5) || turns(right.pin9);
  }

  friend bool operator==(const Ports&, const Ports&) = default;
  [[nodiscard]] constexpr std::uint8_t swcha() const noexcept {
    return static_cast<std::uint8_t>((left.nibble() << 4) | right.nibble());
  }
};

namespace controllers {

constexpr Port joystick(const Joystick& stick) noexcept {
  return {.pin1 = !stick.up,
          .pin2 = !stick.down,
          .pin3 = !stick.left,
          .pin4 = !stick.right,
          .pin6 = !stick.fire};
}

constexpr Port paddle_pair(Paddle first, Paddle second, bool swapped) noexcept {
  if (swapped) std::swap(first, second);
  return {.pin3 = !second.fire,
          .pin4 = !first.fire,
          .pin5 = second.resistance,
          .pin9 = first.resistance};
}

}  // namespace controllers

constexpr Ports plug(const Properties& properties, const Input& input) noexcept {
  using namespace controllers;
  const bool swapped = properties.swap_paddles;
  Ports ports{.left = properties.left_paddles
                          ? paddle_pair(input.paddles[0], input.paddles[1], swapped)
                          : joystick(input.joysticks[0]),
              // Paddles 2 and 3 are there, but nobody turns them.
              .right = properties.right_paddles ? paddle_pair({}, {}, swapped)
                                                : joystick(input.joysticks[1])};
  if (properties.swap_ports) std::swap(ports.left, ports.right);
  return ports;
}

/// SWCHB. The difficulty switches stay where they are until somebody sets them.
struct Switches {
  std::uint8_t swchb = 0xFF;

  friend bool operator==(const Switches&, const Switches&) = default;
  static constexpr Switches at_power_on(const Properties& properties) noexcept {
    const int left = properties.left_difficulty_a ? 0x40 : 0;
    const int right = properties.right_difficulty_a ? 0x80 : 0;
    return {static_cast<std::uint8_t>(0x3F | left | right)};
  }

  constexpr void apply(const Input& input) noexcept {
    set(0x40, input.difficulty[0]);
    set(0x80, input.difficulty[1]);
    swchb =
        static_cast<std::uint8_t>((swchb & 0xFC) | (input.select ? 0 : 2) | (input.reset ? 0 : 1));
  }

 private:
  constexpr void set(int mask, Difficulty position) noexcept {
    if (position == Difficulty::kA) swchb = static_cast<std::uint8_t>(swchb | mask);
    if (position == Difficulty::kB) swchb = static_cast<std::uint8_t>(swchb & ~mask);
  }
};

}  // namespace fastrl::envs::atari
