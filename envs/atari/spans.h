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

#include "envs/atari/operations.h"
#include "envs/atari/tia.h"
#include "envs/atari/vectors.h"

namespace fastrl::envs::atari {

/// The columns of a line, one bit each, the leftmost in bit 0 of the first word.
struct Columns {
  std::uint64_t left = 0;    ///< 0 to 63
  std::uint64_t middle = 0;  ///< 64 to 127
  std::uint64_t right = 0;   ///< 128 to 159

  static constexpr std::uint64_t kRight = 0xFFFFFFFF;

  /// Columns [first, first + count).
  static Columns range(int first, int count) noexcept {
    return kBefore[static_cast<std::size_t>(first + count)] &
           ~kBefore[static_cast<std::size_t>(first)];
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
  static const std::array<Columns, Tia::kWidth + 1> kBefore;
};

inline constexpr std::array<Columns, Tia::kWidth + 1> Columns::kBefore = [] {
  std::array<Columns, Tia::kWidth + 1> table;
  for (std::size_t end = 0; end < table.size(); ++end) {
    table[end] = before(static_cast<int>(end));
  }
  return table;
}();

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

constexpr std::uint64_t eight(std::uint8_t colour) noexcept { return colour * 0x0101010101010101U; }

/// The columns of each object, by its number, then those of the playfield.
using Objects = std::array<Columns, 6>;

/// Who is painted over whom.
enum class Order : std::uint8_t {
  kObjects,    ///< Player 0 over player 1 over playfield and ball.
  kPlayfield,  ///< Playfield and ball over player 0 over player 1.
  kScore       ///< As kObjects; but a half of the playfield counts as a player's.
};

/// Colours, from the lowest layer to the highest.
struct Colours {
  Order order;
  std::uint8_t background;
  std::uint8_t low;
  std::uint8_t middle;
  std::uint8_t high;
};

/// 64 columns of each layer. A higher one may be in a lower one, too.
struct Layers {
  std::uint64_t low;
  std::uint64_t middle;
  std::uint64_t high;
};

template <Order kOrder>
FASTRL_INLINE inline Layers layers_of(const Objects& at, std::uint64_t Columns::* word) noexcept {
  constexpr Columns kLeftHalf = Columns::before(Tia::kWidth / 2);
  const std::uint64_t zero = at[Tia::kP0].*word | at[Tia::kM0].*word;
  const std::uint64_t one = at[Tia::kP1].*word | at[Tia::kM1].*word;
  const std::uint64_t ball = at[Tia::kBall].*word;
  const std::uint64_t playfield = at[5].*word;
  switch (kOrder) {
    case Order::kObjects:
      return {ball | playfield, one, zero};
    case Order::kPlayfield:
      return {one, zero, ball | playfield};
    default:
      return {ball, one | (playfield & ~(kLeftHalf.*word)), zero | (playfield & kLeftHalf.*word)};
  }
}

/// Paints the columns of `span` in a row.
template <Order kOrder>
void paint_plainly(std::uint8_t* row, const Columns& span, const Objects& at,
                   const Colours& colours) noexcept {
  for (std::uint64_t Columns::* word : {&Columns::left, &Columns::middle, &Columns::right}) {
    const Layers layers = layers_of<kOrder>(at, word);
    const std::uint64_t middle = layers.middle & ~layers.high;
    const std::uint64_t low = layers.low & ~(layers.high | layers.middle);
    for (std::uint64_t left = span.*word; left != 0;) {
      const auto first = static_cast<unsigned>(std::countr_zero(left)) & ~7U;
      const auto bytes = [&](std::uint64_t columns) { return kBytes[(columns >> first) & 0xFFU]; };
      const auto differ = [&](std::uint64_t columns, int colour) {
        return bytes(columns) & eight(static_cast<std::uint8_t>(colour ^ colours.background));
      };
      const std::uint64_t pixels = eight(colours.background) ^ differ(low, colours.low) ^
                                   differ(middle, colours.middle) ^
                                   differ(layers.high, colours.high);
      std::uint64_t old = 0;
      std::memcpy(&old, row + first, sizeof(old));
      old ^= (old ^ pixels) & bytes(left);
      std::memcpy(row + first, &old, sizeof(old));
      left &= ~(std::uint64_t{0xFF} << first);
    }
    row += 64;
  }
}

#ifdef __x86_64__
/// The lower 32 bits, a byte each.
[[FASTRL_AVX2]] inline __m256i bytes_of(std::uint64_t bits) noexcept {
  const __m256i byte =
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201U));
  const __m256i all = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), byte);
  return _mm256_cmpeq_epi8(_mm256_and_si256(all, bit), bit);
}

