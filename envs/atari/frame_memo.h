// A frame that was written down, and what the beam made of it: a later frame that is the same in
// places need not be played there.
//
// Most rows of a game's picture come from the same accesses at the same clocks as four frames
// before. Where a row's accesses, and all registers that they meet, are those of the frame before,
// the picture, the latches and the registers at the end are, too. An object that has moved makes a
// difference only to the rows that show it: elsewhere its position is carried along.
//
// Oracle: tia.h (tests/oracle/test_atari.py: the fast console).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "envs/atari/tia.h"

namespace fastrl::envs::atari {

/// An access to the TIA: 18 bits of cycle, 6 of register, 8 of value.
struct TiaAccess {
  static constexpr unsigned kCycleShift = 14;
  static constexpr std::uint32_t kMaxCycles = 1U << (32U - kCycleShift);
  static constexpr std::uint8_t kRead = 0x3F;     ///< In place of a register.
  static constexpr std::uint8_t kNothing = 0x3E;  ///< A write that changes no register.

  std::uint32_t bits;

  static constexpr TiaAccess make(std::uint32_t cycle, int reg, std::uint8_t value) noexcept {
    return {(cycle << kCycleShift) | (static_cast<std::uint32_t>(reg) << 8U) | value};
  }
  [[nodiscard]] constexpr std::uint32_t cycle() const noexcept { return bits >> kCycleShift; }
  [[nodiscard]] constexpr int reg() const noexcept {
    return static_cast<int>((bits >> 8U) & 0x3FU);
  }
  [[nodiscard]] constexpr std::uint8_t value() const noexcept {
    return static_cast<std::uint8_t>(bits);
  }
};

/// What a block of rows and the registers after it depend on.
namespace blocks {

/// Things that were shown somewhere, and:
using Things = Tia::Things;
inline constexpr Things kMoves = 1U << 6U;         ///< There was an HMOVE.
inline constexpr Things kUnlike = 1U << 7U;        ///< Something that is not remembered.
inline constexpr Things kP0HasBits = 1U << 8U;     ///< In one of its two registers; next player 1.
inline constexpr Things kBallEnabled = 1U << 10U;  ///< In one of its two registers.
inline constexpr Things kScore = 1U << 11U;        ///< CTRLPF
inline constexpr Things kClears = 1U << 12U;       ///< There was a CXCLR.

/// But what is shown.
inline Things things_of(const Tia& tia) noexcept {
  const auto& [zero, one] = tia.players;
  return ((zero.graphics | zero.delayed) != 0 ? kP0HasBits : 0U) |
         ((one.graphics | one.delayed) != 0 ? kP0HasBits << 1U : 0U) |
         (tia.ball.enabled || tia.ball.delayed ? kBallEnabled : 0U) |
         ((tia.ctrlpf & 2) != 0 ? kScore : 0U);
}

/// A set of TiaRegisters, a bit for each byte of it, and of positions.
using Registers = std::uint64_t;
static_assert(sizeof(TiaRegisters) + 5 <= 64);
static_assert(std::has_unique_object_representations_v<TiaRegisters>, "compared as bytes");

constexpr Registers at(std::size_t byte) noexcept { return Registers{1} << byte; }
constexpr Registers position(std::size_t object) noexcept {
  return at(sizeof(TiaRegisters) + object);
}
constexpr Registers nusiz(std::size_t p) noexcept { return at(offsetof(TiaRegisters, nusiz) + p); }
constexpr Registers colour(std::size_t i) noexcept {
  return at(offsetof(TiaRegisters, colours) + i);
}
constexpr Registers motion(std::size_t object) noexcept {
  return at(offsetof(TiaRegisters, motions) + object);
}
constexpr Registers reflect(std::size_t p) noexcept {
  return at(offsetof(TiaRegisters, players) + (p * sizeof(Tia::Player)) +
            offsetof(Tia::Player, reflect));
}
constexpr Registers delay(std::size_t p) noexcept {
  return at(offsetof(TiaRegisters, players) + (p * sizeof(Tia::Player)) +
            offsetof(Tia::Player, delay));
}
inline constexpr Registers kBallDelay =
    at(offsetof(TiaRegisters, ball) + offsetof(Tia::Ball, delay));

/// What a write does to the registers that need not be what they were. One that is neither used
/// nor set keeps its value; a position goes on from where it is.
struct Effect {
  Registers used = 0;
  Registers set = 0;  ///< Whatever they were before.
};
inline constexpr std::array<Effect, 64> kEffects = [] {
  std::array<Effect, 64> table{};
  for (std::size_t p = 0; p < 2; ++p) {
    const Registers player = position(Tia::kP0 + p);
    const Registers missile = position(Tia::kM0 + p);
    table[Tia::NUSIZ0 + p].set = nusiz(p);
    table[Tia::REFP0 + p].set = reflect(p);
    table[Tia::VDELP0 + p].set = delay(p);
    table[Tia::RESP0 + p] = {player | nusiz(p), player};
    table[Tia::RESM0 + p].set = missile;
    table[Tia::RESMP0 + p].used = player | missile | nusiz(p);
  }
  for (std::size_t i = 0; i < 3; ++i) table[Tia::COLUP0 + i].set = colour(i);
  for (std::size_t object = 0; object < 5; ++object) {
    table[Tia::HMP0 + object].set = motion(object);
    table[Tia::HMCLR].set |= motion(object);
    table[Tia::HMOVE].used |= motion(object);
  }
  table[Tia::HMM0].used = motion(Tia::kM0);
  table[Tia::RESBL].set = position(Tia::kBall);
  table[Tia::VDELBL].set = kBallDelay;
  return table;
}();

/// Those that matter where such things are.
inline constexpr std::array<Registers, 64> kUsedByShown = [] {
  std::array<Registers, 64> table{};
  for (Things shown = 0; shown < table.size(); ++shown) {
    Registers& used = table[shown];
    for (std::size_t p = 0; p < 2; ++p) {
      const Registers both = nusiz(p) | colour(p);
      if ((shown & (Tia::kHasP0 << p)) != 0) used |= position(Tia::kP0 + p) | both | reflect(p);
      if ((shown & (Tia::kHasM0 << p)) != 0) used |= position(Tia::kM0 + p) | both;
    }
    if ((shown & Tia::kHasBall) != 0) used |= position(Tia::kBall);
    if ((shown & (Tia::kHasBall | Tia::kHasPlayfield)) != 0) used |= colour(2);
  }
  return table;
}();
constexpr Registers used_by(Things things) noexcept {
  return kUsedByShown[things & 63U] | ((things & kP0HasBits) != 0 ? delay(0) : 0) |
         ((things & (kP0HasBits << 1U)) != 0 ? delay(1) : 0) |
         ((things & kBallEnabled) != 0 ? kBallDelay : 0) |
         ((things & kScore) != 0 ? colour(0) | colour(1) : 0);
}

/// What used_by and kEffects say everything of; of others every difference counts.
inline constexpr Registers kLoose = used_by(~0U) | kEffects[Tia::HMOVE].used;

/// All that the rest of a frame depends on but the latches.
struct State {
  TiaRegisters registers;
  std::array<std::int16_t, 5> positions{};
  Clock last_hmove = 0;
  Clock due = 0;  ///< As Beam's; at least the clock of this moment.
};

/// A bit for each byte that is not 0.
constexpr unsigned bytes_in(std::uint64_t word) noexcept {
  constexpr std::uint64_t kLow = 0x7F7F7F7F7F7F7F7F;
  const std::uint64_t highs = (((word & kLow) + kLow) | word) & ~kLow;
  return static_cast<unsigned>(((highs >> 7U) * 0x0102040810204080) >> 56U);
}

inline Registers different(const Tia& tia, const State& state) noexcept {
  using Words = std::array<std::uint64_t, sizeof(TiaRegisters) / 8>;
  const auto ours = std::bit_cast<Words>(static_cast<const TiaRegisters&>(tia));
  const auto theirs = std::bit_cast<Words>(state.registers);
  Registers differ = 0;
  for (std::size_t word = 0; word < ours.size(); ++word) {
    differ |= Registers{bytes_in(ours[word] ^ theirs[word])} << (8 * word);
  }
  for (std::size_t object = 0; object < 5; ++object) {
    differ |= tia.positions[object] != state.positions[object] ? position(object) : 0;
  }
  return differ;
}

/// `state` gets these registers from `tia`; positions as far from it as `tia` is from `start`.
inline void take(State& state, Registers which, const Tia& tia, const State& start) noexcept {
  const auto* const from =
      reinterpret_cast<const unsigned char*>(static_cast<const TiaRegisters*>(&tia));
  auto* const to = reinterpret_cast<unsigned char*>(&state.registers);
  for (; which != 0; which &= which - 1) {
    const auto i = static_cast<std::size_t>(std::countr_zero(which));
    if (i < sizeof(TiaRegisters)) {
      to[i] = from[i];
      continue;
    }
    const std::size_t object = i - sizeof(TiaRegisters);
    int position = state.positions[object] + tia.positions[object] - start.positions[object];
    if (position < 0) position += Tia::kWidth;
    if (position >= Tia::kWidth) position -= Tia::kWidth;
    state.positions[object] = static_cast<std::int16_t>(position);
  }
}

}  // namespace blocks

struct FrameMemo {
  static constexpr std::size_t kMaxAccesses = 3072;  ///< Longer frames are not remembered.

