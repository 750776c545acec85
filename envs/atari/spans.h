// The picture and the collision latches, a span at a time: a line is 160 bits for each object.
//
// Document: console_spec.md 4.6, 4.8.
// Oracle:   pixels.h, pixel by pixel (tests/oracle/test_atari.py: the fast console).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "envs/atari/tia.h"

namespace fastrl::envs::atari {

/// The columns of a line, one bit each, the leftmost in bit 0 of the first word.
struct Columns {
  std::uint64_t left = 0;    ///< 0 to 63
  std::uint64_t middle = 0;  ///< 64 to 127
  std::uint64_t right = 0;   ///< 128 to 159

  static constexpr std::uint64_t kRight = 0xFFFFFFFF;

  /// Columns [first, first + count).
  static constexpr Columns range(int first, int count) noexcept {
    return before(first + count) & ~before(first);
  }
  /// Columns [0, end).
  static constexpr Columns before(int end) noexcept {
    return {.left = ones(end), .middle = ones(end - 64), .right = ones(end - 128) & kRight};
  }

  /// Sets the columns that `pattern`, of at most 32 bits, has from `position` on; it wraps around.
  constexpr void add(std::uint64_t pattern, int position) noexcept {
    const auto shift = static_cast<unsigned>(position & 63);
    const std::uint64_t low = pattern << shift;
    const std::uint64_t high = (pattern >> 1U) >> (63U - shift);
    if (position < 64) {
      left |= low;
      middle |= high;
    } else if (position < 128) {
      middle |= low;
      right |= high;
    } else {
      right |= low & kRight;
      left |= low >> 32U;
    }
  }

  [[nodiscard]] constexpr bool any() const noexcept { return (left | middle | right) != 0; }

  friend constexpr Columns operator&(const Columns& a, const Columns& b) noexcept {
    return {a.left & b.left, a.middle & b.middle, a.right & b.right};
  }
  friend constexpr Columns operator|(const Columns& a, const Columns& b) noexcept {
    return {a.left | b.left, a.middle | b.middle, a.right | b.right};
  }
  friend constexpr Columns operator~(const Columns& a) noexcept {
    return {~a.left, ~a.middle, ~a.right & kRight};
  }

 private:
  static constexpr std::uint64_t ones(int count) noexcept {
    if (count <= 0) return 0;
    return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << static_cast<unsigned>(count)) - 1;
  }
};

static_assert(std::endian::native == std::endian::little, "eight pixels are one number");

namespace spans {

/// Every bit of a byte, `times` times.
template <typename Wide>
constexpr std::array<Wide, 256> widened(unsigned times) noexcept {
  std::array<Wide, 256> table{};
  for (std::size_t byte = 0; byte < table.size(); ++byte) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      if (((byte >> bit) & 1U) == 0) continue;
      for (unsigned i = 0; i < times; ++i) {
        table[byte] = static_cast<Wide>(table[byte] | Wide{1} << (bit * times + i));
      }
    }
  }
  return table;
}

inline constexpr auto kTwice = widened<std::uint16_t>(2);
inline constexpr auto kFourTimes = widened<std::uint32_t>(4);
inline constexpr auto kBytes = widened<std::uint64_t>(8);

}  // namespace spans

/// Paints into a frame, looks for collisions, both or neither. Remembers where the objects were and
/// the last whole line, so it is for one frame.
template <bool kPixels>
class SpanPainter {
 public:
  /// `frame` is not used without pixels.
  explicit SpanPainter(std::uint8_t* frame) noexcept : frame_(frame) {}

  /// Whether to look for collisions from now on. True again after a CXCLR: look at all of them.
  void look_for_collisions(bool wanted) noexcept {
    if (wanted) whole_line_ = nullptr;
    collisions_ = wanted;
  }

  /// Whether the picture has to be made up to such a change.
  [[nodiscard]] bool minds(Tia::Change what) const noexcept {
    if constexpr (kPixels) return true;
    return what == Tia::Change::kLine || (what == Tia::Change::kShape && collisions_);
  }