[[FASTRL_AVX2]] inline void copy_line_avx2(std::uint8_t* to, const std::uint8_t* from) noexcept {
  static_assert(Tia::kWidth % 32 == 0);
  for (std::size_t i = 0; i < Tia::kWidth; i += 32) {
    const auto pixels = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), pixels);
  }
}

/// The same, 32 pixels at a time.
template <Order kOrder>
[[FASTRL_AVX2]] void paint_avx2(std::uint8_t* row, const Columns& span, const Objects& at,
                                const Colours& colours) noexcept {
  const __m256i background = _mm256_set1_epi8(static_cast<char>(colours.background));
  const __m256i low = _mm256_set1_epi8(static_cast<char>(colours.low));
  const __m256i middle = _mm256_set1_epi8(static_cast<char>(colours.middle));
  const __m256i high = _mm256_set1_epi8(static_cast<char>(colours.high));
  for (std::uint64_t Columns::* word : {&Columns::left, &Columns::middle, &Columns::right}) {
    if (span.*word == 0) {
      row += 64;
      continue;
    }
    const Layers layers = layers_of<kOrder>(at, word);
    for (const unsigned half : {0U, 32U}) {
      const auto here = static_cast<std::uint32_t>(span.*word >> half);
      if (here == 0) continue;
      __m256i pixels = _mm256_blendv_epi8(background, low, bytes_of(layers.low >> half));
      if ((layers.middle | layers.high) != 0) {
        pixels = _mm256_blendv_epi8(pixels, middle, bytes_of(layers.middle >> half));
        pixels = _mm256_blendv_epi8(pixels, high, bytes_of(layers.high >> half));
      }
      auto* const to = reinterpret_cast<__m256i*>(row + half);
      if (here != ~std::uint32_t{0}) {
        pixels = _mm256_blendv_epi8(_mm256_loadu_si256(to), pixels, bytes_of(here));
      }
      _mm256_storeu_si256(to, pixels);
    }
    row += 64;
  }
}

/// The same, 64 pixels at a time.
template <Order kOrder>
[[FASTRL_AVX512]] void paint_avx512(std::uint8_t* row, const Columns& span, const Objects& at,
                                    const Colours& colours) noexcept {
  const __m512i background = _mm512_set1_epi8(static_cast<char>(colours.background));
  const __m512i low = _mm512_set1_epi8(static_cast<char>(colours.low));
  const __m512i middle = _mm512_set1_epi8(static_cast<char>(colours.middle));
  const __m512i high = _mm512_set1_epi8(static_cast<char>(colours.high));
  for (std::uint64_t Columns::* word : {&Columns::left, &Columns::middle, &Columns::right}) {
    const Layers layers = layers_of<kOrder>(at, word);
    __m512i pixels = _mm512_mask_mov_epi8(background, layers.low, low);
    pixels = _mm512_mask_mov_epi8(pixels, layers.middle, middle);
    pixels = _mm512_mask_mov_epi8(pixels, layers.high, high);
    _mm512_mask_storeu_epi8(row, span.*word, pixels);
    row += 64;
  }
}
#endif

