// Cartridges: which byte of the image the processor sees at an address.
//
// Document: console_spec.md 5.2 (bank switching), 5.3 (the DPC chip of Pitfall II).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "envs/atari/mt19937.h"
#include "envs/atari/rom.h"

namespace fastrl::envs::atari {

/// The chip in Pitfall II: eight data fetchers, three of which can make music, and random numbers.
struct Dpc {
  std::array<std::uint8_t, 8> top{};
  std::array<std::uint8_t, 8> bottom{};
  std::array<std::uint8_t, 8> flag{};
  std::array<std::uint16_t, 8> counter{};  ///< 11 bits
  std::array<bool, 3> music{};             ///< Of fetchers 5, 6, 7.
  std::uint8_t random = 1;
  std::uint32_t music_cycle = 0;  ///< When the music was last brought up to date.
  double music_fraction = 0.0;    ///< Ticks of the music clock left over then.

  friend bool operator==(const Dpc&, const Dpc&) = default;

  void clock_random() noexcept {
    const int r = random;
    const int bit = ~((r >> 7) ^ (r >> 5) ^ (r >> 4) ^ (r >> 3)) & 1;
    random = static_cast<std::uint8_t>((r << 1) | bit);
  }

  /// `display` is the 2 KB of picture data.
  std::uint8_t read(int address, std::uint32_t cycle, const std::uint8_t* display) noexcept {
    const auto i = static_cast<std::size_t>(address & 7);
    const int low = counter[i] & 0xFF;
    if (low == top[i]) {
      flag[i] = 0xFF;
    } else if (low == bottom[i]) {
      flag[i] = 0;
    }
    std::uint8_t result = 0;
    switch ((address >> 3) & 7) {
      case 0:
        result = i < 4 ? random : amplitude(cycle);
        break;
      case 1:
        result = display[2047 - counter[i]];
        break;
      case 2:
        result = display[2047 - counter[i]] & flag[i];
        break;
      case 7:
        result = flag[i];
        break;
      default:
        break;
    }
    if (!plays(i)) counter[i] = static_cast<std::uint16_t>((counter[i] - 1) & 0x7FF);
    return result;
  }

  void write(int address, std::uint8_t value) noexcept {
    const auto i = static_cast<std::size_t>(address & 7);
    switch ((address >> 3) & 7) {
      case 0:
        top[i] = value;
        flag[i] = 0;
        break;
      case 1:
        bottom[i] = value;
        break;
      case 2:
        set_low(i, plays(i) ? top[i] : value);
        break;
      case 3:
        counter[i] = static_cast<std::uint16_t>((counter[i] & 0xFF) | ((value & 7) << 8));
        if (i >= 5) music[i - 5] = (value & 0x10) != 0;
        break;
      case 6:
        random = 1;
        break;
      default:
        break;
    }
  }

 private:
  [[nodiscard]] bool plays(std::size_t i) const noexcept { return i >= 5 && music[i - 5]; }

  void set_low(std::size_t i, int low) noexcept {
    counter[i] = static_cast<std::uint16_t>((counter[i] & 0x700) | low);
  }

  std::uint8_t amplitude(std::uint32_t cycle) noexcept {
    play(cycle);
    static constexpr std::array<std::uint8_t, 8> kAmplitudes{0, 4, 5, 9, 6, 10, 11, 15};
    std::size_t voices = 0;
    for (std::size_t q = 0; q < music.size(); ++q) {
      if (music[q] && flag[5 + q] != 0) voices |= std::size_t{1} << q;
    }
    return kAmplitudes[voices];
  }

  void play(std::uint32_t cycle) noexcept {
    const auto cycles = static_cast<std::int32_t>(cycle - music_cycle);
    music_cycle = cycle;
    const double ticks = (15750.0 * cycles) / 1193191.66666667 + music_fraction;
    const auto whole = static_cast<std::int32_t>(ticks);
    music_fraction = ticks - whole;
    if (whole <= 0) return;
    for (std::size_t i = 5; i < 8; ++i) {
      if (!plays(i)) continue;
      int low = 0;
      if (top[i] != 0) {
        const int period = top[i] + 1;
        low = (counter[i] & 0xFF) - (whole % period);
        if (low < 0) low += period;
      }
      if (low <= bottom[i]) {
        flag[i] = 0;
      } else if (low <= top[i]) {
        flag[i] = 0xFF;
      }
      set_low(i, low);
    }
  }
};

struct Cart {
  std::uint8_t bank = 0;
  std::array<std::uint8_t, 3> slices{};  ///< E0: the 1 KB pieces of the image in view.
  std::array<std::uint8_t, 128> ram{};   ///< F8SC, F6SC
  Dpc dpc;