  void paint(Tia& tia, std::size_t pen, int first, int count) noexcept {
    if (kPixels || collisions_) {
      if ((tia.vblank & 2) != 0) {
        if constexpr (kPixels) std::memset(frame_ + pen, 0, static_cast<std::size_t>(count));
        whole_line_ = nullptr;
        return;
      }
      const Tia::Things on = tia.shown();
      if (!kPixels && (Tia::kCollisions[on] & ~tia.collisions) == 0) return;
      bool moved = place(tia, on);
      if constexpr (kPixels) moved = recolour(tia, on) || moved;
      if (count == Tia::kWidth) {
        if (!moved && whole_line_ != nullptr) return repeat(tia, pen);
        whole_line_ = kPixels ? frame_ + pen : &kSeen;
        combed_ = false;
      } else if (moved) {
        whole_line_ = nullptr;
      }
      const Columns span = Columns::range(first, count);
      if (collisions_) collide(tia, on, span);
      if constexpr (kPixels) draw(tia, on, span, frame_ + pen - first, first, count);
    }
  }

  void blank(std::size_t pen, int count) noexcept {
    if constexpr (kPixels) std::memset(frame_ + pen, 0, static_cast<std::size_t>(count));
    combed_ = true;
  }

 private:
  static constexpr std::size_t kPlayfield = 5;
  static constexpr int kComb = 8;  ///< Columns that HMOVE blanks.
  static constexpr std::uint8_t kSeen = 0;

  /// The same line again. What the comb of the last one took away may be needed now.
  void repeat(const Tia& tia, std::size_t pen) noexcept {
    if constexpr (kPixels) {
      std::uint8_t* const row = frame_ + pen;
      std::memcpy(row, whole_line_, Tia::kWidth);
      if (combed_ && !tia.comb_pending)
        draw(tia, tia.shown(), Columns::before(kComb), row, 0, kComb);
      whole_line_ = row;
      combed_ = false;
    }
  }

  /// Finds the columns of the objects that are on. Returns whether any has changed.
  bool place(const Tia& tia, Tia::Things on) noexcept {
    bool moved = on != on_;
    on_ = on;
    const auto look = [&](std::size_t object, std::uint64_t key, auto columns) {
      if (((on >> object) & 1U) == 0) {
        at_[object] = {};
        keys_[object] = 0;
      } else if (keys_[object] != key) {
        at_[object] = columns();
        keys_[object] = key;
        moved = true;
      }
    };
    const auto key = [](auto... bytes) {
      std::uint64_t packed = 1;  // No object's key is 0.
      ((packed = (packed << 8U) | static_cast<std::uint8_t>(bytes)), ...);
      return packed;
    };
    for (std::size_t i = 0; i < 2; ++i) {
      const Tia::Player& player = tia.players[i];
      look(Tia::kP0 + i,
           key(player.shown(), tia.nusiz[i], tia.positions[i], player.first_copy_hidden),
           [&] { return columns_of_player(tia, i); });
      look(Tia::kM0 + i, key(tia.nusiz[i], tia.positions[Tia::kM0 + i], tia.missile0),
           [&] { return columns_of_missile(tia, i); });
    }
    look(Tia::kBall, key(tia.ctrlpf & 0x30, tia.positions[Tia::kBall]),
         [&] { return columns_of_ball(tia); });
    look(kPlayfield,
         (std::uint64_t{1} << 32U) | (tia.mirror_right_half ? 1U << 20U : 0U) | tia.playfield,
         [&] { return columns_of_playfield(tia); });
    return moved;
  }

  /// Returns whether the colours or their priority have changed.
  bool recolour(const Tia& tia, Tia::Things /*on*/) noexcept {
    const int priority = tia.ctrlpf & 6;
    const auto colours = std::bit_cast<std::uint32_t>(tia.colours);
    if (colours_ == colours && priority_ == priority) return false;
    colours_ = colours;
    priority_ = priority;
    return true;
  }