  using State = blocks::State;

  /// So many rows of the picture. The last one may have fewer, and one behind it is their end.
  static constexpr int kBlockRows = 6;
  static constexpr std::size_t kMaxBlocks = (Tia::kMaxHeight + kBlockRows - 1) / kBlockRows;
  struct Block {
    std::uint16_t first = 0;   ///< The first access in it or after it.
    std::uint16_t sought = 0;  ///< Latches looked for to its end from its start or last CXCLR,
    std::uint16_t met = 0;     ///< and those of them that were set.
    std::uint16_t things = 0;  ///< blocks::Things
    blocks::Effect effect;     ///< Of its accesses and things, once somebody asks.
    State state;               ///< At their start.
  };

  bool complete = false;  ///< Not while a frame is on its way, nor if its window was left early.
  bool painted = false;   ///< It is what the pixels show.
  bool colour_loss = false;
  bool thorough = false;         ///< Most of it was repeated: all of the next is recorded.
  std::uint8_t num_useless = 0;  ///< Frames that it cost more than it saved, the last ones;
  std::uint8_t pause = 0;        ///< after some, so many do without it,
  std::uint8_t last_pause = 0;   ///< and these did.
  Clock frame_start = 0;
  std::uint64_t known = 0;       ///< By block: more than `first`, and the state after it;
  std::uint64_t understood = 0;  ///< and its effect, too.
  std::array<Block, kMaxBlocks + 1> blocks{};
  std::array<TiaAccess, kMaxAccesses> accesses{};
};

constexpr std::uint64_t bit(std::size_t i) noexcept { return std::uint64_t{1} << i; }
static_assert(FrameMemo::kMaxBlocks < 63);

/// What of a memo the frame on its way can use, and what it leaves there. It stands at a block in
/// which something can be repeated, recorded, or has come to its end.
class MemoCursor {
 public:
  // Costs and savings, in accesses that are played.
  static constexpr std::size_t kFrameCost = 70;  ///< Comparing two short logs; long ones: and
  static constexpr std::size_t kLogCost = 8;     ///< one for so many.
  static constexpr std::size_t kLookCost = 14;
  static constexpr std::size_t kPaintedBlock = 14;  ///< Rows that are neither painted nor pooled.
  static constexpr std::size_t kLeastRun = 8;       ///< What a run of blocks must save.
  /// After so many frames that cost more than they saved, some do without a memo; more and more of
  /// them, for as long as that goes on.
  static constexpr std::uint8_t kPatience = 6;
  static constexpr int kPause = 30;
  static constexpr int kLongestPause = 240;

