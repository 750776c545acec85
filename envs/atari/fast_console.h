// The fast console: processor time and picture are kept apart. The processor (threaded.h) writes
// down what it tells the TIA, and picture and collision latches are made from that log when
// somebody looks: the program at a latch, the caller at the screen.
//
// Whatever is out of the ordinary is left to the plain console that this one contains: a frame that
// does not end in time, one that ends before the picture is complete, one with stars, a frame that
// was begun before.
//
// Oracle: console.h and ale-py (tests/oracle/test_atari.py).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

#include "envs/atari/beam.h"
#include "envs/atari/console.h"
#include "envs/atari/may_show.h"
#include "envs/atari/threaded.h"

namespace fastrl::envs::atari {

struct FastConsole : Console {
  void power_on(const Rom& rom) noexcept { Console::power_on(*this, rom); }

  void reset(const Rom& rom) noexcept {
    Console::reset(rom);
    forget();
  }

  /// As Console::update. A frame that is not `seen` may still be looked at: it is drawn then.
  void update(const Rom& rom, bool seen) noexcept {
    if (!tia.frame_open) {
      begin_frame();
      if (rom.code != nullptr && !cpu.jammed && !tia.starry() && run_fast(rom, seen)) return;
    }
    settle(Tia::kAllLatches);
    draw(current);
    pictures_[current].memo.complete = false;
    changed_ = kAllBlocks;
    run(rom);
  }

  [[nodiscard]] const std::uint8_t* screen() noexcept {
    draw(current);
    return Console::screen();
  }
  [[nodiscard]] const std::uint8_t* older_screen() noexcept {
    draw(1 - current);
    return Console::older_screen();
  }
  /// As in Console: neither if one was drawn otherwise.
  [[nodiscard]] Screens grey_screens(const Rom& rom) noexcept {
    if (rom.greys == nullptr) return {};
    for (std::size_t frame = 0; frame < frames.size(); ++frame) {
      if (pictures_[frame].undrawn) draw(frame, rom.greys);
      if (!pictures_[frame].grey) return {};
    }
    return {.newest = Console::screen(), .older = Console::older_screen()};
  }
  [[nodiscard]] Rows changed_rows() noexcept {
    Rows rows;
    static_assert(rows.size() % FrameMemo::kBlockRows == 0);
    for (std::size_t block = 0; block < rows.size() / FrameMemo::kBlockRows; ++block) {
      std::fill_n(rows.begin() + (block * FrameMemo::kBlockRows), FrameMemo::kBlockRows,
                  (changed_ & bit(block)) != 0);
    }
    changed_ = 0;
    return rows;
  }

  /// As Console::is_at. `other` is settled.
  [[nodiscard]] bool is_at(const Rom& rom, const Console& other) noexcept {
    if (!same_chips(rom, other)) return false;
    static_cast<void>(settled());
    return shows_the_same(other);
  }
  void go_on_from(const Console& other) noexcept {
    Console::go_on_from(other);
    forget();
  }
  /// What the plain console would be.
  [[nodiscard]] const Console& settled() noexcept {
    settle(Tia::kAllLatches);
    draw(0);
    draw(1);
    return *this;
  }

  /// Makes these latches true in `tia`.
  void settle(std::uint16_t latches) noexcept {
    for (Picture& picture : pictures_) settle(picture, latches);
  }

  // For the processor.

  std::uint8_t read_latches(Threaded<FastConsole>& processor, int pin, std::uint32_t now) noexcept {
    auto& run = static_cast<Run&>(processor);
    const std::uint16_t latches = Tia::latches_at(pin);
    // The last CXCLR may wait to be played.
    std::uint16_t set = run.num_cleared() > run.num_replayed ? 0 : tia.collisions;
    const bool is_new = (latches & ~run.sought) != 0;
    if (is_new || may_have_met(run, latches & ~static_cast<unsigned>(set))) {
      seek(run, latches, now);
      set = tia.collisions;
    }
    return static_cast<std::uint8_t>(Tia::latches(set, pin));
  }

 private:
  /// All that is needed to look at a frame later.
  struct Picture {
    Tia start;
    bool undrawn = false;        ///< Its pixels are not made yet.
    bool grey = false;           ///< The pixels there are greys. Then its log is kept.
    std::uint16_t unsought = 0;  ///< Latches that it may set and that nobody has looked for.
    std::uint32_t num_accesses = 0;
    std::uint32_t cleared = 0;  ///< Of them, up to the last CXCLR.
    std::array<TiaAccess, FrameMemo::kMaxAccesses> accesses{};
    FrameMemo memo;  ///< Of this frame or of one before.

    [[nodiscard]] std::span<const TiaAccess> log() const noexcept {
      return std::span(accesses).first(num_accesses);
    }
  };

  /// One frame of the processor, and who follows its log.
  struct Run : Threaded<FastConsole> {
    Run(const Tia& tia, std::uint8_t* frame, FrameMemo* memo, bool is_seen,
        const std::uint8_t* its_greys) noexcept
        : start(tia), seen(is_seen), greys(its_greys), may_show(tia) {
      make_beam(tia, frame, memo);
    }