  static void add_copies(Columns& columns, std::uint64_t pattern, int position, std::size_t mode,
                         int first_copy) noexcept {
    const Tia::Copies& copies = Tia::kCopies[mode];
    for (int copy = first_copy; copy < copies.count; ++copy) {
      const int at = position + copies.offsets[static_cast<std::size_t>(copy)];
      columns.add(pattern, at < Tia::kWidth ? at : at - Tia::kWidth);
    }
  }

  static Columns columns_of_player(const Tia& tia, std::size_t p) noexcept {
    const std::size_t mode = tia.nusiz[p] & 7U;
    const std::uint8_t bits = Tia::kMirrored[tia.players[p].shown()];
    const bool wide = mode == 5 || mode == 7;  // One column late.
    const std::uint64_t pattern = mode == 5   ? std::uint64_t{spans::kTwice[bits]}
                                  : mode == 7 ? std::uint64_t{spans::kFourTimes[bits]}
                                              : std::uint64_t{bits};
    const int position = tia.positions[p] + (wide ? 1 : 0);
    Columns columns;
    add_copies(columns, pattern, position < Tia::kWidth ? position : position - Tia::kWidth, mode,
               tia.players[p].first_copy_hidden ? 1 : 0);
    return columns;
  }

  static Columns columns_of_missile(const Tia& tia, std::size_t m) noexcept {
    unsigned size = (tia.nusiz[m] >> 4U) & 3U;
    Columns columns;
    if (m == 0) {
      if (tia.missile0 == Tia::Missile0::kHidden) return columns;
      if (tia.missile0 == Tia::Missile0::kWidened) size |= 1U;
    }
    add_copies(columns, run(size), tia.positions[Tia::kM0 + m], tia.nusiz[m] & 7U, 0);
    return columns;
  }

  static Columns columns_of_ball(const Tia& tia) noexcept {
    Columns columns;
    columns.add(run((tia.ctrlpf >> 4U) & 3U), tia.positions[Tia::kBall]);
    return columns;
  }

  static constexpr std::uint64_t run(unsigned size) noexcept {
    return (std::uint64_t{1} << (1U << size)) - 1;
  }

  static Columns columns_of_playfield(const Tia& tia) noexcept {
    const std::uint32_t left = tia.playfield;
    std::uint32_t right = left;
    if (tia.mirror_right_half) {
      right = (std::uint32_t{Tia::kMirrored[left & 0xFFU]} << 12U) |
              (std::uint32_t{Tia::kMirrored[(left >> 8U) & 0xFFU]} << 4U) |
              (std::uint32_t{Tia::kMirrored[(left >> 16U) & 0xFFU]} >> 4U);
    }
    const std::uint64_t right_low = low_cells(right);
    return {.left = low_cells(left),
            .middle = high_cells(left) | (right_low << 16U),
            .right = (right_low >> 48U) | (high_cells(right) << 16U)};
  }

  static std::uint64_t low_cells(std::uint32_t cells) noexcept {  // The first 16, 64 columns.
    return spans::kFourTimes[cells & 0xFFU] |
           (std::uint64_t{spans::kFourTimes[(cells >> 8U) & 0xFFU]} << 32U);
  }
  static std::uint64_t high_cells(std::uint32_t cells) noexcept {  // The other 4, 16 columns.
    return spans::kFourTimes[(cells >> 16U) & 0xFU];
  }

  void collide(Tia& tia, Tia::Things on, const Columns& span) noexcept {
    unsigned open = Tia::kCollisions[on] & ~static_cast<unsigned>(tia.collisions);
    if (open == 0) return;
    Columns once;
    Columns twice;
    for (const Columns& object : at_) {
      twice = twice | (once & object);
      once = once | object;
    }
    if (!(twice & span).any()) return;
    for (; open != 0; open &= open - 1) {
      const auto latch = static_cast<std::size_t>(std::countr_zero(open));
      const Tia::Things pair = Tia::kPairs[latch];
      const auto one = static_cast<std::size_t>(std::countr_zero(pair));
      const auto other = static_cast<std::size_t>(std::bit_width(pair)) - 1;
      if ((at_[one] & at_[other] & span).any()) {
        tia.collisions = static_cast<std::uint16_t>(tia.collisions | (1U << latch));
      }
    }
  }

