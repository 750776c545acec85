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

#include "envs/atari/frame_memo.h"
#include "envs/atari/operations.h"
#include "envs/atari/spans.h"
#include "envs/atari/tia.h"

namespace fastrl::envs::atari {

/// One frame without stars, from its start. With `kPixels` it paints; latches it looks for if it is
/// asked to.
template <bool kPixels>
class Beam {
 public:
  /// `tia` at the start of a frame; `frame` is not used without pixels, which are greys if there
  /// are any. What `memo`, if there is one, has of an earlier frame is used. It becomes that of
  /// this one, but for a frame without pixels if it is that of the pixels.
  Beam(const Tia& tia, std::uint8_t* frame, const std::uint8_t* greys, FrameMemo* memo) noexcept
      : painter_(frame, greys),
        phase_(static_cast<std::uint32_t>(-tia.frame_start) / 3),
        offset_(static_cast<std::uint32_t>(-tia.frame_start) % 3),
        line_(tia.window_begin()),
        window_end_(tia.window_end()),
        painted_(line_ + Tia::kBlankClocks),
        due_(line_),
        on_(tia.shown()),
        shown_{tia.players[0].shown(), tia.players[1].shown()},
        memo_(memo),
        cursor_(memo, tia, kPixels) {}

  /// Latches to look for from now on; what is set is not looked for. Over a CXCLR: none, then
  /// again.
  void look_for(Tia& tia, std::uint16_t latches) noexcept {
    if (latches == latches_) return;
    make_up(tia, due_);
    painter_.look_for(latches);
    latches_ = latches;
    sought_ &= latches;
  }

  /// `tia` is the one that this began with. What is due need not be made before `finish`.
  void play(Tia& tia, std::span<const TiaAccess> log) noexcept {
    cursor_.find_same(log);
    if (cursor_.next_access() == MemoCursor::kNone) {
      play<false>(tia, log);
    } else {
      play<true>(tia, log);
    }
    if (!log.empty()) tia.end_if_late(clock_of(log.back().cycle()));
  }

  /// Makes what is due at the end of the frame.
  void finish(Tia& tia) noexcept {
    make_up(tia, due_);
    tia.drawn = std::min(due_, window_end_);
  }

  /// Whether missile 0 became stars, of which this knows nothing more.
  [[nodiscard]] bool starry() const noexcept { return starry_; }

  /// Blocks of FrameMemo whose pixels are the same as before.
  [[nodiscard]] std::uint64_t repeated() const noexcept { return cursor_.repeated(); }

  /// At the end of a frame with this log.
  void keep(std::span<const TiaAccess> log) noexcept { cursor_.keep(log); }

  /// The latches up to a clock.
  void catch_up(Tia& tia, Clock now) noexcept {
    due_ = std::max(due_, now);
    if (painter_.may_meet(tia, on_)) make_up(tia, due_);
  }

 private:
  template <bool kMemo>
  void play(Tia& tia, std::span<const TiaAccess> log) noexcept {
    Clock due = due_;
    for (std::size_t i = 0; i < log.size(); ++i) {
      if (kMemo && log[i].bits >= cursor_.next_access()) [[unlikely]] {
        due_ = due;
        i = begin_blocks(tia, log, i);
        due = due_;
      }
      const TiaAccess access = log[i];
      const std::uint32_t cycle = access.cycle();
      due = std::max(due, clock_of(cycle) + kLeastDelay[static_cast<std::size_t>(access.reg())]);
      write<kMemo>(tia, due, access.reg(), access.value(), cycle);
    }
    due_ = due;
  }

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

