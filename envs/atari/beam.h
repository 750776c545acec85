// The beam of a frame that was written down: plays a log of accesses to the TIA, and makes the
// picture and the collision latches from it. What is not looked at is not made.
//
// It is Tia::write and Tia::catch_up once more, for many accesses at a time. A write shows from
// its effective clock on, or from that of an access before it if that is later; writes that show
// nothing new leave the picture for those that do.
//
// Document: console_spec.md 4.
// Oracle:   tia.h (tests/oracle/test_atari.py: the fast console).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "envs/atari/operations.h"
#include "envs/atari/spans.h"
#include "envs/atari/tia.h"

namespace fastrl::envs::atari {

/// An access to the TIA: 18 bits of cycle, 6 of register, 8 of value.
struct TiaAccess {
  static constexpr std::uint8_t kRead = 0x3F;     ///< In place of a register.
  static constexpr std::uint8_t kNothing = 0x3E;  ///< A write that changes no register.

  std::uint32_t bits;

  static constexpr TiaAccess make(std::uint32_t cycle, int reg, std::uint8_t value) noexcept {
    return {(cycle << 14U) | (static_cast<std::uint32_t>(reg) << 8U) | value};
  }
  [[nodiscard]] constexpr std::uint32_t cycle() const noexcept { return bits >> 14U; }
  [[nodiscard]] constexpr int reg() const noexcept {
    return static_cast<int>((bits >> 8U) & 0x3FU);
  }
  [[nodiscard]] constexpr std::uint8_t value() const noexcept {
    return static_cast<std::uint8_t>(bits);
  }
};

/// One frame, from its start. With `kPixels` it paints; latches it looks for if it is asked to.
template <bool kPixels>
class Beam {
 public:
  /// `tia` at the start of a frame; `frame` is not used without pixels.
  Beam(const Tia& tia, std::uint8_t* frame) noexcept
      : painter_(frame),
        phase_(static_cast<std::uint32_t>(-tia.frame_start) / 3),
        offset_(static_cast<std::uint32_t>(-tia.frame_start) % 3),
        line_(tia.window_begin()),
        window_end_(tia.window_end()),
        painted_(line_ + Tia::kBlankClocks),
        due_(line_),
        on_(tia.shown()),
        shown_{tia.players[0].shown(), tia.players[1].shown()} {}

  /// Latches to look for from now on. Once more after a CXCLR: what is set is not looked for.
  void look_for(std::uint16_t latches) noexcept { painter_.look_for(latches); }

  /// `tia` is the one that this began with.
  void play(Tia& tia, std::span<const TiaAccess> log) noexcept {
    Clock due = due_;
    for (const TiaAccess access : log) {
      const std::uint32_t cycle = access.cycle();
      due = std::max(due, clock_of(cycle) + kLeastDelay[static_cast<std::size_t>(access.reg())]);
      write(tia, due, access.reg(), access.value(), cycle);
    }
    due_ = due;
    make_up(tia, due);
    if (!log.empty()) tia.end_if_late(clock_of(log.back().cycle()));
    tia.drawn = std::min(due_, window_end_);
  }

  /// The picture up to a clock.
  void catch_up(Tia& tia, Clock now) noexcept {
    due_ = std::max(due_, now);
    make_up(tia, due_);
  }

 private:
  /// Of every phase of a line; only the playfield's depends on it.
  static constexpr auto kLeastDelay = [] {
    std::array<std::uint8_t, 64> table = Tia::kDelays[0];
    for (const auto& delays : Tia::kDelays) {
      for (std::size_t i = 0; i < table.size(); ++i) table[i] = std::min(table[i], delays[i]);
    }
    return table;
  }();

  /// When an access to a register shows.
  [[nodiscard]] Clock effective_at(std::uint32_t cycle, int reg) const noexcept {
    const std::uint32_t line_cycle = cycle + phase_;  // Modulo 4: a line has 76.
    return clock_of(cycle) + Tia::kDelays[line_cycle & 3U][static_cast<unsigned>(reg) & 0x3FU];
  }

