// The picture, plainly: every pixel asks every object whether it is there. The readable reference
// that spans.h must agree with.
//
// Document: console_spec.md 4.4, 4.6, 4.8.
// Oracle:   tests/oracle/test_atari.py.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "envs/atari/tia.h"

namespace fastrl::envs::atari {

/// Palette indices, row by row. The rows that a television shows are the first window_height.
using Frame = std::array<std::uint8_t, std::size_t{Tia::kWidth} * Tia::kMaxHeight>;

/// A set of rows.
using Rows = std::array<bool, Tia::kMaxHeight>;

/// What a frame that did not end by now looks like below the beam.
inline void grey_out(Frame& frame, const Tia& tia) noexcept {
  const auto top = static_cast<std::uint32_t>(tia.window_top);
  const auto height = static_cast<std::uint32_t>(tia.window_height);
  for (std::size_t row = std::max(tia.current_lines, top) - top; row < height; ++row) {
    for (std::size_t x = 0; x < Tia::kWidth; ++x) {
      std::uint8_t& pixel = frame[(row * Tia::kWidth) + x];
      pixel = (pixel & 15) >> 1;
    }
  }
}

/// One line, or a part of it, as the registers are now.
class PlainLine {
 public:
  explicit PlainLine(const Tia& tia) noexcept : tia_(tia) {}

  /// Returns the latches set by what meets in columns [first, first + count).
  std::uint16_t draw(int first, int count, std::uint8_t* pixels) const noexcept {
    if ((tia_.vblank & 2) != 0) {
      std::fill_n(pixels, count, std::uint8_t{0});
      return 0;
    }
    const Tia::Things on = tia_.shown();
    const Graphics graphics{tia_.players[0].shown(), tia_.players[1].shown()};
    int met = 0;
    for (int i = 0; i < count; ++i) {
      const Tia::Things present = things_at(first + i, on, graphics);
      met |= Tia::kCollisions[present];
      pixels[i] = tia_.colours[colour_at(first + i, present, on)];
    }
    paint_overrun(first, first + count, pixels + count);
    return static_cast<std::uint16_t>(met);
  }

 private:
  /// The bits that each player shows.
  using Graphics = std::array<std::uint8_t, 2>;

  /// Those of `on` that are at column x.
  [[nodiscard]] Tia::Things things_at(int x, Tia::Things on,
                                      const Graphics& graphics) const noexcept {
    Tia::Things found = 0;
    if ((on & Tia::kHasPlayfield) != 0 && playfield_at(x)) found |= Tia::kHasPlayfield;
    if ((on & Tia::kHasP0) != 0 && (graphics[0] & player_mask(0, x)) != 0) found |= Tia::kHasP0;
    if ((on & Tia::kHasP1) != 0 && (graphics[1] & player_mask(1, x)) != 0) found |= Tia::kHasP1;
    if ((on & Tia::kHasM0) != 0 && missile_covers(0, x)) found |= Tia::kHasM0;
    if ((on & Tia::kHasM1) != 0 && missile_covers(1, x)) found |= Tia::kHasM1;
    if ((on & Tia::kHasBall) != 0 && ball_covers(x)) found |= Tia::kHasBall;
    return found;
  }

  [[nodiscard]] bool playfield_at(int x) const noexcept {
    int cell = x / 4;
    if (cell >= 20) cell = tia_.mirror_right_half ? 39 - cell : cell - 20;
    return ((tia_.playfield >> static_cast<unsigned>(cell)) & 1U) != 0;
  }

  /// The bit of the graphics register that a player shows at column x, or 0.
  [[nodiscard]] unsigned player_mask(std::size_t p, int x) const noexcept {
    const std::size_t mode = tia_.nusiz[p] & 7U;
    const bool hidden = tia_.players[p].first_copy_hidden;
    const int distance = tia_.right_of(p, x);
    if (mode == 5 || mode == 7) {  // Wide, and one column late.
      const int scale = mode == 5 ? 2 : 4;
      if (hidden || distance < 1 || distance > 8 * scale) return 0;
      return 0x80U >> static_cast<unsigned>((distance - 1) / scale);
    }
    for (int copy = hidden ? 1 : 0; copy < Tia::kCopies[mode].count; ++copy) {
      const int bit = distance - Tia::kCopies[mode].offsets[static_cast<std::size_t>(copy)];
      if (bit >= 0 && bit < 8) return 0x80U >> static_cast<unsigned>(bit);
    }
    return 0;
  }

