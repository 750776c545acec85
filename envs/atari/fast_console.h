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
#include <span>
#include <type_traits>

#include "envs/atari/console.h"
#include "envs/atari/spans.h"
#include "envs/atari/threaded.h"

namespace fastrl::envs::atari {

struct FastConsole : Console {
  void power_on(const Rom& rom) noexcept { Console::power_on(*this, rom); }

  void reset(const Rom& rom) noexcept {
    Console::reset(rom);
    for (Picture& picture : pictures_) picture.num_accesses = 0;
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

  std::uint8_t read_tia(Threaded<FastConsole>& processor, int address, std::uint32_t now,
                        std::uint8_t before) noexcept {
    const int pin = address & 15;
    if (pin < 8) {
      auto& run = static_cast<Run&>(processor);
      replay(run);
      return run.seen ? tia.read(run.painter, address, now, before, ports)
                      : tia.read(run.lookout, address, now, before, ports);
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
  /// All that is needed to draw a frame.
  struct Picture {
    static constexpr std::size_t kMaxAccesses = 3072;  ///< Frames with more are drawn at once.

    Tia start;
    std::uint32_t num_accesses = 0;  ///< 0: there is nothing to draw.
    std::array<TiaAccess, kMaxAccesses> accesses{};

    [[nodiscard]] std::span<const TiaAccess> log() const noexcept {
      return std::span(accesses).first(num_accesses);
    }
  };

  /// One frame of the processor, and who follows its log.
  struct Run : Threaded<FastConsole> {
    Run(std::uint8_t* frame, bool is_seen) noexcept : painter(frame), seen(is_seen) {}

    SpanPainter<true> painter;  ///< If the frame is seen, else:
    SpanPainter<false> lookout{nullptr};
    bool seen;
    std::uint32_t num_replayed = 0;  ///< Accesses that the TIA knows of.
  };

  bool run_fast(const Rom& rom, bool seen) noexcept {
    const Tia start = tia;
    Run processor(frames[current].data(), seen);
    processor.riot = riot;
    processor.cart = cart;
    processor.cpu = cpu;
    processor.cycle = cycle;
    processor.bus = bus;
    processor.swcha = ports.swcha();
    processor.swchb = switches.swchb;
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
      tia = start;
      return false;
    }
    riot = processor.riot;
    cart = processor.cart;
    cpu = processor.cpu;
    cycle = processor.cycle;
    bus = processor.bus;
    last_was_read = processor.last_was_read;
    replay(processor);
    static_cast<void>(tia.end_update(cycle));
    keep_picture(start, std::span(processor.accesses).first(processor.num_accesses), seen);
    return true;
  }

  /// Brings the TIA up to date with the log. Before the last CXCLR nothing can have met.
  void replay(Run& run) noexcept {
    const auto log = std::span<const TiaAccess>(run.accesses)
                         .subspan(run.num_replayed, run.num_accesses - run.num_replayed);
    run.num_replayed = run.num_accesses;
    std::size_t cleared = log.size();
    while (cleared > 0 && log[cleared - 1].reg() != Tia::CXCLR) --cleared;
    const auto follow = [&](auto& painter) {
      if (cleared > 0 || run.num_replayed == log.size()) {
        painter.look_for_collisions(false);
        play(painter, tia, log.first(cleared));
        painter.look_for_collisions(true);
      }
      play(painter, tia, log.subspan(cleared));
    };
    if (run.seen) {
      follow(run.painter);
    } else {
      follow(run.lookout);
    }
  }

  /// Writes that show nothing new do not make picture: `due` is the clock that they would have made
  /// it up to, and before the next one that does it is made up for.
  template <typename Painter>
  static void play(Painter& painter, Tia& tia, std::span<const TiaAccess> log) noexcept {
    Clock due = tia.drawn;
    for (const TiaAccess access : log) {
      const std::uint32_t now = access.cycle();
      const int reg = access.reg();
      if (reg == TiaAccess::kRead) {
        due = std::max(due, tia.effective_at(access.value(), now));
        continue;
      }
      due = std::max(due, tia.effective_at(reg, now));
      if (!tia.changes_no_picture(reg, access.value())) tia.catch_up(painter, due);
      static_cast<void>(tia.change(painter, reg, access.value(), now, true));
    }
    tia.catch_up(painter, due);
  }

  /// The same, with every access at its time.
  static void play_plainly(PlainPainter painter, Tia& tia,
                           std::span<const TiaAccess> log) noexcept {
    for (const TiaAccess access : log) {
      if (access.reg() == TiaAccess::kRead) {
        tia.catch_up(painter, tia.effective_at(access.value(), access.cycle()));
      } else {
        static_cast<void>(tia.write(painter, access.reg(), access.value(), access.cycle(), true));
      }
    }
  }

  /// What the frame that has ended looks like is either in its pixels now or can be drawn later.
  void keep_picture(const Tia& start, std::span<const TiaAccess> log, bool seen) noexcept {
    Picture& picture = pictures_[current];
    Tia copy = start;
    if (tia.drawn < tia.window_end()) {  // An older picture shows through below, or beside a span.
      draw(current);
      play_plainly(PlainPainter{frames[current]}, copy, log);
    } else if (seen) {
      picture.num_accesses = 0;
    } else if (log.size() > picture.kMaxAccesses) {
      picture.num_accesses = 0;
      SpanPainter<true> painter(frames[current].data());
      play(painter, copy, log);
    } else {
      picture.start = start;
      picture.num_accesses = static_cast<std::uint32_t>(log.size());
      std::ranges::copy(log, picture.accesses.begin());
    }
  }

  /// Makes the pixels of a frame that is only written down.
  void draw(std::size_t frame) noexcept {
    Picture& picture = pictures_[frame];
    if (picture.num_accesses == 0) return;
    Tia copy = picture.start;
    SpanPainter<true> painter(frames[frame].data());
    play(painter, copy, picture.log());
    picture.num_accesses = 0;
  }

  std::array<Picture, 2> pictures_{};  ///< By frame.
};

static_assert(std::is_trivially_copyable_v<FastConsole>);

}  // namespace fastrl::envs::atari