  void draw(const Tia& tia, Tia::Things on, const Columns& span, std::uint8_t* row, int first,
            int count) const noexcept {
    const auto [p0, p1, pf, bk] = tia.colours;
    std::memset(row + first, bk, static_cast<std::size_t>(count));
    if (on == 0) return;
    // Which columns have the colours of P0, P1 and the playfield.
    const Columns zero = at_[Tia::kP0] | at_[Tia::kM0];
    const Columns one = at_[Tia::kP1] | at_[Tia::kM1];
    const bool score = (tia.ctrlpf & 2) != 0;
    const Columns left_half = Columns::before(Tia::kWidth / 2);
    Columns of_p0;
    Columns of_p1;
    Columns of_pf;
    if ((tia.ctrlpf & 4) != 0 && !(score && on == Tia::kHasPlayfield)) {  // PF has priority.
      of_pf = at_[kPlayfield] | at_[Tia::kBall];
      of_p0 = zero & ~of_pf;
      of_p1 = one & ~(of_pf | zero);
    } else if (score) {
      of_p0 = zero | (at_[kPlayfield] & left_half);
      of_p1 = (one | (at_[kPlayfield] & ~left_half)) & ~of_p0;
      of_pf = at_[Tia::kBall] & ~(of_p0 | of_p1);
    } else {
      of_p0 = zero;
      of_p1 = one & ~zero;
      of_pf = (at_[kPlayfield] | at_[Tia::kBall]) & ~(zero | one);
    }
    const Colours change{eight(p0) ^ eight(bk), eight(p1) ^ eight(bk), eight(pf) ^ eight(bk)};
    of_p0 = of_p0 & span;
    of_p1 = of_p1 & span;
    of_pf = of_pf & span;
    fill(row, of_p0.left, of_p1.left, of_pf.left, change);
    fill(row + 64, of_p0.middle, of_p1.middle, of_pf.middle, change);
    fill(row + 128, of_p0.right, of_p1.right, of_pf.right, change);
  }

  /// What to XOR a background pixel with, eight at a time.
  struct Colours {
    std::uint64_t p0;
    std::uint64_t p1;
    std::uint64_t pf;
  };

  /// Eight pixels at a time, where there are any that are not background.
  static void fill(std::uint8_t* pixels, std::uint64_t p0, std::uint64_t p1, std::uint64_t pf,
                   const Colours& change) noexcept {
    std::uint64_t left = p0 | p1 | pf;
    while (left != 0) {
      const auto first = static_cast<unsigned>(std::countr_zero(left)) & ~7U;
      std::uint64_t eight_pixels = 0;
      std::memcpy(&eight_pixels, pixels + first, sizeof(eight_pixels));
      eight_pixels ^= change.p0 & spans::kBytes[(p0 >> first) & 0xFFU];
      eight_pixels ^= change.p1 & spans::kBytes[(p1 >> first) & 0xFFU];
      eight_pixels ^= change.pf & spans::kBytes[(pf >> first) & 0xFFU];
      std::memcpy(pixels + first, &eight_pixels, sizeof(eight_pixels));
      left &= ~(std::uint64_t{0xFF} << first);
    }
  }

  static constexpr std::uint64_t eight(std::uint8_t colour) noexcept {
    return colour * 0x0101010101010101U;
  }

  std::uint8_t* frame_;
  const std::uint8_t* whole_line_ = nullptr;  ///< The last one drawn in one piece, if still true.
  bool collisions_ = false;
  bool combed_ = false;  ///< It was, afterwards.
  Tia::Things on_ = 0;
  std::array<std::uint64_t, 6> keys_{};  ///< What `at_` was made from, by object; 0: it is off.
  std::array<Columns, 6> at_{};          ///< By object, then the playfield.
  std::uint32_t colours_ = 0;
  int priority_ = -1;
};

}  // namespace fastrl::envs::atari
