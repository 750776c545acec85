// The 6532 RIOT: 128 bytes of RAM, two ports, a timer.
//
// Document: console_spec.md 3. A read of the timer happens at the end of the reading instruction.
#pragma once

#include <array>
#include <cstdint>

#include "envs/atari/mt19937.h"

namespace fastrl::envs::atari {

struct Riot {
  /// By bits 0 and 1 of the address that the timer is written to.
  static constexpr std::array<std::uint8_t, 4> kShifts{0, 3, 6, 10};

  std::array<std::uint8_t, 128> ram{};
  std::uint8_t swacnt = 0;
  std::uint8_t timer = 0;        ///< The value last written.
  std::uint8_t shift = 6;        ///< The timer counts down every 2^shift cycles.
  std::uint32_t written_at = 0;  ///< Cycle of that write.
  std::uint32_t expired_at = 0;  ///< Cycle of the first read after it ran out.
  bool expired_read = false;

  friend bool operator==(const Riot&, const Riot&) = default;

  void power_up(Mt19937& random) noexcept {
    for (std::uint8_t& byte : ram) byte = static_cast<std::uint8_t>(random.next());
    reset(random);
  }

  /// RAM keeps its content.
  void reset(Mt19937& random) noexcept {
    timer = static_cast<std::uint8_t>(25 + (random.next() % 75));
    shift = 6;
    written_at = 0;
    expired_at = 0;
    expired_read = false;
    swacnt = 0;
  }

  void rebase(std::uint32_t cycles) noexcept {
    written_at -= cycles;
    expired_at -= cycles;
  }

  [[nodiscard]] std::uint8_t read(int address, std::uint32_t cycle, std::uint8_t swcha,
                                  std::uint8_t swchb) noexcept {
    switch (address & 7) {
      case 0:
        return swcha;
      case 1:
        return swacnt;
      case 2:
        return swchb;
      case 3:
        return 0;
      case 4:
      case 6:
        return read_intim(cycle);
      default:
        return remaining(cycle) >= 0 || expired_read ? 0x00 : 0x80;  // INSTAT
    }
  }

  /// Cycles from this one on in which INTIM, counting down, reads as `most` to `least`.
  [[nodiscard]] std::uint32_t stays(int least, int most, std::uint32_t cycle) const noexcept {
    const std::int32_t left = remaining(cycle);
    if (left < least || left > most) return 0;
    return (static_cast<std::uint32_t>(timer - least) << shift) - elapsed(cycle);
  }

  static constexpr bool sets_timer(int address) noexcept {
    return (address & 7) > 3 && (address & 0x10) != 0;
  }

  void write(int address, std::uint8_t value, std::uint32_t cycle) noexcept {
    if ((address & 7) == 1) {
      swacnt = value;
    } else if (sets_timer(address)) {
      timer = value;
      shift = kShifts[static_cast<std::size_t>(address & 3)];
      written_at = cycle;
      expired_read = false;
    }
  }

 private:
  [[nodiscard]] std::uint32_t elapsed(std::uint32_t cycle) const noexcept {
    return cycle - 1 - written_at;
  }

  [[nodiscard]] std::int32_t remaining(std::uint32_t cycle) const noexcept {
    return static_cast<std::int32_t>(timer - (elapsed(cycle) >> shift) - 1);
  }

  std::uint8_t read_intim(std::uint32_t cycle) noexcept {
    const std::int32_t left = remaining(cycle);
    if (left >= 0) return static_cast<std::uint8_t>(left);
    const std::uint32_t full = std::uint32_t{timer} << shift;
    const std::uint32_t past_zero = full - elapsed(cycle) - 1;
    if (static_cast<std::int32_t>(past_zero) <= -2 && !expired_read) {
      expired_read = true;
      expired_at = cycle;
    }
    if (!expired_read) return static_cast<std::uint8_t>(past_zero);
    const std::uint32_t late = expired_at - (written_at + full);
    return static_cast<std::uint8_t>(timer - (elapsed(cycle) >> shift) - late);
  }
};

}  // namespace fastrl::envs::atari