  static constexpr std::uint32_t kNone = ~0U;

  /// `tia` at the start of a frame. There need not be a memo.
  MemoCursor(FrameMemo* memo, const Tia& tia, bool paints) noexcept
      : memo_(memo),
        begin_(tia.window_begin()),
        height_(tia.window_height),
        last_(static_cast<std::size_t>((height_ + FrameMemo::kBlockRows - 1) /
                                       FrameMemo::kBlockRows)),
        block_saves_(paints ? kPaintedBlock : 0) {
    if (memo == nullptr) return;
    if (memo->pause > 0) {
      --memo->pause;
      memo->complete = false;
      return;
    }
    const bool colour_loss = tia.with_colour_loss(0) != 0;
    remembers_ = memo->complete && memo->frame_start == tia.frame_start &&
                 memo->colour_loss == colour_loss && (!paints || memo->painted);
    records_ = paints || !memo->complete || !memo->painted;
    if (!records_) return;
    memo->complete = false;
    memo->painted = paints;
    memo->frame_start = tia.frame_start;
    memo->colour_loss = colour_loss;
    if (!remembers_) memo->known = 0;
  }

  [[nodiscard]] bool records() const noexcept { return records_; }

  /// An access from here on is at the cursor or behind it; kNone if there is nothing left to do.
  [[nodiscard]] std::uint32_t next_access() const noexcept { return next_access_; }

