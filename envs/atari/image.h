// From a console's screen to an observation: colours, the maximum of two frames, another size.
// The same bytes as ale_py.AtariVectorEnv, which resizes with OpenCV's INTER_AREA.
//
// Document: console_spec.md 8 (palettes), 10.4, 10.5; enlarging: README.md.
// Oracle:   tests/oracle/test_atari_image.py.
//
// Floats must not be contracted (-ffp-contract=off): the order and rounding of every operation
// decide what becomes of a half.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "envs/atari/palettes_generated.h"

namespace fastrl::envs::atari {

/// Writes screen.size() bytes.
inline void to_grey(const Palette& palette, std::span<const std::uint8_t> screen,
                    std::uint8_t* out) noexcept {
  for (const std::uint8_t pixel : screen) *out++ = palette.grey[pixel];
}

/// Writes 3 * screen.size() bytes: red, green, blue of the first pixel, then of the next.
inline void to_rgb(const Palette& palette, std::span<const std::uint8_t> screen,
                   std::uint8_t* out) noexcept {
  for (const std::uint8_t pixel : screen) out = std::ranges::copy(palette.rgb[pixel], out).out;
}

/// a = max(a, b), byte by byte.
inline void max_into(std::uint8_t* a, const std::uint8_t* b, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) a[i] = std::max(a[i], b[i]);
}

/// Resizes images of (height, width, channels) bytes, channels interleaved. Made once, then shared
/// by all threads.
class Resize {
 public:
  /// Throws std::invalid_argument if a size is not positive.
  Resize(int src_height, int src_width, int dst_height, int dst_width, int channels)
      : rows_(src_height, dst_height),
        columns_(src_width, dst_width),
        channels_(static_cast<std::size_t>(channels)) {
    for (const int size : {src_height, src_width, dst_height, dst_width, channels}) {
      if (size <= 0) {
        throw std::invalid_argument("a size of an image must be positive, got " +
                                    std::to_string(size));
      }
    }
    if (src_height == dst_height && src_width == dst_width) {
      method_ = Method::kCopy;
    } else if (rows_.scale < 1.0 || columns_.scale < 1.0) {
      method_ = Method::kLinear;
      rows_.find_pairs();
      columns_.find_pairs();
    } else if (rows_.is_integer() && columns_.is_integer()) {
      method_ = Method::kBlocks;
    } else {
      method_ = Method::kArea;
      rows_.find_areas();
      columns_.find_areas();
    }
  }

  /// Floats that operator() needs.
  [[nodiscard]] std::size_t scratch_size() const noexcept { return 0; }

  /// `scratch` has scratch_size() floats; what is in them does not matter.
  void operator()(const std::uint8_t* src, std::uint8_t* dst, float* /*scratch*/) const noexcept {
    plain(src, dst);
  }

  /// The same, pixel by pixel.
  void plain(const std::uint8_t* src, std::uint8_t* dst) const noexcept {
    for (std::size_t y = 0; y < rows_.dst; ++y) {
      for (std::size_t x = 0; x < columns_.dst; ++x) {
        for (std::size_t c = 0; c < channels_; ++c) *dst++ = pixel(src + c, y, x);
      }
    }
  }

 private:
  enum class Method : std::uint8_t { kCopy, kLinear, kBlocks, kArea };

  struct Tap {
    std::size_t source;
    float weight;
  };

  /// Two neighbours and their weights out of 2048.
  struct Pair {
    std::size_t first;
    std::size_t second;
    int first_weight;
    int second_weight;
  };

  /// One direction of the image.
  struct Axis {
    std::size_t src;
    std::size_t dst;
    double inverse_scale;
    double scale;                    ///< Source pixels to one of the destination.
    std::vector<Tap> taps;           ///< kArea. Those of one pixel of the destination, of the next,
    std::vector<std::size_t> first;  ///< and where they start: dst + 1 numbers.
    std::vector<Pair> pairs;         ///< kLinear

    Axis(int src_size, int dst_size)
        : src(static_cast<std::size_t>(src_size)),
          dst(static_cast<std::size_t>(dst_size)),
          inverse_scale(static_cast<double>(dst_size) / src_size),
          scale(1.0 / inverse_scale) {}

    [[nodiscard]] std::size_t whole_scale() const noexcept {
      return static_cast<std::size_t>(std::lrint(scale));
    }
    /// 1 / (dst / src) need not be an integer even where src / dst is one.
    [[nodiscard]] bool is_integer() const noexcept {
      return std::abs(scale - static_cast<double>(whole_scale())) <
             std::numeric_limits<double>::epsilon();
    }
    [[nodiscard]] std::span<const Tap> taps_of(std::size_t d) const noexcept {
      return std::span(taps).subspan(first[d], first[d + 1] - first[d]);
    }

