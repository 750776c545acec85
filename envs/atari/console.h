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

  void power_on(const Rom& rom) noexcept { power_on(*this, rom); }

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
  /// `seen` is a hint for consoles that draw only what is looked at.
  void update(const Rom& rom, bool /*seen*/ = true) noexcept {
    if (!tia.frame_open) begin_frame();
    run(rom);
  }

  [[nodiscard]] const std::uint8_t* screen() const noexcept { return frames[current].data(); }
  /// Of the frame before.
  [[nodiscard]] const std::uint8_t* older_screen() const noexcept {
    return frames[1 - current].data();
  }
  struct Screens {
    const std::uint8_t* newest = nullptr;
    const std::uint8_t* older = nullptr;
  };
  /// Both in greys of the cartridge, until somebody asks for one of them above; or neither.
  [[nodiscard]] static Screens grey_screens(const Rom& /*rom*/) noexcept { return {}; }
  /// Where one of the two screens may be another than at the last call.
  [[nodiscard]] Rows changed_rows() noexcept {
    Rows all;
    all.fill(true);
    return all;
  }

  /// Whether it goes on as `other` does, given the same input: until a reset, which draws numbers.
  [[nodiscard]] bool is_at(const Rom& rom, const Console& other) const noexcept {
    return same_chips(rom, other) && shows_the_same(other);
  }
  /// Goes on as `other` does.
  void go_on_from(const Console& other) noexcept {
    const Mt19937 kept = random;
    *this = other;
    random = kept;
  }

 protected:
  /// But latches, and times that nobody asks for.
  [[nodiscard]] bool same_chips(const Rom& rom, const Console& other) const noexcept {
    Riot timed = riot;
    if (!timed.expired_read) timed.expired_at = other.riot.expired_at;
    Tia dumped = tia;
    dumped.collisions = other.tia.collisions;
    if (!ports.have_paddles()) dumped.dump_ended = other.tia.dump_ended;
    Cart played = cart;
    if (rom.properties.scheme != Scheme::kDPC) played.dpc.music_cycle = other.cart.dpc.music_cycle;
    return cycle == other.cycle && bus == other.bus && last_was_read == other.last_was_read &&
           cpu == other.cpu && timed == other.riot && dumped == other.tia && played == other.cart &&
           ports == other.ports && switches == other.switches;
  }
  [[nodiscard]] bool shows_the_same(const Console& other) const noexcept {
    return tia.collisions == other.tia.collisions &&
           frames[current] == other.frames[other.current] &&
           frames[1 - current] == other.frames[1 - other.current];
  }

  /// Memory is random, the television format is found out, then the reset line is pulled.
  template <typename Self>
  static void power_on(Self& self, const Rom& rom) noexcept {
    self = Self{};
    self.tia.window_top = rom.properties.window_top;
    self.tia.window_height = rom.properties.window_height;
    self.tia.hmove_blanks = rom.properties.hmove_blanks;
    self.switches = Switches::at_power_on(rom.properties);
    self.ports = plug(rom.properties, Input{});
    self.riot.power_up(self.random);
    self.reset(rom);
    int long_frames = 0;
    for (int i = 0; i < 60; ++i) {
      self.update(rom, false);
      if (i >= 30 && self.tia.current_lines > 285) ++long_frames;
    }
    self.tia.pal = long_frames >= 15;
    if (self.tia.pal && self.tia.window_height == 210) self.tia.window_height = 250;
    self.reset(rom);
  }

  void begin_frame() noexcept {
    current = 1 - current;
    const std::uint32_t rebased = tia.begin_frame(cycle);
    riot.rebase(rebased);
    cart.rebase(rebased);
    cycle = 0;
  }

  void run(const Rom& rom) noexcept {
    Wires wires{*this, rom};
    for (int i = 0; i < kMaxInstructions && tia.frame_open && !cpu.jammed; ++i) cpu.step(wires);
    if (tia.end_update(cycle)) grey_out(frames[current], tia);
  }

 private:
  /// The bus, as the processor sees it.
  struct Wires {
    Console& console;
    const Rom& rom;

    std::uint8_t read(std::uint16_t at) noexcept { return console.read(rom, at); }
    void write(std::uint16_t at, std::uint8_t value) noexcept { console.write(rom, at, value); }
    void wait(int cycles) noexcept { console.cycle += static_cast<std::uint32_t>(cycles); }
  };
  static_assert(Bus<Wires>);

  std::uint8_t read(const Rom& rom, std::uint16_t at) noexcept {
    if (address::is_cart(at)) {
      bus = cart.read(rom, at, cycle);
    } else if (address::is_tia(at)) {
      PlainPainter painter{frames[current]};
      bus = tia.read(painter, at, cycle, bus, ports);
    } else if (address::is_ram(at)) {
      bus = riot.ram[at & 0x7FU];
    } else {
      bus = riot.read(at, cycle, ports.swcha(), switches.swchb);
    }
    last_was_read = true;
    return bus;
  }

  void write(const Rom& rom, std::uint16_t at, std::uint8_t value) noexcept {
    if (address::is_cart(at)) {
      cart.write(rom.properties.scheme, at, value);
    } else if (address::is_tia(at)) {
      PlainPainter painter{frames[current]};
      const int wait = tia.write(painter, at, value, cycle, last_was_read);
      cycle += static_cast<std::uint32_t>(wait);
    } else if (address::is_ram(at)) {
      riot.ram[at & 0x7FU] = value;
    } else {
      riot.write(at, value, cycle);
    }
    bus = value;
    last_was_read = false;
  }
};

static_assert(std::is_trivially_copyable_v<Console>);

}  // namespace fastrl::envs::atari