    Tia start;
    bool seen;
    const std::uint8_t* greys;          ///< That it is painted in, if any.
    std::optional<Beam<true>> painter;  ///< If the frame is seen, else:
    std::optional<Beam<false>> lookout;
    std::uint16_t sought = 0;        ///< Latches that are looked for, from the start on.
    bool begun = false;              ///< The beam has moved.
    std::uint32_t num_replayed = 0;  ///< Accesses that the TIA knows of.
    MayShow may_show;                ///< From then on,
    std::uint32_t num_scanned = 0;   ///< up to there.

    /// The beam that follows this frame, `tia` being at its start.
    void make_beam(const Tia& tia, std::uint8_t* frame, FrameMemo* memo) noexcept {
      if (seen) {
        painter.emplace(tia, frame, greys, memo);
      } else {
        lookout.emplace(tia, nullptr, nullptr, memo);
      }
    }
    template <typename Use>
    void with_beam(Use use) noexcept {
      if (seen) {
        use(*painter);
      } else {
        use(*lookout);
      }
    }

    [[nodiscard]] std::span<const TiaAccess> log() const noexcept {
      return std::span<const TiaAccess>(accesses).first(num_accesses());
    }
  };

  /// Pictures and latches are as they are.
  void forget() noexcept {
    for (Picture& picture : pictures_) {
      picture.undrawn = false;
      picture.grey = false;
      picture.unsought = 0;
      picture.memo.complete = false;
    }
    changed_ = kAllBlocks;
  }

  bool run_fast(const Rom& rom, bool seen) noexcept {
    if (never_clears_) settle(Tia::kAllLatches);
    Picture& picture = pictures_[current];
    if (seen && picture.grey != (rom.greys != nullptr)) picture.memo.complete = false;
    Run processor(tia, frames[current].data(), &picture.memo, seen, rom.greys);
    if (never_clears_) processor.sought = Tia::kAllLatches;
    processor.riot = riot;
    processor.cart = cart;
    processor.cpu = cpu;
    processor.cycle = cycle;
    processor.bus = bus;
    processor.paddles = {ports.left.pin9, ports.left.pin5, ports.right.pin9, ports.right.pin5};
    processor.high_from[4].bits = ports.left.pin6 ? 0 : Threaded<FastConsole>::kNever.bits;
    processor.high_from[5].bits = ports.right.pin6 ? 0 : Threaded<FastConsole>::kNever.bits;
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
    bool given_up = processor.run() == Stop::kGaveUp;
    if (!given_up) {
      replay(processor);
      processor.with_beam([&](auto& beam) {
        beam.finish(tia);
        given_up = beam.starry();
      });
    }
    if (given_up) {
      tia = processor.start;
      return false;
    }
    riot = processor.riot;
    cart = processor.cart;
    cpu = processor.cpu;
    cycle = processor.cycle;
    bus = processor.bus;
    last_was_read = processor.last_was_read;
    // The beam need not know.
    tia.dumping = processor.dumping;
    tia.dump_ended = processor.dump_ended;
    static_cast<void>(tia.end_update(cycle));
    keep_picture(processor);
    return true;
  }

  void settle(Picture& picture, std::uint16_t latches) noexcept {
    const auto unsought = static_cast<std::uint16_t>(picture.unsought & latches);
    picture.unsought = static_cast<std::uint16_t>(picture.unsought & ~latches);
    if ((unsought & ~tia.collisions) == 0) return;
    Beam<false> lookout(picture.start, nullptr, nullptr, nullptr);
    look_again(lookout, picture.start, picture.log(), picture.cleared, unsought);
  }

  /// Plays a log from its start and sets the latches that are set in it.
  template <bool kPixels>
  void look_again(Beam<kPixels>& beam, Tia copy, std::span<const TiaAccess> log,
                  std::size_t cleared, std::uint16_t latches) noexcept {
    copy.collisions = tia.collisions;
    follow(beam, copy, log, cleared, latches);
    beam.finish(copy);
    tia.collisions = static_cast<std::uint16_t>(tia.collisions | (copy.collisions & latches));
  }

  /// Brings the TIA up to date with the log, these latches included.
  void seek(Run& run, std::uint16_t latches, std::uint32_t now) noexcept {
    if ((latches & ~run.sought) != 0) {
      wanted_ = static_cast<std::uint16_t>(wanted_ | latches);
      run.sought = static_cast<std::uint16_t>(run.sought | wanted_);
      tia = run.start;
      settle(run.sought);
      run.start.collisions = tia.collisions;
      if (run.begun) {
        FrameMemo& memo = pictures_[current].memo;
        if (run.seen || !memo.painted) memo.complete = false;
        run.num_replayed = 0;
        run.make_beam(tia, frames[current].data(), &memo);
      }
    }
    run.begun = true;
    replay(run);
    run.with_beam([&](auto& beam) { beam.catch_up(tia, clock_of(now)); });
    run.may_show = MayShow(tia);
    run.num_scanned = run.num_accesses();
  }

