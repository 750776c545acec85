// The fast console: processor time and picture are kept apart. The processor (threaded.h) writes
// down what it tells the TIA, and picture and collision latches are made from that log when
// somebody looks: the program at a latch, the caller at the screen.
//
// Whatever is out of the ordinary is left to the plain console that this one contains: a frame that
// does not end in time, one that ends before the picture is complete, a frame that was begun
// before.
//
// Oracle: console.h and ale-py (tests/oracle/test_atari.py).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "envs/atari/console.h"
#include "envs/atari/spans.h"
#include "envs/atari/threaded.h"

namespace fastrl::envs::atari {

struct FastConsole : Console {
  void power_on(const Rom& rom) noexcept { Console::power_on(*this, rom); }

  void reset(const Rom& rom) noexcept {
    Console::reset(rom);
    undrawn_.fill(kNone);
  }

  /// As Console::update. A frame that is not `seen` may still be looked at: it is drawn then.
  void update(const Rom& rom, bool seen) noexcept {
    if (tia.frame_open) {
      draw(current);
    } else {
      begin_frame();
      if (rom.code != nullptr && !cpu.jammed && run_fast(rom, seen)) return;
      draw(current);
    }
    run(rom);
  }

  [[nodiscard]] const std::uint8_t* screen() noexcept {
    draw(current);
    return Console::screen();
  }

  // For the processor.

  std::uint8_t read_tia(const Threaded<FastConsole>& processor, int address, std::uint32_t now,
                        std::uint8_t before) noexcept {
    const int pin = address & 15;
    if (pin < 8) {
      replay();
      SpanPainter<false, true> collisions{nullptr};
      SpanPainter<true, true> all{frames[current].data()};
      return seen_ ? tia.read(all, address, now, before, ports)
                   : tia.read(collisions, address, now, before, ports);
    }
    const auto charged = [&](std::int32_t resistance) {
      return Tia::charged(resistance, now, processor.dumping, processor.dump_ended);
    };
    const bool high = pin == 0x8   ? charged(ports.left.pin9)
                      : pin == 0x9 ? charged(ports.left.pin5)
                      : pin == 0xA ? charged(ports.right.pin9)
                      : pin == 0xB ? charged(ports.right.pin5)
                      : pin == 0xC ? ports.left.pin6
                                   : pin == 0xD && ports.right.pin6;
    return static_cast<std::uint8_t>((high ? 0x80 : 0) | (before & 0x3F));
  }

 private:
  static constexpr std::uint8_t kNone = 0xFF;

  /// All that is needed to draw a frame.
  struct Picture {
    Tia start;
    TiaLog log;
  };

  bool run_fast(const Rom& rom, bool seen) noexcept {
    Picture& picture = pictures_[recording_];
    picture.start = tia;
    picture.log.length = 0;
    replayed_ = 0;
    seen_ = seen;

    Threaded<FastConsole> processor;
    processor.riot = riot;
    processor.cart = cart;
    processor.cpu = cpu;
    processor.cycle = cycle;
    processor.bus = bus;
    processor.swcha = ports.swcha();
    processor.swchb = switches.swchb;
    processor.log = &picture.log;
    processor.host = this;
    processor.rom = &rom;
    processor.frame_start = tia.frame_start;
    processor.vsync_end = tia.vsync_end;
    processor.vblank = tia.vblank;
    processor.dumping = tia.dumping;
    processor.dump_ended = tia.dump_ended;
    const auto into_line = static_cast<std::uint32_t>(-tia.frame_start);
    processor.last_cycle = ((tia.max_lines() + 1) * Tia::kLineClocks - 1 - into_line) / 3;
    if (processor.run() == Stop::kGaveUp) {
      tia = picture.start;
      return false;
    }
    riot = processor.riot;
    cart = processor.cart;
    cpu = processor.cpu;
    cycle = processor.cycle;
    bus = processor.bus;
    last_was_read = processor.last_was_read;
    replay();
    static_cast<void>(tia.end_update(cycle));
    keep_picture();
    return true;
  }

