// What stays outside the console's state: the bytes of a cartridge and how it wants to be plugged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fastrl::envs::atari {

/// Bank switching schemes, by their usual names.
enum class Scheme : std::uint8_t { k2K, k4K, kF8, kF8SC, kF6, kF6SC, kE0, kFE, kDPC };

/// The bytes that a scheme needs. An image may be longer (DPC); the rest is not used.
constexpr std::size_t size_of(Scheme scheme) noexcept {
  switch (scheme) {
    case Scheme::k2K:
      return 2048;
    case Scheme::k4K:
      return 4096;
    case Scheme::kF8:
    case Scheme::kF8SC:
    case Scheme::kE0:
    case Scheme::kFE:
      return 8192;
    case Scheme::kF6:
    case Scheme::kF6SC:
      return 16384;
    case Scheme::kDPC:
      return 8192 + 2048;
  }
  return 0;
}

/// Per-cartridge facts (console_spec.md 5.4). The defaults are those of an unknown image. The
/// window ends above line 299: Tia::kMaxHeight.
struct Properties {
  Scheme scheme = Scheme::k4K;
  int window_top = 34;      ///< First scan line of the picture.
  int window_height = 210;  ///< Scan lines of the picture; 210 becomes 250 if the format is PAL.
  bool hmove_blanks = true;
  bool left_paddles = false;
  bool right_paddles = false;
  bool swap_paddles = false;
  bool swap_ports = false;
  bool left_difficulty_a = false;  ///< Switch position at power-on.
  bool right_difficulty_a = false;
};

/// Addresses by what answers.
namespace address {
constexpr bool is_cart(int a) noexcept { return (a & 0x1000) != 0; }
constexpr bool is_tia(int a) noexcept { return (a & 0x1080) == 0; }
constexpr bool is_ram(int a) noexcept { return (a & 0x1280) == 0x0080; }
constexpr bool is_port(int a) noexcept { return (a & 0x1280) == 0x0280; }
}  // namespace address

class Code;
struct Translation;

struct Rom {
  std::span<const std::uint8_t> image;  ///< At least size_of(properties.scheme) bytes.
  Properties properties;
  const Code* code =
      nullptr;  ///< Of this image; without it every console is as slow as the plain one.
  const Translation* translation = nullptr;  ///< Of the code; without it an interpreter runs it.
  const std::uint8_t* greys = nullptr;  ///< Of all colours: the fast console may paint in them.
};

}  // namespace fastrl::envs::atari
