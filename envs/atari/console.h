// The console: processor, RIOT, TIA and cartridge on one bus, and the run of one frame.
//
// Document: console_spec.md 1 (time, address map, resets), 2.7 and 4.2 (when a frame ends).
// Oracle:   tests/oracle/test_atari.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "envs/atari/cart.h"
#include "envs/atari/controllers.h"
#include "envs/atari/m6507.h"
#include "envs/atari/mt19937.h"
#include "envs/atari/pixels.h"
#include "envs/atari/riot.h"
#include "envs/atari/rom.h"
#include "envs/atari/tia.h"

namespace fastrl::envs::atari {

struct Console {
  static constexpr std::uint32_t kRandomSeed = 4753849;
  static constexpr int kMaxInstructions = 25000;  ///< In one update, frame end or not.

  std::uint32_t cycle = 0;  ///< Made small again at the start of every frame.
  std::uint8_t bus = 0;     ///< The last byte on the data bus. No reset clears it.
  bool last_was_read = true;
  Mt19937 random{kRandomSeed};
  M6507 cpu;
  Riot riot;
  Tia tia;
  Cart cart;
  Ports ports;
  Switches switches;
  std::array<Frame, 2> frames{};  ///< Rows that the beam does not reach keep an older picture.
  std::size_t current = 0;

  /// Power on: memory is random, the television format is found out, then the reset line is pulled.
  void power_on(const Rom& rom) noexcept {
    *this = Console{};
    tia.window_top = rom.properties.window_top;
    tia.window_height = rom.properties.window_height;
    tia.hmove_blanks = rom.properties.hmove_blanks;
    switches = Switches::at_power_on(rom.properties);
    ports = plug(rom.properties, Input{});
    riot.power_up(random);
    tia.pal = draws_pal_frames(rom);
    if (tia.pal && tia.window_height == 210) tia.window_height = 250;
    reset(rom);
  }

  /// RAM, the bus and a frame begun survive.
  void reset(const Rom& rom) noexcept {
    cart.rebase(cycle);
    cycle = 0;
    riot.reset(random);
    tia.reset(cycle);
    frames = {};
    cart.reset(rom.properties.scheme, random, cycle);
    Wires wires{*this, rom};
    cpu.reset(wires);
  }

  void set_input(const Rom& rom, const Input& input) noexcept {
    ports = plug(rom.properties, input);
    switches.apply(input);
  }

  /// Runs to the end of the frame, or for `kMaxInstructions`; then the next update goes on with it.
  void update(const Rom& rom, bool /*seen*/ = true) noexcept {
    if (!tia.frame_open) {
      current = 1 - current;
      const std::uint32_t rebased = tia.begin_frame(cycle);
      riot.rebase(rebased);
      cart.rebase(rebased);
      cycle = 0;
    }
    Wires wires{*this, rom};
    for (int i = 0; i < kMaxInstructions && tia.frame_open && !cpu.jammed; ++i) cpu.step(wires);
    if (tia.end_update(cycle)) grey_out(frames[current], tia);
  }

  [[nodiscard]] const std::uint8_t* screen() const noexcept { return frames[current].data(); }

 private:
  /// The bus, as the processor sees it.
  struct Wires {
    Console& console;
    const Rom& rom;

    std::uint8_t read(std::uint16_t address) noexcept { return console.read(rom, address); }
    void write(std::uint16_t address, std::uint8_t value) noexcept {
      console.write(rom, address, value);
    }
    void wait(int cycles) noexcept { console.cycle += static_cast<std::uint32_t>(cycles); }
  };
  static_assert(Bus<Wires>);

  static constexpr bool selects_cart(std::uint16_t address) noexcept {
    return (address & 0x1000) != 0;
  }
  static constexpr bool selects_tia(std::uint16_t address) noexcept {
    return (address & 0x80) == 0;
  }
  static constexpr bool selects_ram(std::uint16_t address) noexcept {
    return (address & 0x200) == 0;
  }

  std::uint8_t read(const Rom& rom, std::uint16_t address) noexcept {
    if (selects_cart(address)) {
      bus = cart.read(rom, address, cycle);
    } else if (selects_tia(address)) {
      PlainPainter painter{frames[current]};
      bus = tia.read(painter, address, cycle, bus, ports);
    } else if (selects_ram(address)) {
      bus = riot.ram[address & 0x7FU];
    } else {
      bus = riot.read(address, cycle, ports.swcha(), switches.swchb);
    }
    last_was_read = true;
    return bus;
  }

  void write(const Rom& rom, std::uint16_t address, std::uint8_t value) noexcept {
    if (selects_cart(address)) {
      cart.write(rom.properties.scheme, address, value);
    } else if (selects_tia(address)) {
      PlainPainter painter{frames[current]};
      const int wait = tia.write(painter, address, value, cycle, last_was_read);
      cycle += static_cast<std::uint32_t>(wait);
    } else if (selects_ram(address)) {
      riot.ram[address & 0x7FU] = value;
    } else {
      riot.write(address, value, cycle);
    }
    bus = value;
    last_was_read = false;
  }

  /// Watches 60 frames; PAL if enough of the later ones are long.
  bool draws_pal_frames(const Rom& rom) noexcept {
    reset(rom);
    int long_frames = 0;
    for (int i = 0; i < 60; ++i) {
      update(rom);
      if (i >= 30 && tia.current_lines > 285) ++long_frames;
    }
    return long_frames >= 15;
  }
};

static_assert(std::is_trivially_copyable_v<Console>);

}  // namespace fastrl::envs::atari