    /// A pixel of the destination covers from d * scale to (d + 1) * scale.
    void find_areas() {
      first.push_back(0);
      for (std::size_t d = 0; d < dst; ++d) {
        const double begin = static_cast<double>(d) * scale;
        const double end = begin + scale;
        const double size = std::min(scale, static_cast<double>(src) - begin);
        const auto whole_end = std::min(static_cast<std::size_t>(end), src - 1);
        const auto whole_begin = std::min(static_cast<std::size_t>(std::ceil(begin)), whole_end);
        const double before = static_cast<double>(whole_begin) - begin;
        const double after = end - static_cast<double>(whole_end);
        const auto add = [&](std::size_t source, double covered) {
          taps.push_back({source, static_cast<float>(covered / size)});
        };
        if (before > 1e-3) add(whole_begin - 1, before);
        for (std::size_t s = whole_begin; s < whole_end; ++s) add(s, 1.0);
        if (after > 1e-3) add(whole_end, std::min(std::min(after, 1.0), size));
        first.push_back(taps.size());
      }
    }

    /// The neighbours of a pixel if an axis grows, which is not quite bilinear interpolation.
    void find_pairs() {
      for (std::size_t d = 0; d < dst; ++d) {
        const auto s = std::min(static_cast<std::size_t>(static_cast<double>(d) * scale), src - 1);
        auto part = static_cast<float>(static_cast<double>(d + 1) -
                                       (static_cast<double>(s + 1) * inverse_scale));
        part = part <= 0.0F ? 0.0F : part - std::floor(part);
        pairs.push_back({s, std::min(s + 1, src - 1),
                         static_cast<int>(std::lrint((1.0F - part) * 2048.0F)),
                         static_cast<int>(std::lrint(part * 2048.0F))});
      }
    }
  };

  /// Half to even. Up to 2^22; the sum's last bit is worth one.
  static std::uint8_t rounded(float value) noexcept {
    return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(value + 0x1.8p23F));
  }

  [[nodiscard]] std::uint8_t pixel(const std::uint8_t* src, std::size_t y,
                                   std::size_t x) const noexcept {
    switch (method_) {
      case Method::kCopy:
        return *at(src, y, x);
      case Method::kLinear:
        return linear(src, rows_.pairs[y], columns_.pairs[x]);
      case Method::kBlocks:
        return block(src, y, x);
      case Method::kArea:
        return area(src, y, x);
    }
    return 0;
  }

  [[nodiscard]] const std::uint8_t* at(const std::uint8_t* src, std::size_t y,
                                       std::size_t x) const noexcept {
    return src + (((y * columns_.src) + x) * channels_);
  }

  [[nodiscard]] std::uint8_t linear(const std::uint8_t* src, const Pair& row,
                                    const Pair& column) const noexcept {
    const auto across = [&](std::size_t y) {
      return (*at(src, y, column.first) * column.first_weight) +
             (*at(src, y, column.second) * column.second_weight);
    };
    const int sum = ((row.first_weight * (across(row.first) >> 4)) >> 16) +
                    ((row.second_weight * (across(row.second) >> 4)) >> 16);
    return static_cast<std::uint8_t>((sum + 2) >> 2);
  }

  [[nodiscard]] std::uint8_t block(const std::uint8_t* src, std::size_t y,
                                   std::size_t x) const noexcept {
    const std::size_t height = rows_.whole_scale();
    const std::size_t width = columns_.whole_scale();
    int sum = 0;
    for (std::size_t i = 0; i < height; ++i) {
      for (std::size_t j = 0; j < width; ++j) sum += *at(src, (y * height) + i, (x * width) + j);
    }
    if (height == 2 && width == 2) return static_cast<std::uint8_t>((sum + 2) >> 2);
    const float share = 1.0F / static_cast<float>(height * width);
    return rounded(static_cast<float>(sum) * share);
  }

  [[nodiscard]] std::uint8_t area(const std::uint8_t* src, std::size_t y,
                                  std::size_t x) const noexcept {
    float sum = 0.0F;
    for (const Tap& row : rows_.taps_of(y)) {
      float across = 0.0F;
      for (const Tap& column : columns_.taps_of(x)) {
        across += static_cast<float>(*at(src, row.source, column.source)) * column.weight;
      }
      sum += row.weight * across;
    }
    return rounded(sum);
  }

  Axis rows_;
  Axis columns_;
  std::size_t channels_;
  Method method_ = Method::kCopy;
};

}  // namespace fastrl::envs::atari