  FASTRL_INLINE void write(Tia& tia, Clock& due, int reg, std::uint8_t value,
                           std::uint32_t cycle) noexcept {
    using enum Tia::Register;
    const Clock now = clock_of(cycle);
    const auto h = [&] {
      return static_cast<int>(((cycle + phase_) % Tia::kLineCycles * 3U) + offset_);
    };
    const auto number = [reg](int first) { return static_cast<std::size_t>(reg - first); };
    switch (reg) {
      case VSYNC:
        tia.set_vsync(value, now);
        break;
      case VBLANK:
        if (((tia.vblank ^ value) & 2) != 0) make_up(tia, due);
        tia.set_vblank(value, cycle);
        break;
      case NUSIZ0:
      case NUSIZ1: {
        const std::size_t p = number(NUSIZ0);
        const Tia::Things things = (Tia::kHasM0 | Tia::kHasP0) << p;
        if (tia.players[p].first_copy_hidden || !steady(tia, p)) {
          change_line(tia, due, things);
        } else if (value != tia.nusiz[p]) {
          change_shape(tia, due, things);
        }
        tia.nusiz[p] = value;
        tia.players[p].first_copy_hidden = false;
        if (p == 0) tia.missile0 = Tia::Missile0::kNormal;
        break;
      }
      case COLUP0:
      case COLUP1:
      case COLUPF:
      case COLUBK: {
        std::uint8_t& colour = tia.colours[number(COLUP0)];
        const std::uint8_t next = tia.with_colour_loss(value);
        if (kPixels && next != colour) change_line(tia, due, Tia::kColours);
        colour = next;
        break;
      }
      case CTRLPF: {
        const bool mirror = (value & 1) != 0;
        if (value != tia.ctrlpf || mirror != tia.mirror_right_half) {
          change_line(tia, due, Tia::kHasPlayfield | Tia::kHasBall | Tia::kColours);
        }
        tia.ctrlpf = value;
        if (h() < Tia::kMirrorUntil) tia.mirror_right_half = mirror;
        break;
      }
      case REFP0:
      case REFP1:
        set_player(tia, due, number(REFP0), &Tia::Player::reflect, (value & 8) != 0);
        break;
      case PF0:
        due = std::max(due, effective_at(cycle, PF0));
        set_playfield(tia, due, tia.with_pf0(value));
        break;
      case PF1:
        due = std::max(due, effective_at(cycle, PF1));
        set_playfield(tia, due, tia.with_pf1(value));
        break;
      case PF2:
        due = std::max(due, effective_at(cycle, PF2));
        set_playfield(tia, due, tia.with_pf2(value));
        break;
      case RESP0:
      case RESP1: {
        const std::size_t p = number(RESP0);
        make_up(tia, due);
        const Tia::Strobe strobe = tia.strobe_player(p, h());
        if (strobe.old_copy_shown) {
          due = std::max(due, plus(now, Tia::kCopyClocks));
          make_up(tia, due);
        }
        painter_.changed(Tia::kHasP0 << p);
        tia.reset_player(p, strobe);
        break;
      }
      case RESM0:
      case RESM1: {
        const std::size_t m = number(RESM0);
        const std::int16_t next = tia.missile_position(m, h(), now);
        if (!steady(tia, m)) {
          change_line(tia, due, Tia::kHasM0 << m);
        } else if (tia.missiles[m].shown() && next != tia.positions[Tia::kM0 + m]) {
          change_shape(tia, due, Tia::kHasM0 << m);
        }
        tia.positions[Tia::kM0 + m] = next;
        if (m == 0) tia.missile0 = Tia::Missile0::kNormal;
        break;
      }
      case RESBL: {
        const std::int16_t next = tia.ball_position(h(), now);
        if (tia.ball.shown() && next != tia.positions[Tia::kBall]) {
          change_shape(tia, due, Tia::kHasBall);
        }
        tia.positions[Tia::kBall] = next;
        break;
      }
      case GRP0: {
        auto& [zero, one] = tia.players;
        const std::uint8_t of_one = one.delay ? one.faced(one.graphics) : shown_[1];
        const std::uint8_t of_zero = zero.delay ? shown_[0] : zero.faced(value);
        show_players(tia, due, of_zero, of_one);
        zero.graphics = value;
        one.delayed = one.graphics;
        break;
      }
      case GRP1: {
        auto& [zero, one] = tia.players;
        const std::uint8_t of_zero = zero.delay ? zero.faced(zero.graphics) : shown_[0];
        const std::uint8_t of_one = one.delay ? shown_[1] : one.faced(value);
        show_players(tia, due, of_zero, of_one);
        one.graphics = value;
        zero.delayed = zero.graphics;
        Tia::Ball next = tia.ball;
        next.delayed = next.enabled;
        set_ball(tia, due, next);
        break;
      }
      case ENAM0:
      case ENAM1: {
        Tia::Missile next = tia.missiles[number(ENAM0)];
        next.enabled = (value & 2) != 0;
        set_missile(tia, due, number(ENAM0), next);
        break;
      }
      case ENABL: {
        Tia::Ball next = tia.ball;
        next.enabled = (value & 2) != 0;
        set_ball(tia, due, next);
        break;
      }
      case HMM0:
        if (tia.makes_stars(value, now)) {
          change_line(tia, due, Tia::kHasM0);
          tia.start_stars();
        }
        [[fallthrough]];
      case HMP0:
      case HMP1:
      case HMM1:
      case HMBL:
        tia.motions[number(HMP0)] = value >> 4;
        break;
      case VDELP0:
      case VDELP1:
        set_player(tia, due, number(VDELP0), &Tia::Player::delay, (value & 1) != 0);
        break;
      case VDELBL: {
        Tia::Ball next = tia.ball;
        next.delay = (value & 1) != 0;
        set_ball(tia, due, next);
        break;
      }
      case RESMP0:
      case RESMP1:
        change_line(tia, due, Tia::kHasM0 << number(RESMP0));
        tia.lock_missile(number(RESMP0), (value & 2) != 0);
        set_on(Tia::kHasM0 << number(RESMP0), tia.missiles[number(RESMP0)].shown());
        break;
      case HMOVE:
        move(tia, due, h() / 3, now);
        break;
      case HMCLR:
        tia.motions = {};
        break;
      case CXCLR:
        tia.collisions = 0;
        break;
      case TiaAccess::kRead:
        due = std::max(due, effective_at(cycle, value));
        break;
      default:
        break;
    }
  }