/// A whole line.
template <Vectors kVectors>
FASTRL_INLINE inline void copy_line(std::uint8_t* to, const std::uint8_t* from) noexcept {
#ifdef __x86_64__
  if constexpr (kVectors != Vectors::kNone) return copy_line_avx2(to, from);
#endif
  std::memcpy(to, from, Tia::kWidth);
}

template <Vectors kVectors, Order kOrder>
void paint(std::uint8_t* row, const Columns& span, const Objects& at,
           const Colours& colours) noexcept {
#ifdef __x86_64__
  if constexpr (kVectors == Vectors::kAvx512) return paint_avx512<kOrder>(row, span, at, colours);
  if constexpr (kVectors == Vectors::kAvx2) return paint_avx2<kOrder>(row, span, at, colours);
#endif
  paint_plainly<kOrder>(row, span, at, colours);
}

template <Vectors kVectors>
inline void paint(std::uint8_t* row, const Columns& span, const Objects& at,
                  const Colours& colours) noexcept {
  switch (colours.order) {
    case Order::kObjects:
      return paint<kVectors, Order::kObjects>(row, span, at, colours);
    case Order::kPlayfield:
      return paint<kVectors, Order::kPlayfield>(row, span, at, colours);
    case Order::kScore:
      return paint<kVectors, Order::kScore>(row, span, at, colours);
  }
}

}  // namespace spans

/// Paints into a frame, looks for collisions, both or neither. Remembers where the objects were and
/// the last whole line, so it is for one frame.
template <bool kPixels>
class SpanPainter {
 public:
  /// `frame` is not used without pixels. Colours become their `greys`, if there are any.
  SpanPainter(std::uint8_t* frame, const std::uint8_t* greys) noexcept
      : frame_(frame), greys_(greys) {}

  /// Latches to look for from now on. What is set is not looked for: none, and then these once
  /// more, after a CXCLR.
  void look_for(std::uint16_t latches) noexcept {
    if (latches != 0) whole_line_ = nullptr;
    latches_ = latches;
  }

  /// Columns [first, first + count) of a line, on which these things are, go to the pixels from
  /// `pen` on.
  template <Vectors kVectors>
  void paint(Tia& tia, Tia::Things on, std::size_t pen, int first, int count) noexcept {
    if ((tia.vblank & 2) != 0) {
      if constexpr (kPixels) std::memset(frame_ + pen, 0, static_cast<std::size_t>(count));
      whole_line_ = nullptr;
      return;
    }
    const bool moved = stale_ != 0 && place(tia, on);
    if (kPixels && moved) colours_ = colours_of(tia, on);
    if (count == Tia::kWidth) {
      if (!moved && whole_line_ != nullptr) return repeat<kVectors>(tia, pen);
      whole_line_ = kPixels ? frame_ + pen : &kSeen;
      combed_ = false;
    } else if (moved) {
      whole_line_ = nullptr;
    }
    const Columns span = count == Tia::kWidth ? kWholeLine : Columns::range(first, count);
    if (latches_ != 0) collide(tia, on, span);
    if constexpr (kPixels) spans::paint<kVectors>(frame_ + pen - first, span, at_, colours_);
  }

  /// At most eight pixels, at the start of a line.
  void blank(std::size_t pen, int count) noexcept {
    if constexpr (kPixels) {
      std::uint64_t pixels = 0;
      std::memcpy(&pixels, frame_ + pen, sizeof(pixels));
      pixels &= count < 8 ? ~std::uint64_t{0} << (8 * static_cast<unsigned>(count)) : 0;
      std::memcpy(frame_ + pen, &pixels, sizeof(pixels));
    }
    combed_ = true;
  }

  /// These look different from now on.
  void changed(Tia::Things things) noexcept { stale_ |= things & kMinded; }

  /// Everything may look different from now on.
  void forget() noexcept {
    stale_ = kMinded;
    on_ = kObjects;
    whole_line_ = nullptr;
  }