  [[nodiscard]] std::size_t block() const noexcept { return block_; }
  [[nodiscard]] int row() const noexcept { return row_of(block_); }
  [[nodiscard]] Clock start() const noexcept { return begin_ + (row() * Tia::kLineClocks); }
  [[nodiscard]] bool at_end() const noexcept { return block_ == last_; }
  [[nodiscard]] std::size_t num_accesses() const noexcept {
    return static_cast<std::size_t>(memo_->blocks[block_ + 1].first - memo_->blocks[block_].first);
  }

  /// Whether the memo has this block, with the same accesses.
  [[nodiscard]] bool may_repeat() const noexcept {
    return (same_ & memo_->known & bit(block_)) != 0;
  }
  /// To the next block, without playing this one.
  void skip() noexcept {
    num_repeated_ += num_accesses();
    repeated_ |= bit(block_);
    ++block_;
  }
  /// Starts to record the block, if it is worth it.
  [[nodiscard]] bool opens() noexcept {
    memo_->known &= ~bit(block_);
    return memo_->thorough ? block_ + 1 < next_start_ : (same_ & bit(block_)) != 0;
  }
  void find_next() noexcept {
    ++num_looks_;
    ++block_;
    find();
  }

  /// Compares the blocks that start and end in this part of the log, the next of the frame.
  void find_same(std::span<const TiaAccess> log) noexcept {
    if (!(remembers_ || records_) || next_start_ > last_) return;
    const std::size_t before = num_seen_;
    num_seen_ += log.size();
    std::uint64_t run = 0;
    std::size_t saved = 0;
    const auto end_run = [&] {
      if (saved >= kLeastRun) same_ |= run;
      run = 0;
      saved = 0;
    };
    std::size_t begin = log.size();  // Of the block before, if it starts here.
    for (; next_start_ <= last_; ++next_start_) {
      FrameMemo::Block& block = memo_->blocks[next_start_];
      const std::size_t old_end = block.first;
      const std::size_t end = first_from(row_of(next_start_), log, old_end + shift_ - before);
      if (end == log.size()) break;
      if (remembers_ && begin <= end && end - begin == old_end - old_begin_ &&
          same_accesses(log.subspan(begin, end - begin), memo_->accesses.data() + old_begin_)) {
        run |= bit(next_start_ - 1);
        saved += end - begin + block_saves_;
      } else {
        end_run();
      }
      if (records_) block.first = static_cast<std::uint16_t>(before + end);
      shift_ = before + end - old_end;
      old_begin_ = old_end;
      begin = end;
    }
    end_run();
    if (records_) {
      memo_->known &= same_ | ~(bit(next_start_) - 1);
      memo_->complete = next_start_ > last_;
    }
    find();
  }