  /// Missile 0 is moved by the ends of lines while there are stars.
  static bool steady(const Tia& tia, std::size_t m) noexcept {
    return m == 1 || (!tia.stars_on && tia.missile0 == Tia::Missile0::kNormal);
  }

  /// Sets only this flag: the change may end lines, which set others.
  FASTRL_INLINE void set_player(Tia& tia, Clock due, std::size_t p, bool Tia::Player::* flag,
                                bool value) noexcept {
    Tia::Player next = tia.players[p];
    next.*flag = value;
    if (const std::uint8_t bits = next.shown(); bits != shown_[p]) {
      change_shape(tia, due, Tia::kHasP0 << p);
      shown_[p] = bits;
      set_on(Tia::kHasP0 << p, bits != 0);
    }
    tia.players[p].*flag = value;
  }

  FASTRL_INLINE void show_players(Tia& tia, Clock due, std::uint8_t of_zero,
                                  std::uint8_t of_one) noexcept {
    const Tia::Things things =
        (of_zero != shown_[0] ? Tia::kHasP0 : 0U) | (of_one != shown_[1] ? Tia::kHasP1 : 0U);
    if (things == 0) return;
    change_shape(tia, due, things);
    shown_ = {of_zero, of_one};
    set_on(Tia::kHasP0, of_zero != 0);
    set_on(Tia::kHasP1, of_one != 0);
  }

  FASTRL_INLINE void set_playfield(Tia& tia, Clock due, std::uint32_t cells) noexcept {
    if (cells != tia.playfield) change_shape(tia, due, Tia::kHasPlayfield);
    tia.playfield = cells;
    set_on(Tia::kHasPlayfield, cells != 0);
  }

  FASTRL_INLINE void set_ball(Tia& tia, Clock due, Tia::Ball next) noexcept {
    if (next.shown() != tia.ball.shown()) change_shape(tia, due, Tia::kHasBall);
    tia.ball = next;
    set_on(Tia::kHasBall, next.shown());
  }

  FASTRL_INLINE void set_missile(Tia& tia, Clock due, std::size_t m, Tia::Missile next) noexcept {
    if (next.shown() != tia.missiles[m].shown()) change_shape(tia, due, Tia::kHasM0 << m);
    tia.missiles[m] = next;
    set_on(Tia::kHasM0 << m, next.shown());
  }

  FASTRL_INLINE void set_on(Tia::Things thing, bool shown) noexcept {
    on_ = shown ? on_ | thing : on_ & ~thing;
  }

  void move(Tia& tia, Clock due, int cycle, Clock now) noexcept {
    if (!unseen_ends(tia, due)) make_up(tia, due);
    show_first_copies(tia);
    if (tia.missile0 != Tia::Missile0::kNormal) painter_.changed(Tia::kHasM0);
    painter_.changed(tia.move(cycle, now));
  }

  /// Whether it does not matter which lines have ended: there is nothing to see, and their ends
  /// change nothing. The comb is there for a line at least, so not near the end of the window.
  [[nodiscard]] bool unseen_ends(const Tia& tia, Clock due) const noexcept {
    return painter_.idle(tia, on_) && due < window_end_ - (2 * Tia::kLineClocks) &&
           !tia.line_end_matters();
  }

