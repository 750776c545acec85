// The words in which games.json says what a game pays, when it ends and how a mode is chosen.
// `make_games.py` turns every expression there into C++ that uses them.
//
// Document: the notation in README.md.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "envs/atari/rom.h"

namespace fastrl::envs::atari {

/// A 32-bit integer that wraps around. Truth values are 0 and 1.
struct Int {
  std::int32_t value = 0;

  constexpr Int() = default;
  constexpr Int(bool b) : value(b ? 1 : 0) {}  // NOLINT: the notation mixes them freely.
  constexpr Int(std::int32_t i) : value(i) {}  // NOLINT
  constexpr explicit operator bool() const { return value != 0; }

  static constexpr Int wrap(std::uint32_t bits) { return static_cast<std::int32_t>(bits); }
  [[nodiscard]] constexpr std::uint32_t bits() const { return static_cast<std::uint32_t>(value); }

  friend constexpr Int operator+(Int a, Int b) { return wrap(a.bits() + b.bits()); }
  friend constexpr Int operator-(Int a, Int b) { return wrap(a.bits() - b.bits()); }
  friend constexpr Int operator*(Int a, Int b) { return wrap(a.bits() * b.bits()); }
  friend constexpr Int operator/(Int a, Int b) { return a.value / b.value; }
  friend constexpr Int operator%(Int a, Int b) { return a.value % b.value; }
  friend constexpr Int operator&(Int a, Int b) { return a.value & b.value; }
  friend constexpr Int operator|(Int a, Int b) { return a.value | b.value; }
  friend constexpr Int operator>>(Int a, Int b) { return a.value >> b.value; }
  friend constexpr Int operator-(Int a) { return Int{0} - a; }
  friend constexpr Int operator==(Int a, Int b) { return a.value == b.value; }
  friend constexpr Int operator!=(Int a, Int b) { return a.value != b.value; }
  friend constexpr Int operator<(Int a, Int b) { return a.value < b.value; }
  friend constexpr Int operator<=(Int a, Int b) { return a.value <= b.value; }
  friend constexpr Int operator>(Int a, Int b) { return a.value > b.value; }
  friend constexpr Int operator>=(Int a, Int b) { return a.value >= b.value; }
};

namespace rules {

constexpr Int sel(Int condition, Int yes, Int no) { return condition ? yes : no; }
constexpr Int min(Int a, Int b) { return a < b ? a : b; }
constexpr Int max(Int a, Int b) { return a > b ? a : b; }
constexpr Int s8(Int v) { return std::int32_t{static_cast<std::int8_t>(v.value)}; }
constexpr Int u8(Int v) { return v & 0xFF; }
constexpr Int blank(Int digit) { return sel(digit == 10, 0, digit); }
constexpr Int wrapneg(Int v, Int w) { return sel(v < 0, v + w, v); }
constexpr Int popcount(Int v) { return std::popcount(v.bits()); }

/// The number whose decimal digits these are, the first one the highest.
template <typename... Digit>
constexpr Int dec(Digit... digits) {
  Int number;
  ((number = number * 10 + digits), ...);
  return number;
}

/// The number in these bytes of two decimal digits each, the first one the highest.
template <typename... Byte>
constexpr Int bcd(Byte... bytes) {
  Int number;
  ((number = number * 100 + (bytes >> 4) * 10 + (bytes & 15)), ...);
  return number;
}

template <typename F>
constexpr Int sum(Int first, Int last, F term) {
  Int total;
  for (Int i = first; i <= last; i = i + 1) total = total + term(i);
  return total;
}

template <typename F>
constexpr Int count(Int first, Int last, F predicate) {
  return sum(first, last, [&predicate](Int i) { return predicate(i) != 0; });
}

template <typename F>
constexpr Int all(Int first, Int last, F predicate) {
  return count(first, last, predicate) == last - first + 1;
}

}  // namespace rules

/// The variables of a game's rules that live across frames; games.json names them.
using RuleState = std::array<std::int32_t, 8>;

struct Outcome {
  std::int32_t reward = 0;
  bool terminal = false;
  std::int32_t lives = 0;
};

struct StartAction {
  std::uint8_t action = 0;
  std::uint16_t frames = 0;
};

/// What games.json says about a game, besides its rules.
struct GameFacts {
  std::string_view name;
  std::string_view md5;  ///< Of the image that `properties` are for.
  Properties properties;
  bool paddles = false;
  std::int32_t paddle_max = 790196;
  std::uint32_t minimal_actions = 0;  ///< Bit a: action a is in the set.
  std::uint32_t legal_actions = 0;
  std::array<StartAction, 3> start_actions{};
  std::span<const std::int16_t> modes;  ///< The first is the default.
  std::span<const std::int16_t> difficulties;
  RuleState on_reset{};
  std::uint8_t touched_by_reset = 0;  ///< Bit v: a reset gives variable v its value.
};

}  // namespace fastrl::envs::atari