  template <bool kMemo>
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
        if (kMemo) things_ |= blocks::kUnlike;
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
        if (tia.players[p].first_copy_hidden) {
          change_line(tia, due, things);
        } else if (value != tia.nusiz[p] && (on_ & things) != 0) {
          change_shape(tia, due, things);
        }
        tia.nusiz[p] = value;
        tia.players[p].first_copy_hidden = false;
        break;
      }
      case COLUP0:
      case COLUP1:
      case COLUPF:
      case COLUBK: {
        std::uint8_t& colour = tia.colours[number(COLUP0)];
        const std::uint8_t next = tia.with_colour_loss(value);
        if (kPixels && next != colour) change_colour(tia, due, number(COLUP0));
        colour = next;
        break;
      }
      case CTRLPF: {
        const bool mirror = (value & 1) != 0;
        if (value != tia.ctrlpf || mirror != tia.mirror_right_half) {
          change_line(tia, due, Tia::kHasPlayfield | Tia::kHasBall | Tia::kColours);
        }
        tia.ctrlpf = value;
        if (kMemo) things_ |= (value & 2) != 0 ? blocks::kScore : 0U;
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
        const Tia::Strobe strobe = tia.strobe_player(p, h());
        if (strobe.old_copy_shown) due = std::max(due, plus(now, Tia::kCopyClocks));
        // A copy that is hidden is so until the end of this line.
        if (shown_[p] != 0 || due > line_ + Tia::kLineClocks) {
          change_line(tia, due, Tia::kHasP0 << p);
        }
        tia.reset_player(p, strobe);
        break;
      }
      case RESM0:
      case RESM1: {
        const std::size_t m = number(RESM0);
        const std::int16_t next = tia.missile_position(m, h(), now);
        if (tia.missiles[m].shown() && next != tia.positions[Tia::kM0 + m]) {
          change_shape(tia, due, Tia::kHasM0 << m);
        }
        tia.positions[Tia::kM0 + m] = next;
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
        if (kMemo) things_ |= value != 0 ? blocks::kP0HasBits : 0U;
        zero.graphics = value;
        one.delayed = one.graphics;
        break;
      }
      case GRP1: {
        auto& [zero, one] = tia.players;
        const std::uint8_t of_zero = zero.delay ? zero.faced(zero.graphics) : shown_[0];
        const std::uint8_t of_one = one.delay ? shown_[1] : one.faced(value);
        show_players(tia, due, of_zero, of_one);
        if (kMemo) things_ |= value != 0 ? blocks::kP0HasBits << 1U : 0U;
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
        if (kMemo) things_ |= next.enabled ? blocks::kBallEnabled : 0U;
        set_ball(tia, due, next);
        break;
      }
      case HMM0:
        starry_ = starry_ || tia.makes_stars(value, now);
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
        if (kMemo) things_ |= blocks::kMoves;
        move(tia, due, static_cast<int>((cycle + phase_) % Tia::kLineCycles), now);
        break;
      case HMCLR:
        tia.motions = {};
        break;
      case CXCLR:
        tia.collisions = 0;
        if (kMemo) {
          things_ |= blocks::kClears;
          sought_ = latches_;
        }
        break;
      case TiaAccess::kRead:
        due = std::max(due, effective_at(cycle, value));
        break;
      default:
        break;
    }
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
    things_ |= on_;
  }

  void move(Tia& tia, Clock due, int cycle, Clock now) noexcept {
    if (!unseen_ends(tia, due)) make_up(tia, due);
    show_first_copies(tia);
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

  /// Before a change of COLUP0, COLUP1, COLUPF or COLUBK.
  FASTRL_INLINE void change_colour(Tia& tia, Clock due, std::size_t which) noexcept {
    static constexpr std::array<Tia::Things, 4> kThings{
        Tia::kHasP0 | Tia::kHasM0, Tia::kHasP1 | Tia::kHasM1, Tia::kHasPlayfield | Tia::kHasBall};
    const bool score = (tia.ctrlpf & 2) != 0 && (on_ & Tia::kHasPlayfield) != 0;
    const bool is_seen = which == 3 || (on_ & kThings[which]) != 0 || (score && which < 2);
    if (is_seen) make_up(tia, due);
    painter_.changed(Tia::kColours);
  }

  /// Makes what is due.
  FASTRL_INLINE void make_up(Tia& tia, Clock due) noexcept {
    if (due <= painted_) return;
    const Clock target = std::min(due, window_end_);
#ifdef __x86_64__
    if (vectors >= Vectors::kAvx512) return advance_avx512(tia, target);
    if (vectors == Vectors::kAvx2) return advance_avx2(tia, target);
#endif
    advance_plain(tia, target);
  }

#ifdef __x86_64__
  [[gnu::noinline, gnu::flatten, FASTRL_AVX512]] void advance_avx512(Tia& tia,
                                                                     Clock target) noexcept {
    advance<Vectors::kAvx512>(tia, target);
  }
  [[gnu::noinline, gnu::flatten, FASTRL_AVX2]] void advance_avx2(Tia& tia, Clock target) noexcept {
    advance<Vectors::kAvx2>(tia, target);
  }
#endif
  [[gnu::noinline]] void advance_plain(Tia& tia, Clock target) noexcept {
    advance<Vectors::kNone>(tia, target);
  }

  template <Vectors kVectors>
  void advance(Tia& tia, Clock target) noexcept {
    if (painter_.idle(tia, on_)) {
      pass(tia, target);
    } else {
      // Strictly past the end: reaching it exactly leaves the line open until the next time.
      while (target > line_ + Tia::kLineClocks) {
        if (painted_ < line_ + Tia::kLineClocks) paint<kVectors>(tia, Tia::kLineClocks);
        end_line(tia);
        line_ += Tia::kLineClocks;
        row_ += Tia::kWidth;
        painted_ = line_ + Tia::kBlankClocks;
      }
      if (target > painted_) paint<kVectors>(tia, target - line_);
      painted_ = std::max(painted_, target);
    }
    if (target == window_end_) painted_ = Tia::kNever;
  }

  /// Paints the line at the beam up to a clock of it.
  template <Vectors kVectors>
  void paint(Tia& tia, int end) noexcept {
    const int first = painted_ - line_ - Tia::kBlankClocks;
    const std::size_t pen = row_ + static_cast<std::size_t>(first);
    painter_.template paint<kVectors>(tia, on_, pen, first, end - Tia::kBlankClocks - first);
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
    if (ends > 0) end_line(tia);  // A second end changes nothing more.
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
    tia.end_line();
  }

  // A frame before, in blocks of rows.

  /// The next access is at the cursor or behind it. Returns how far the memo reaches: here, or
  /// further.
  [[gnu::noinline]] std::size_t begin_blocks(Tia& tia, std::span<const TiaAccess> log,
                                             std::size_t i) noexcept {
    do {
      due_ = std::max(due_, cursor_.start());
      make_up(tia, due_);
      if (opened_) close_block(tia);
      i += repeat_blocks(tia, log.subspan(i));
      if (cursor_.records()) open_block(tia);
      cursor_.find_next();
    } while (log[i].bits >= cursor_.next_access());
    return i;
  }

  void open_block(const Tia& tia) noexcept {
    memo_->blocks[cursor_.block()].state = {
        .registers = tia, .positions = tia.positions, .last_hmove = tia.last_hmove, .due = due_};
    opened_ = cursor_.opens();
    things_ = on_ | blocks::things_of(tia);
    sought_ = static_cast<std::uint16_t>(latches_ & ~tia.collisions);
  }

  /// The one before the cursor.
  void close_block(const Tia& tia) noexcept {
    FrameMemo::Block& block = memo_->blocks[cursor_.block() - 1];
    block.sought = sought_;
    block.met = static_cast<std::uint16_t>(sought_ & tia.collisions);
    block.things = static_cast<std::uint16_t>(things_);
    memo_->known |= bit(cursor_.block() - 1);
    memo_->understood &= ~bit(cursor_.block() - 1);
  }

  /// From the cursor on, as long as they are as they were. Returns how many accesses that are.
  std::size_t repeat_blocks(Tia& tia, std::span<const TiaAccess> log) noexcept {
    if (!cursor_.may_repeat()) return 0;
    const FrameMemo::State start = memo_->blocks[cursor_.block()].state;
    blocks::Registers differ = blocks::different(tia, start);
    if (start.due != due_ || (differ & ~blocks::kLoose) != 0 || !same_hmove(tia, start)) return 0;
    const std::size_t first = cursor_.block();
    blocks::Things things = 0;
    std::size_t end = 0;
    for (; cursor_.may_repeat(); cursor_.skip()) {
      FrameMemo::Block& block = memo_->blocks[cursor_.block()];
      if ((block.things & blocks::kUnlike) != 0) break;
      const bool clears = (block.things & blocks::kClears) != 0;
      const unsigned before = clears ? 0U : tia.collisions;
      const unsigned sought = latches_ & ~before;
      if ((sought & ~static_cast<unsigned>(block.sought)) != 0) break;
      const std::size_t begin = end;
      end += cursor_.num_accesses();
      if (differ != 0) {
        const blocks::Effect& effect = effect_of(block, log.subspan(begin, end - begin));
        if ((effect.used & differ) != 0) {
          end = begin;
          break;
        }
        if (cursor_.records()) blocks::take(block.state, differ, tia, start);
        differ &= ~effect.set;
      }
      things |= block.things;
      tia.collisions = static_cast<std::uint16_t>(before | (block.met & sought));
    }
    if (cursor_.block() == first) return 0;

    FrameMemo::State state = memo_->blocks[cursor_.block()].state;
    blocks::take(state, differ, tia, start);
    static_cast<TiaRegisters&>(tia) = state.registers;
    tia.positions = state.positions;
    if ((things & blocks::kMoves) != 0) tia.last_hmove = state.last_hmove;
    go_to(tia, state.due);
    return end;
  }

  /// Of the block at the cursor, which has these accesses.
  const blocks::Effect& effect_of(FrameMemo::Block& block,
                                  std::span<const TiaAccess> log) noexcept {
    if ((memo_->understood & bit(cursor_.block())) == 0) {
      block.effect = {.used = blocks::used_by(block.things), .set = 0};
      for (const TiaAccess access : log) {
        const blocks::Effect& one = blocks::kEffects[static_cast<std::size_t>(access.reg())];
        block.effect.used |= one.used;
        block.effect.set |= one.set;
      }
      memo_->understood |= bit(cursor_.block());
    }
    return block.effect;
  }

  /// The beam is at the cursor, with other registers than before.
  void go_to(const Tia& tia, Clock due) noexcept {
    due_ = due;
    const int row = cursor_.row() - (due > cursor_.start() ? 0 : 1);
    line_ = cursor_.start() + ((row - cursor_.row()) * Tia::kLineClocks);
    row_ = static_cast<std::size_t>(row) * Tia::kWidth;
    painted_ = cursor_.at_end() ? Tia::kNever : std::max(line_ + Tia::kBlankClocks, due);
    on_ = tia.shown();
    shown_ = {tia.players[0].shown(), tia.players[1].shown()};
    painter_.forget();
  }

  /// What an HMOVE does to RESxx and HMM0 is over after 63 clocks.
  [[nodiscard]] bool same_hmove(const Tia& tia, const FrameMemo::State& start) const noexcept {
    const auto over = [this](Clock hmove) {
      return static_cast<Clock>(since(cursor_.start(), hmove)) > 63;
    };
    return tia.last_hmove == start.last_hmove || (over(tia.last_hmove) && over(start.last_hmove));
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
  std::uint16_t latches_ = 0;          ///< That are looked for.
  bool starry_ = false;

  FrameMemo* memo_;
  MemoCursor cursor_;
  bool opened_ = false;        ///< The block before the cursor is recorded:
  blocks::Things things_ = 0;  ///< in it,
  std::uint16_t sought_ = 0;   ///< FrameMemo::Block::sought.
};

}  // namespace fastrl::envs::atari