  /// Blocks that were not played.
  [[nodiscard]] std::uint64_t repeated() const noexcept { return repeated_; }

  /// At the end of a frame with this log.
  void keep(std::span<const TiaAccess> log) noexcept {
    if (!records_ || !memo_->complete) return;
    std::memcpy(memo_->accesses.data(), log.data(), log.size_bytes());
    memo_->thorough = 2 * num_repeated_ > log.size();
    if (!remembers_) return;
    const auto num_blocks = static_cast<std::size_t>(std::popcount(repeated_));
    const std::size_t saved = num_repeated_ + (block_saves_ * num_blocks);
    if (saved > kFrameCost + (log.size() / kLogCost) + (kLookCost * num_looks_)) {
      memo_->num_useless = 0;
      memo_->last_pause = 0;
    } else if (++memo_->num_useless == kPatience) {
      memo_->num_useless = 0;
      memo_->pause =
          static_cast<std::uint8_t>(std::clamp(2 * memo_->last_pause, kPause, kLongestPause));
      memo_->last_pause = memo_->pause;
    }
  }

 private:
  [[nodiscard]] int row_of(std::size_t block) const noexcept {
    return std::min(static_cast<int>(block) * FrameMemo::kBlockRows, height_);
  }

  /// The least access that a row can have.
  [[nodiscard]] std::uint32_t least_of(int row) const noexcept {
    const int cycle = ((begin_ + 2) / 3) + (row * Tia::kLineCycles);
    return TiaAccess::make(static_cast<std::uint32_t>(cycle), 0, 0).bits;
  }

  /// The first access at a row or behind it; it is likely to be this one.
  [[nodiscard]] std::size_t first_from(int row, std::span<const TiaAccess> log,
                                       std::size_t likely) const noexcept {
    const std::uint32_t least = least_of(row);
    std::size_t i = std::min(likely, log.size());
    while (i > 0 && log[i - 1].bits >= least) --i;
    while (i < log.size() && log[i].bits < least) ++i;
    return i;
  }

  static bool same_accesses(std::span<const TiaAccess> a, const TiaAccess* b) noexcept {
    return std::memcmp(a.data(), b, a.size_bytes()) == 0;
  }

  /// The next block, from block_ on, that begins or ends something.
  void find() noexcept {
    std::uint64_t all = same_ & memo_->known;
    if (records_) all = memo_->thorough ? bit(next_start_) - 1 : same_ | (same_ << 1U);
    all &= ~(bit(block_) - 1);
    next_access_ = kNone;
    if (all == 0) return;
    block_ = static_cast<std::size_t>(std::countr_zero(all));
    next_access_ = least_of(row());
  }

  FrameMemo* memo_;
  Clock begin_;             ///< Of the window,
  int height_;              ///< which has so many rows,
  std::size_t last_;        ///< and behind its last block there is this one.
  bool remembers_ = false;  ///< The memo is of a frame that this one may repeat.
  bool records_ = false;    ///< It becomes that of this one.
  std::size_t block_ = 0;
  std::uint32_t next_access_ = kNone;
  std::uint64_t same_ = 0;      ///< By block: it has the accesses that it had.
  std::size_t next_start_ = 0;  ///< Blocks before this one have been looked for in the log.
  std::size_t old_begin_ = 0;   ///< The last of them starts here in the memo's log,
  std::size_t shift_ = 0;       ///< in this one so many accesses later.
  std::size_t num_seen_ = 0;    ///< Accesses of this one's log.
  std::uint64_t repeated_ = 0;
  std::size_t num_repeated_ = 0;  ///< Accesses of theirs.
  std::size_t num_looks_ = 0;
  std::size_t block_saves_;  ///< Besides its accesses.
};

}  // namespace fastrl::envs::atari