  /// Brings the TIA up to date with the log. Before the last CXCLR nothing can have met.
  void replay() noexcept {
    const TiaLog& log = pictures_[recording_].log;
    std::uint32_t cleared = log.length;
    while (cleared > replayed_ && register_in(log.entries[cleared - 1]) != Tia::CXCLR) --cleared;
    std::uint8_t* const frame = frames[current].data();
    if (seen_) {
      play(SpanPainter<true, false>{frame}, tia, log, replayed_, cleared);
      play(SpanPainter<true, true>{frame}, tia, log, cleared, log.length);
    } else {
      play(SpanPainter<false, false>{nullptr}, tia, log, replayed_, cleared);
      play(SpanPainter<false, true>{nullptr}, tia, log, cleared, log.length);
    }
    replayed_ = log.length;
  }

  static constexpr int register_in(std::uint32_t entry) noexcept {
    return static_cast<int>((entry >> 8U) & 0x3FU);
  }

  /// Writes that show nothing new do not make picture: `due` is the clock that they would have made
  /// it up to, and before the next one that does it is made up for.
  template <typename Painter>
  static void play(Painter painter, Tia& tia, const TiaLog& log, std::uint32_t from,
                   std::uint32_t to) noexcept {
    Clock due = tia.drawn;
    for (std::uint32_t i = from; i < to; ++i) {
      const std::uint32_t entry = log.entries[i];
      const std::uint32_t now = entry >> 14U;
      const int reg = register_in(entry);
      const auto value = static_cast<std::uint8_t>(entry);
      if (reg == TiaLog::kRead) {
        due = std::max(due, clock_of(now));
        continue;
      }
      due = std::max(due, tia.effective_at(reg, now));
      if (!tia.changes_no_picture(reg, value)) tia.catch_up(painter, due);
      static_cast<void>(tia.change(painter, reg, value, now, true));
    }
    tia.catch_up(painter, due);
  }

  /// The same, with every access at its time.
  static void play_plainly(PlainPainter painter, Tia& tia, const TiaLog& log) noexcept {
    for (std::uint32_t i = 0; i < log.length; ++i) {
      const std::uint32_t entry = log.entries[i];
      const std::uint32_t now = entry >> 14U;
      const int reg = register_in(entry);
      if (reg == TiaLog::kRead) {
        tia.catch_up(painter, clock_of(now));
      } else {
        static_cast<void>(tia.write(painter, reg, static_cast<std::uint8_t>(entry), now, true));
      }
    }
  }

  /// What the frame that has ended looks like is either in its pixels now or can be drawn later.
  void keep_picture() noexcept {
    if (tia.drawn < tia.window_end()) {  // An older picture shows through below, or beside a span.
      draw(current);
      Picture& picture = pictures_[recording_];
      Tia copy = picture.start;
      play_plainly(PlainPainter{frames[current]}, copy, picture.log);
    } else if (seen_) {
      undrawn_[current] = kNone;
    } else {
      undrawn_[current] = recording_;
      recording_ = 0;
      while (recording_ == undrawn_[0] || recording_ == undrawn_[1]) ++recording_;
    }
  }

  /// Makes the pixels of a frame that is only written down.
  void draw(std::size_t frame) noexcept {
    if (undrawn_[frame] == kNone) return;
    const Picture& picture = pictures_[undrawn_[frame]];
    Tia copy = picture.start;
    play(SpanPainter<true, false>{frames[frame].data()}, copy, picture.log, 0, picture.log.length);
    undrawn_[frame] = kNone;
  }

  std::array<Picture, 3> pictures_{};
  std::array<std::uint8_t, 2> undrawn_{kNone, kNone};  ///< By frame: its picture, or none.
  std::uint8_t recording_ = 0;                         ///< The picture of the frame that runs.
  bool seen_ = false;
  std::uint32_t replayed_ = 0;  ///< Entries of the log that the TIA has seen.
};

static_assert(std::is_trivially_copyable_v<FastConsole>);

}  // namespace fastrl::envs::atari
