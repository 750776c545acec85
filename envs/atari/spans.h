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

/// Paints into a frame, looks for collisions, both or neither.
template <bool kPixels, bool kCollisions>
struct SpanPainter {
  std::uint8_t* frame;  ///< Unused without pixels.

  void paint(Tia& tia, std::size_t pen, int first, int count) const noexcept {
    if constexpr (kPixels || kCollisions) {
      if ((tia.vblank & 2) != 0) {
        if constexpr (kPixels) std::memset(frame + pen, 0, static_cast<std::size_t>(count));
        return;
      }
      const Tia::Things on = tia.shown();
      if (!kPixels && (Tia::kCollisions[on] & ~tia.collisions) == 0) return;
      std::array<Columns, 6> at;  // By object, then the playfield.
      if ((on & Tia::kHasP0) != 0) at[Tia::kP0] = player(tia, 0);
      if ((on & Tia::kHasP1) != 0) at[Tia::kP1] = player(tia, 1);
      if ((on & Tia::kHasM0) != 0) at[Tia::kM0] = missile(tia, 0);
      if ((on & Tia::kHasM1) != 0) at[Tia::kM1] = missile(tia, 1);
      if ((on & Tia::kHasBall) != 0) at[Tia::kBall] = ball(tia);
      if ((on & Tia::kHasPlayfield) != 0) at[kPlayfield] = playfield(tia);
      const Columns span = Columns::range(first, count);
      if constexpr (kCollisions) collide(tia, on, at, span);
      if constexpr (kPixels) draw(tia, on, at, span, frame + pen - first, first, count);
    }
  }

  void blank(std::size_t pen, int count) const noexcept {
    if constexpr (kPixels) std::memset(frame + pen, 0, static_cast<std::size_t>(count));
  }

 private:
  static constexpr std::size_t kPlayfield = 5;

  static void add_copies(Columns& columns, std::uint64_t pattern, int position, std::size_t mode,
                         int first_copy) noexcept {
    const Tia::Copies& copies = Tia::kCopies[mode];
    for (int copy = first_copy; copy < copies.count; ++copy) {
      const int at = position + copies.offsets[static_cast<std::size_t>(copy)];
      columns.add(pattern, at < Tia::kWidth ? at : at - Tia::kWidth);
    }
  }

  static Columns player(const Tia& tia, std::size_t p) noexcept {
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

  static Columns missile(const Tia& tia, std::size_t m) noexcept {
    unsigned size = (tia.nusiz[m] >> 4U) & 3U;
    Columns columns;
    if (m == 0) {
      if (tia.missile0 == Tia::Missile0::kHidden) return columns;
      if (tia.missile0 == Tia::Missile0::kWidened) size |= 1U;
    }
    add_copies(columns, run(size), tia.positions[Tia::kM0 + m], tia.nusiz[m] & 7U, 0);
    return columns;
  }

  static Columns ball(const Tia& tia) noexcept {
    Columns columns;
    columns.add(run((tia.ctrlpf >> 4U) & 3U), tia.positions[Tia::kBall]);
    return columns;
  }

  static constexpr std::uint64_t run(unsigned size) noexcept {
    return (std::uint64_t{1} << (1U << size)) - 1;
  }

  static Columns playfield(const Tia& tia) noexcept {
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

  static void collide(Tia& tia, Tia::Things on, const std::array<Columns, 6>& at,
                      const Columns& span) noexcept {
    unsigned open = Tia::kCollisions[on] & ~static_cast<unsigned>(tia.collisions);
    for (; open != 0; open &= open - 1) {
      const auto latch = static_cast<std::size_t>(std::countr_zero(open));
      const Tia::Things pair = Tia::kPairs[latch];
      const auto one = static_cast<std::size_t>(std::countr_zero(pair));
      const auto other = static_cast<std::size_t>(std::bit_width(pair)) - 1;
      if ((at[one] & at[other] & span).any()) {
        tia.collisions = static_cast<std::uint16_t>(tia.collisions | (1U << latch));
      }
    }
  }

  static void draw(const Tia& tia, Tia::Things on, const std::array<Columns, 6>& at,
                   const Columns& span, std::uint8_t* row, int first, int count) noexcept {
    const auto [p0, p1, pf, bk] = tia.colours;
    std::memset(row + first, bk, static_cast<std::size_t>(count));
    if (on == 0) return;
    // Which columns have the colours of P0, P1 and the playfield.
    const Columns zero = at[Tia::kP0] | at[Tia::kM0];
    const Columns one = at[Tia::kP1] | at[Tia::kM1];
    const bool score = (tia.ctrlpf & 2) != 0;
    const Columns left_half = Columns::before(Tia::kWidth / 2);
    Columns of_p0;
    Columns of_p1;
    Columns of_pf;
    if ((tia.ctrlpf & 4) != 0 && !(score && on == Tia::kHasPlayfield)) {  // PF has priority.
      of_pf = at[kPlayfield] | at[Tia::kBall];
      of_p0 = zero & ~of_pf;
      of_p1 = one & ~(of_pf | zero);
    } else if (score) {
      of_p0 = zero | (at[kPlayfield] & left_half);
      of_p1 = (one | (at[kPlayfield] & ~left_half)) & ~of_p0;
      of_pf = at[Tia::kBall] & ~(of_p0 | of_p1);
    } else {
      of_p0 = zero;
      of_p1 = one & ~zero;
      of_pf = (at[kPlayfield] | at[Tia::kBall]) & ~(zero | one);
    }
    const Colours change{eight(p0) ^ eight(bk), eight(p1) ^ eight(bk), eight(pf) ^ eight(bk)};
    of_p0 = of_p0 & span;
    of_p1 = of_p1 & span;
    of_pf = of_pf & span;
    recolour(row, of_p0.left, of_p1.left, of_pf.left, change);
    recolour(row + 64, of_p0.middle, of_p1.middle, of_pf.middle, change);
    recolour(row + 128, of_p0.right, of_p1.right, of_pf.right, change);
  }

  /// What to XOR a background pixel with, eight at a time.
  struct Colours {
    std::uint64_t p0;
    std::uint64_t p1;
    std::uint64_t pf;
  };

  /// Eight pixels at a time, where there are any that are not background.
  static void recolour(std::uint8_t* pixels, std::uint64_t p0, std::uint64_t p1, std::uint64_t pf,
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
};

}  // namespace fastrl::envs::atari