  /// Before a change of what the ends of lines change as well: the lines before must have ended.
  FASTRL_INLINE void change_line(Tia& tia, Clock due, Tia::Things things) noexcept {
    make_up(tia, due);
    painter_.changed(things);
  }

  /// Before a change of where things are.
  FASTRL_INLINE void change_shape(Tia& tia, Clock due, Tia::Things things) noexcept {
    if (!painter_.idle(tia, on_ | things)) make_up(tia, due);
    painter_.changed(things);
  }

  /// Makes what is due.
  FASTRL_INLINE void make_up(Tia& tia, Clock due) noexcept {
    if (due <= painted_) return;
    const Clock target = std::min(due, window_end_);
#ifdef __x86_64__
    if (spans::paints_wide) return advance_wide(tia, target);
#endif
    advance_plain(tia, target);
  }

#ifdef __x86_64__
  [[gnu::noinline, gnu::flatten, FASTRL_WIDE]] void advance_wide(Tia& tia, Clock target) noexcept {
    advance<true>(tia, target);
  }
#endif
  [[gnu::noinline]] void advance_plain(Tia& tia, Clock target) noexcept {
    advance<false>(tia, target);
  }

  template <bool kWide>
  void advance(Tia& tia, Clock target) noexcept {
    if (painter_.idle(tia, on_)) {
      pass(tia, target);
    } else {
      // Strictly past the end: reaching it exactly leaves the line open until the next time.
      while (target > line_ + Tia::kLineClocks) {
        paint<kWide>(tia, Tia::kLineClocks);
        end_line(tia);
        line_ += Tia::kLineClocks;
        row_ += Tia::kWidth;
        painted_ = line_ + Tia::kBlankClocks;
      }
      if (target > painted_) paint<kWide>(tia, target - line_);
      painted_ = std::max(painted_, target);
    }
    if (target == window_end_) painted_ = Tia::kNever;
  }

  /// Paints the line at the beam up to a clock of it.
  template <bool kWide>
  void paint(Tia& tia, int end) noexcept {
    const int first = painted_ - line_ - Tia::kBlankClocks;
    const std::size_t pen = row_ + static_cast<std::size_t>(first);
    painter_.template paint<kWide>(tia, on_, pen, first, end - Tia::kBlankClocks - first);
    if (tia.comb_pending && first < Tia::kCombColumns) {
      painter_.blank(pen, Tia::kCombColumns - first);
      if (end >= Tia::kCombEnd) tia.comb_pending = false;
    }
  }

  /// The same without a picture.
  void pass(Tia& tia, Clock target) noexcept {
    const int ends = (target - line_ - 1) / Tia::kLineClocks;
    const int into = target - line_ - (ends * Tia::kLineClocks);
    const bool through_first =
        painted_ - line_ < Tia::kCombEnd && (ends > 0 || into >= Tia::kCombEnd);
    const bool through_later = ends > 0 && (ends > 1 || into >= Tia::kCombEnd);
    if (through_first || through_later) tia.comb_pending = false;
    // With no stars a second end changes nothing more.
    for (int i = 0; i < (tia.stars_on ? ends : std::min(ends, 1)); ++i) end_line(tia);
    line_ += ends * Tia::kLineClocks;
    painted_ = std::max(line_ + Tia::kBlankClocks, target);
  }

  /// Before Tia does so.
  void show_first_copies(const Tia& tia) noexcept {
    for (std::size_t p = 0; p < 2; ++p) {
      if (tia.players[p].first_copy_hidden) painter_.changed(Tia::kHasP0 << p);
    }
  }

  void end_line(Tia& tia) noexcept {
    if (!tia.line_end_matters()) return;
    show_first_copies(tia);
    if (tia.mirror_right_half != ((tia.ctrlpf & 1) != 0)) painter_.changed(Tia::kHasPlayfield);
    if (tia.stars_on) painter_.changed(Tia::kHasM0);
    tia.end_line();
  }

  SpanPainter<kPixels> painter_;
  std::uint32_t phase_;   ///< Cycles of the first line before the frame,
  std::uint32_t offset_;  ///< and clocks, after a frame in which the clock wrapped around.
  Clock line_;            ///< Where the line at the beam starts.
  Clock window_end_;
  Clock painted_;  ///< Up to here there is nothing to paint; kNever behind the window.
  Clock due_;      ///< Up to here the picture is what the registers say.
  std::size_t row_ = 0;
  Tia::Things on_;                     ///< Tia::shown
  std::array<std::uint8_t, 2> shown_;  ///< The bits that the players show.
};

}  // namespace fastrl::envs::atari