  [[nodiscard]] bool missile_covers(std::size_t m, int x) const noexcept {
    unsigned size = (tia_.nusiz[m] >> 4U) & 3U;
    if (m == 0) {
      if (tia_.missile0 == Tia::Missile0::kHidden) return false;
      if (tia_.missile0 == Tia::Missile0::kWidened) size |= 1U;
    }
    const int width = 1 << size;
    const int distance = tia_.right_of(Tia::kM0 + m, x);
    const Tia::Copies& copies = Tia::kCopies[tia_.nusiz[m] & 7U];
    for (int copy = 0; copy < copies.count; ++copy) {
      const int offset = distance - copies.offsets[static_cast<std::size_t>(copy)];
      if (offset >= 0 && offset < width) return true;
    }
    return false;
  }

  [[nodiscard]] bool ball_covers(int x) const noexcept {
    return tia_.right_of(Tia::kBall, x) < (1 << ((tia_.ctrlpf >> 4U) & 3U));
  }

  /// Whose colour register shows: an index into `tia_.colours`.
  [[nodiscard]] std::size_t colour_at(int x, Tia::Things present, Tia::Things on) const noexcept {
    enum : std::size_t { kOfP0, kOfP1, kOfPlayfield, kOfBackground };
    const bool score = (tia_.ctrlpf & 2) != 0;
    const std::size_t score_colour = x < 80 ? kOfP0 : kOfP1;
    std::size_t colour = kOfBackground;
    if ((tia_.ctrlpf & 4) != 0) {  // The playfield has priority.
      if ((present & (Tia::kHasP1 | Tia::kHasM1)) != 0) colour = kOfP1;
      if ((present & (Tia::kHasP0 | Tia::kHasM0)) != 0) colour = kOfP0;
      if ((present & Tia::kHasBall) != 0) colour = kOfPlayfield;
      if ((present & Tia::kHasPlayfield) != 0) {
        // Alone, it has the tia_.colours of the score nevertheless.
        colour = score && on == Tia::kHasPlayfield ? score_colour : kOfPlayfield;
      }
      return colour;
    }
    if ((present & Tia::kHasBall) != 0) colour = kOfPlayfield;
    if ((present & Tia::kHasPlayfield) != 0) colour = score ? score_colour : kOfPlayfield;
    if ((present & (Tia::kHasP1 | Tia::kHasM1)) != 0 && colour != kOfP0) colour = kOfP1;
    if ((present & (Tia::kHasP0 | Tia::kHasM0)) != 0) colour = kOfP0;
    return colour;
  }

  /// The reference paints some spans in groups of four columns, and the last group may reach past
  /// the end of the span (console_spec.md 4.6). Seen only if the frame ends right there.
  void paint_overrun(int first, int end, std::uint8_t* pixels) const noexcept {
    const int group = end & ~3;
    if (group == end || group < first) return;
    const Tia::Things on = tia_.shown();
    if (!paints_in_fours(on)) return;
    constexpr Graphics kSolid{0xFF, 0xFF};  // Where a player is counts, not its bits.
    if (on != Tia::kHasPlayfield) {
      for (int x = group; x < group + 4; ++x) {
        if ((things_at(x, on, kSolid) & ~Tia::kHasPlayfield) != 0) return;
      }
    }
    const std::size_t colour =
        colour_at(group, things_at(group, on & Tia::kHasPlayfield, kSolid), on);
    for (int x = end; x < group + 4; ++x) *pixels++ = tia_.colours[colour];
  }

  [[nodiscard]] bool paints_in_fours(Tia::Things on) const noexcept {
    const bool score = (tia_.ctrlpf & 2) != 0;
    switch (on) {
      case Tia::kHasPlayfield:
      case Tia::kHasP0:
      case Tia::kHasP1:
      case Tia::kHasP0 | Tia::kHasP1:
      case Tia::kHasM0:
      case Tia::kHasM1:
      case Tia::kHasM0 | Tia::kHasM1:
      case Tia::kHasBall:
      case Tia::kHasBall | Tia::kHasM0:
      case Tia::kHasBall | Tia::kHasM1:
      case Tia::kHasBall | Tia::kHasP1:
        return true;
      case Tia::kHasPlayfield | Tia::kHasP0:
      case Tia::kHasPlayfield | Tia::kHasP1:
      case Tia::kHasPlayfield | Tia::kHasBall:
        return !score;
      default:
        return false;
    }
  }

  const Tia& tia_;
};

/// Paints into a frame.
struct PlainPainter {
  Frame& frame;

  void paint(Tia& tia, std::size_t pen, int first, int count) noexcept {
    tia.collisions |= PlainLine(tia).draw(first, count, &frame[pen]);
  }
  void blank(std::size_t pen, int count) noexcept {
    std::fill_n(&frame[pen], count, std::uint8_t{0});
  }
};

}  // namespace fastrl::envs::atari
