// The fast console with the plain one beside it, for FASTRL_VERIFY=1: the first difference between
// them is an exception.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "csrc/core/env.h"
#include "envs/atari/atari_env.h"

namespace fastrl::envs::atari {

struct VerifiedConsole : FastConsole {
  struct Difference {
    std::array<char, 24> what{};  ///< Empty: there is none.
    std::size_t index = 0;
    std::int64_t expected = 0;
    std::int64_t found = 0;
    int frame = 0;  ///< Since power-on.

    explicit operator bool() const noexcept { return what[0] != '\0'; }
  };

  Console reference;
  Difference difference;
  int num_frames = 0;

  void power_on(const Rom& rom) noexcept { Console::power_on(*this, rom); }

  void reset(const Rom& rom) noexcept {
    reference = *this;  // After power-on they part here, later they are the same.
    FastConsole::reset(rom);
    reference.reset(rom);
  }

  void set_input(const Rom& rom, const Input& input) noexcept {
    FastConsole::set_input(rom, input);
    reference.set_input(rom, input);
  }

  void update(const Rom& rom, bool seen) noexcept {
    reference.bus = bus;  // The rules put a byte there.
    FastConsole::update(rom, seen);
    reference.update(rom);
    ++num_frames;
    compare_all();
  }

  [[nodiscard]] const std::uint8_t* screen() noexcept {
    compare_pictures("screen", reference.screen(), FastConsole::screen());
    return Console::screen();
  }
  [[nodiscard]] const std::uint8_t* older_screen() noexcept {
    compare_pictures("older screen", reference.older_screen(), FastConsole::older_screen());
    return Console::older_screen();
  }
  [[nodiscard]] Screens grey_screens(const Rom& rom) noexcept {
    const Screens greys = FastConsole::grey_screens(rom);
    if (greys.newest == nullptr) return {};
    compare_greys(rom, "grey screen", reference.screen(), greys.newest);
    compare_greys(rom, "older grey screen", reference.older_screen(), greys.older);
    return greys;
  }

 private:
  void compare(const char* what, std::int64_t expected, std::int64_t found, std::size_t index = 0) {
    if (difference || expected == found) return;
    difference = {.index = index, .expected = expected, .found = found, .frame = num_frames};
    std::strncpy(difference.what.data(), what, difference.what.size() - 1);
  }

  template <std::ranges::range Expected, std::ranges::range Found>
  void compare(const char* what, const Expected& expected, const Found& found) {
    const auto [theirs, ours] = std::ranges::mismatch(expected, found);
    if (ours == found.end()) return;
    compare(what, *theirs, *ours, static_cast<std::size_t>(ours - found.begin()));
  }

  void compare_pictures(const char* what, const std::uint8_t* expected, const std::uint8_t* found) {
    const auto size = static_cast<std::size_t>(tia.window_height) * Tia::kWidth;
    compare(what, std::span(expected, size), std::span(found, size));
  }

  void compare_greys(const Rom& rom, const char* what, const std::uint8_t* expected,
                     const std::uint8_t* found) {
    const auto size = static_cast<std::size_t>(tia.window_height) * Tia::kWidth;
    const auto grey = [&rom](std::uint8_t colour) { return rom.greys[colour]; };
    compare(what, std::span(expected, size) | std::views::transform(grey), std::span(found, size));
  }

  void compare_all() noexcept {
    if (num_frames % 3 == 0) {  // Latches are sought late, also in the frame before.
      settle(Tia::kAllLatches);
      compare("collisions", reference.tia.collisions, tia.collisions);
    }
    const auto same = [this](const char* what, auto member) {
      compare(what, member(static_cast<const Console&>(reference)),
              member(static_cast<const Console&>(*this)));
    };
    same("RAM", [](const Console& c) { return c.riot.ram; });
    same("PC", [](const Console& c) { return c.cpu.pc; });
    same("A", [](const Console& c) { return c.cpu.a; });
    same("X", [](const Console& c) { return c.cpu.x; });
    same("Y", [](const Console& c) { return c.cpu.y; });
    same("SP", [](const Console& c) { return c.cpu.sp; });
    same("P", [](const Console& c) { return c.cpu.p; });
    same("jammed", [](const Console& c) { return c.cpu.jammed; });
    same("cycle", [](const Console& c) { return c.cycle; });
    same("bus", [](const Console& c) { return c.bus; });
    same("last access", [](const Console& c) { return c.last_was_read; });
    same("timer", [](const Console& c) { return c.riot.timer; });
    same("timer's interval", [](const Console& c) { return c.riot.shift; });
    same("timer's start", [](const Console& c) { return c.riot.written_at; });
    same("timer's end", [](const Console& c) { return c.riot.expired_read; });
    same("SWACNT", [](const Console& c) { return c.riot.swacnt; });
    same("bank", [](const Console& c) { return c.cart.bank; });
    same("slices", [](const Console& c) { return c.cart.slices; });
    same("cartridge's RAM", [](const Console& c) { return c.cart.ram; });
    same("positions", [](const Console& c) { return c.tia.positions; });
    same("motions", [](const Console& c) { return c.tia.motions; });
    same("colours", [](const Console& c) { return c.tia.colours; });
    same("playfield", [](const Console& c) { return c.tia.playfield; });
    same("NUSIZ", [](const Console& c) { return c.tia.nusiz; });
    same("CTRLPF", [](const Console& c) { return c.tia.ctrlpf; });
    same("VBLANK", [](const Console& c) { return c.tia.vblank; });
    same("end of VSYNC", [](const Console& c) { return c.tia.vsync_end; });
    same("clock of the picture", [](const Console& c) { return c.tia.drawn; });
    same("frame open", [](const Console& c) { return c.tia.frame_open; });
    same("lines", [](const Console& c) { return c.tia.current_lines; });
  }
};

using VerifiedAtari = BasicAtari<VerifiedConsole>;

/// Throws std::runtime_error after a step or reset in which the consoles parted.
class VerifiedAtariEnv : public AtariEnv<VerifiedAtari> {
 public:
  using AtariEnv::AtariEnv;

  void reset(const Lent<Shared>& lent) {
    AtariEnv::reset(lent);
    report(lent);
  }

  [[nodiscard]] GameTransition step(const Lent<Shared>& lent, Action action) {
    const GameTransition result = AtariEnv::step(lent, action);
    report(lent);
    return result;
  }

 private:
  void report(const Lent<Shared>& lent) const {
    const auto& difference = machine().console.difference;
    if (!difference) return;
    const GameFacts& facts = kGames[static_cast<std::size_t>(title(lent).game)];
    throw std::runtime_error(
        "FASTRL_VERIFY: " + std::string(facts.name) + ", frame " +
        std::to_string(difference.frame) + " since power-on: " + difference.what.data() + "[" +
        std::to_string(difference.index) + "] is " + std::to_string(difference.found) +
        ", but on the plain console " + std::to_string(difference.expected));
  }
};

static_assert(HostedEnv<VerifiedAtariEnv>);

}  // namespace fastrl::envs::atari