  friend bool operator==(const Cart&, const Cart&) = default;

  void reset(Scheme scheme, Mt19937& random, std::uint32_t cycle) noexcept {
    switch (scheme) {
      case Scheme::kF8:
        bank = 1;
        break;
      case Scheme::kDPC:
        bank = 1;
        dpc.music_cycle = cycle;
        dpc.music_fraction = 0.0;
        break;
      case Scheme::kF8SC:
        bank = 1;
        randomise(random);
        break;
      case Scheme::kF6SC:
        bank = 0;
        randomise(random);
        break;
      case Scheme::kE0:
        slices = {4, 5, 6};
        break;
      default:
        bank = 0;
        break;
    }
  }

  void rebase(std::uint32_t cycles) noexcept { dpc.music_cycle -= cycles; }

  [[nodiscard]] std::uint8_t read(const Rom& rom, std::uint16_t address,
                                  std::uint32_t cycle) noexcept {
    const Scheme scheme = rom.properties.scheme;
    const int at = address & 0xFFF;
    if (scheme == Scheme::kDPC) {
      if (at < 0x080 || at >= 0xFC0) dpc.clock_random();
      if (at < 0x040) return dpc.read(at, cycle, &rom.image[8192]);
    }
    switch_bank(scheme, at);
    if (has_ram(scheme) && at >= 0x080 && at < 0x100) return ram[at & 0x7FU];
    return rom.image[offset(scheme, address)];
  }

  void write(Scheme scheme, std::uint16_t address, std::uint8_t value) noexcept {
    const int at = address & 0xFFF;
    if (scheme == Scheme::kDPC) {
      dpc.clock_random();
      if (at >= 0x040 && at < 0x080) dpc.write(at, value);
    }
    if (has_ram(scheme) && at < 0x080) ram[static_cast<std::size_t>(at)] = value;
    switch_bank(scheme, at);
  }

 private:
  static constexpr bool has_ram(Scheme scheme) noexcept {
    return scheme == Scheme::kF8SC || scheme == Scheme::kF6SC;
  }

  void randomise(Mt19937& random) noexcept {
    for (std::uint8_t& byte : ram) byte = static_cast<std::uint8_t>(random.next());
  }

  /// Reading or writing a hotspot selects a bank, before anything else happens.
  void switch_bank(Scheme scheme, int at) noexcept {
    switch (scheme) {
      case Scheme::kF8:
      case Scheme::kF8SC:
      case Scheme::kDPC:
        if (at == 0xFF8 || at == 0xFF9) bank = static_cast<std::uint8_t>(at - 0xFF8);
        break;
      case Scheme::kF6:
      case Scheme::kF6SC:
        if (at >= 0xFF6 && at <= 0xFF9) bank = static_cast<std::uint8_t>(at - 0xFF6);
        break;
      case Scheme::kE0:
        if (at >= 0xFE0 && at <= 0xFF7) {
          slices[static_cast<std::size_t>((at - 0xFE0) >> 3)] = static_cast<std::uint8_t>(at & 7);
        }
        break;
      default:
        break;
    }
  }

  [[nodiscard]] std::size_t offset(Scheme scheme, std::uint16_t address) const noexcept {
    const std::size_t at = address & 0xFFFU;
    switch (scheme) {
      case Scheme::k2K:
        return at & 0x7FFU;
      case Scheme::k4K:
        return at;
      case Scheme::kE0: {
        const std::size_t segment = at >> 10U;
        const std::size_t slice = segment == 3 ? 7 : slices[segment];
        return (slice * 1024) + (at & 0x3FFU);
      }
      case Scheme::kFE:
        return (address & 0x2000) != 0 ? at : at + 4096;
      default:
        return (std::size_t{bank} * 4096) + at;
    }
  }
};

}  // namespace fastrl::envs::atari