  /// Whether one of these latches may have been set by now. If not, as in most rows of games that
  /// ask in every row, the log can wait.
  [[nodiscard]] static bool may_have_met(Run& run, unsigned latches) noexcept {
    for (; run.num_scanned < run.num_accesses(); ++run.num_scanned) {
      run.may_show.add(run.accesses[run.num_scanned]);
    }
    return run.may_show.may_set(latches);
  }

  void replay(Run& run) noexcept {
    const auto log = run.log().subspan(run.num_replayed);
    const std::size_t cleared = std::max(run.num_cleared(), run.num_replayed) - run.num_replayed;
    run.num_replayed = run.num_accesses();
    run.with_beam([&](auto& beam) { follow(beam, tia, log, cleared, run.sought); });
  }

  /// Plays a log, whose last CXCLR ends at `cleared`, and looks for meetings that set `latches`.
  template <bool kPixels>
  static void follow(Beam<kPixels>& beam, Tia& tia, std::span<const TiaAccess> log,
                     std::size_t cleared, std::uint16_t latches) noexcept {
    if (latches == 0) cleared = 0;  // Nothing to look for, before it or after.
    if (cleared > 0) {
      beam.look_for(tia, 0);
      beam.play(tia, log.first(cleared));
    }
    beam.look_for(tia, latches);
    beam.play(tia, log.subspan(cleared));
  }

  /// Tia::write for every access of a log.
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

  /// What the frame that has ended looks like is either in its pixels now or can be drawn later,
  /// and what met in it is either in the latches or can be found out later.
  void keep_picture(Run& run) noexcept {
    const auto log = run.log();
    Picture& picture = pictures_[current];
    if (run.num_cleared() > 0) {
      for (Picture& before : pictures_) before.unsought = 0;
      never_clears_ = false;
    } else {
      never_clears_ = never_clears_ || picture.unsought != 0;
      settle(picture, Tia::kAllLatches);
    }
    const auto unsought = static_cast<std::uint16_t>(Tia::kAllLatches & ~run.sought);
    if (tia.drawn < tia.window_end()) {  // An older picture shows through below, or beside a span.
      draw(current);
      Tia copy = run.start;
      changed_ = kAllBlocks;
      play_plainly(PlainPainter{frames[current]}, copy, log);
      tia.collisions = static_cast<std::uint16_t>(tia.collisions | copy.collisions);
    } else if (log.size() > FrameMemo::kMaxAccesses) {
      Beam<true> painter(run.start, frames[current].data(), nullptr, nullptr);
      changed_ = kAllBlocks;
      look_again(painter, run.start, log, run.num_cleared(), unsought);
    } else {
      picture.undrawn = !run.seen;
      picture.unsought = unsought;
      if (run.seen) {
        changed_ |= ~run.painter->repeated();
        picture.grey = run.greys != nullptr;
      }
      run.with_beam([log](auto& beam) { beam.keep(log); });
      if (run.seen && !picture.grey && unsought == 0) return;
      picture.start = run.start;
      picture.num_accesses = run.num_accesses();
      picture.cleared = run.num_cleared();
      std::memcpy(picture.accesses.data(), log.data(), log.size_bytes());
      return;
    }
    picture.memo.complete = false;
    picture.undrawn = false;
    picture.grey = false;
    picture.unsought = 0;
  }

  /// Makes the pixels of a frame that are not palette indices.
  void draw(std::size_t frame) noexcept {
    if (pictures_[frame].undrawn || pictures_[frame].grey) draw(frame, nullptr);
  }
  /// Makes the pixels of a frame that is written down.
  void draw(std::size_t frame, const std::uint8_t* greys) noexcept {
    Picture& picture = pictures_[frame];
    if (picture.grey != (greys != nullptr)) picture.memo.complete = false;
    picture.grey = greys != nullptr;
    Tia copy = picture.start;
    Beam<true> painter(copy, frames[frame].data(), greys, &picture.memo);
    follow(painter, copy, picture.log(), 0, 0);
    painter.finish(copy);
    changed_ |= ~painter.repeated();
    painter.keep(picture.log());
    picture.undrawn = false;
  }

  static constexpr std::uint64_t kAllBlocks = ~std::uint64_t{0};

  std::uint64_t changed_ = kAllBlocks;  ///< Blocks with pixels made since changed_rows().
  std::uint16_t wanted_ = 0;            ///< Latches that the game has read.
  /// The game lets latches pile up: two frames' logs went by without a CXCLR. From then on all
  /// latches are looked for at once, until a log has one: a log can be kept for two frames only.
  bool never_clears_ = false;
  std::array<Picture, 2> pictures_{};  ///< By frame.
};

static_assert(std::is_trivially_copyable_v<FastConsole>);

}  // namespace fastrl::envs::atari