  /// Whether it would neither paint nor find anything as things are.
  FASTRL_INLINE [[nodiscard]] bool idle(const Tia& tia, Tia::Things on) const noexcept {
    if constexpr (kPixels) return false;
    return !may_meet(tia, on);
  }
  /// Whether it could find something.
  FASTRL_INLINE [[nodiscard]] bool may_meet(const Tia& tia, Tia::Things on) const noexcept {
    return latches_ != 0 && (tia.vblank & 2) == 0 && open_latches(tia, on) != 0;
  }

 private:
  static constexpr std::size_t kPlayfield = 5;
  static constexpr std::uint8_t kSeen = 0;
  static constexpr Columns kWholeLine = Columns::before(Tia::kWidth);
  static constexpr Tia::Things kObjects = (Tia::kHasPlayfield << 1U) - 1;
  static constexpr Tia::Things kMinded = kObjects | (kPixels ? Tia::kColours : 0U);

  /// The same line again. What the comb of the last one took away may be needed now.
  template <Vectors kVectors>
  void repeat(const Tia& tia, std::size_t pen) noexcept {
    if constexpr (kPixels) {
      std::uint8_t* const row = frame_ + pen;
      spans::copy_line<kVectors>(row, whole_line_);
      if (combed_ && !tia.comb_pending)
        spans::paint<kVectors>(row, Columns::before(Tia::kCombColumns), at_, colours_);
      whole_line_ = row;
      combed_ = false;
    }
  }

  /// Finds the columns of the objects that look different and are on. Returns whether a line does.
  bool place(const Tia& tia, Tia::Things on) noexcept {
    Tia::Things left = stale_ & (on | on_);
    const bool moved = left != 0 || (stale_ & Tia::kColours) != 0;
    stale_ = 0;
    on_ = on;
    for (; left != 0; left &= left - 1) {
      const auto object = static_cast<std::size_t>(std::countr_zero(left));
      at_[object] = ((on >> object) & 1U) != 0 ? columns_of(tia, object) : Columns{};
    }
    return moved;
  }

  static Columns columns_of(const Tia& tia, std::size_t object) noexcept {
    switch (object) {
      case Tia::kP0:
      case Tia::kP1:
        return columns_of_player(tia, object);
      case Tia::kM0:
      case Tia::kM1:
        return columns_of_missile(tia, object - Tia::kM0);
      case Tia::kBall:
        return columns_of_ball(tia);
      default:
        return columns_of_playfield(tia);
    }
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
    const unsigned size = (tia.nusiz[m] >> 4U) & 3U;
    Columns columns;
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

  /// Latches that are looked for and could be set.
  [[nodiscard]] unsigned open_latches(const Tia& tia, Tia::Things on) const noexcept {
    return Tia::kCollisions[on] & ~static_cast<unsigned>(tia.collisions) & latches_;
  }

  void collide(Tia& tia, Tia::Things on, const Columns& span) noexcept {
    unsigned open = open_latches(tia, on);
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

  [[nodiscard]] spans::Colours colours_of(const Tia& tia, Tia::Things on) const noexcept {
    using enum spans::Order;
    auto [p0, p1, pf, background] = tia.colours;
    if (greys_ != nullptr) {
      for (std::uint8_t* colour : {&p0, &p1, &pf, &background}) *colour = greys_[*colour];
    }
    const bool score = (tia.ctrlpf & 2) != 0;
    if ((tia.ctrlpf & 4) != 0 && !(score && on == Tia::kHasPlayfield)) {
      return {kPlayfield, background, p1, p0, pf};
    }
    return {score ? kScore : kObjects, background, pf, p1, p0};
  }

  std::uint8_t* frame_;
  const std::uint8_t* greys_;
  const std::uint8_t* whole_line_ = nullptr;  ///< The last one drawn in one piece, if still true.
  std::uint16_t latches_ = 0;
  bool combed_ = false;  ///< It was, afterwards.
  Tia::Things on_ = 0;
  Tia::Things stale_ = kMinded;  ///< What looks different from `at_`.
  spans::Objects at_{};
  spans::Colours colours_{};
};

}  // namespace fastrl::envs::atari
