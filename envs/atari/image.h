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
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "envs/atari/palettes_generated.h"
#include "envs/atari/vectors.h"

namespace fastrl::envs::atari {

inline constexpr std::size_t kScreenWidth = 160;

/// By row of a screen: whether it is another than the last time, or may be.
using Changes = std::array<bool, 300>;

/// out = max(a, b), byte by byte. Returns whether that changed `out`, which may be one of the two.
inline bool maximum(const std::uint8_t* a, const std::uint8_t* b, std::uint8_t* out,
                    std::size_t n) noexcept {
  unsigned changed = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint8_t larger = std::max(a[i], b[i]);
    changed |= static_cast<unsigned>(larger ^ out[i]);
    out[i] = larger;
  }
  return changed != 0;
}

/// A row of `out` becomes the maximum of the colours of two. Returns whether that changed it.
template <typename Row>
bool pool_row(const Row& row, const std::uint8_t* newest, const std::uint8_t* older,
              std::uint8_t* out) noexcept {
  constexpr std::size_t kSize = kScreenWidth * Row::kChannels;
  std::array<std::uint8_t, kSize> ours;
  std::array<std::uint8_t, kSize> theirs;
  row(newest, ours.data());
  row(older, theirs.data());
  return maximum(ours.data(), theirs.data(), out, kSize);
}

/// Palette indices to greys, a row at a time.
class GreyRow {
 public:
  static constexpr std::size_t kChannels = 1;

  explicit GreyRow(const Palette& palette) noexcept : greys_(palette.grey) {}

  void operator()(const std::uint8_t* in, std::uint8_t* out) const noexcept {
    for (std::size_t x = 0; x < kScreenWidth; ++x) out[x] = greys_[in[x]];
  }

#ifdef __x86_64__
  /// `pool` below, 32 pixels at a time.
  [[FASTRL_AVX2]] void pool_avx2(std::span<const std::uint8_t> screen, const std::uint8_t* older,
                                 std::uint8_t* out, Changes& changes) const noexcept {
    const EvenTable table(greys_.data());
    for (std::size_t y = 0; y * kScreenWidth < screen.size(); ++y) {
      if (!changes[y]) continue;
      const std::size_t at = y * kScreenWidth;
      const auto* const newest = reinterpret_cast<const __m256i*>(screen.data() + at);
      const auto* const other = reinterpret_cast<const __m256i*>(older + at);
      __m256i bits = _mm256_setzero_si256();
      for (std::size_t i = 0; i < kScreenWidth / 32; ++i) {
        bits = _mm256_or_si256(bits, _mm256_loadu_si256(newest + i));
        bits = _mm256_or_si256(bits, _mm256_loadu_si256(other + i));
      }
      if (_mm256_testz_si256(bits, _mm256_set1_epi8(1)) == 0) {
        changes[y] = pool_row(*this, screen.data() + at, older + at, out + at);
        continue;
      }
      auto* const to = reinterpret_cast<__m256i*>(out + at);
      __m256i changed = _mm256_setzero_si256();
      for (std::size_t i = 0; i < kScreenWidth / 32; ++i) {
        const __m256i a = _mm256_loadu_si256(newest + i);
        const __m256i b = _mm256_loadu_si256(other + i);
        __m256i pixels = table(a);
        const __m256i differ = _mm256_xor_si256(a, b);
        if (_mm256_testz_si256(differ, differ) == 0) pixels = _mm256_max_epu8(pixels, table(b));
        changed = _mm256_or_si256(changed, _mm256_xor_si256(pixels, _mm256_loadu_si256(to + i)));
        _mm256_storeu_si256(to + i, pixels);
      }
      changes[y] = _mm256_testz_si256(changed, changed) == 0;
    }
  }

  /// The same, 64 pixels at a time: the table is in four registers.
  [[FASTRL_VBMI]] void pool_vbmi(std::span<const std::uint8_t> screen, const std::uint8_t* older,
                                 std::uint8_t* out, Changes& changes) const noexcept {
    const Table table(greys_.data());
    for (std::size_t y = 0; y * kScreenWidth < screen.size(); ++y) {
      if (!changes[y]) continue;
      __mmask64 changed = 0;
      for (const std::size_t x : {std::size_t{0}, std::size_t{64}, kScreenWidth - 64}) {
        const std::size_t at = (y * kScreenWidth) + x;
        const __m512i newest = _mm512_loadu_si512(screen.data() + at);
        const __m512i other = _mm512_loadu_si512(older + at);
        __m512i pixels = table(newest);
        if (_mm512_cmpneq_epi8_mask(newest, other) != 0) {
          pixels = _mm512_max_epu8(pixels, table(other));
        }
        changed |= _mm512_cmpneq_epi8_mask(pixels, _mm512_loadu_si512(out + at));
        _mm512_storeu_si512(out + at, pixels);
      }
      changes[y] = changed != 0;
    }
  }

 private:
  /// Of even indices: odd ones are those of PAL's colour loss and of frames that were greyed out.
  struct EvenTable {
    static constexpr std::size_t kParts = 8;
    /// 16 of the 128 greys, combined with the 16 before. (A std::array drops the type's alignment.)
    __m256i parts[kParts];

    [[FASTRL_AVX2]] explicit EvenTable(const std::uint8_t* greys) noexcept {
      __m256i before = _mm256_setzero_si256();
      for (std::size_t i = 0; i < kParts; ++i) {
        const auto* const from = reinterpret_cast<const __m128i*>(greys + (32 * i));
        const __m128i even = _mm_set1_epi16(0xFF);
        const __m256i part = _mm256_broadcastsi128_si256(
            _mm_packus_epi16(_mm_and_si128(_mm_loadu_si128(from), even),
                             _mm_and_si128(_mm_loadu_si128(from + 1), even)));
        parts[i] = _mm256_xor_si256(part, before);
        before = part;
      }
    }

    /// A shuffle finds nothing for a negative index, and looks at the lower four bits of others:
    /// all parts up to the right one find something, of which but the last grey cancels out.
    [[FASTRL_AVX2]] __m256i operator()(__m256i pixels) const noexcept {
      __m256i index = _mm256_and_si256(_mm256_srli_epi16(pixels, 1), _mm256_set1_epi8(0x7F));
      __m256i found = _mm256_shuffle_epi8(parts[0], index);
      for (std::size_t i = 1; i < kParts; ++i) {
        index = _mm256_sub_epi8(index, _mm256_set1_epi8(16));
        found = _mm256_xor_si256(found, _mm256_shuffle_epi8(parts[i], index));
      }
      return found;
    }
  };

  struct Table {
    __m512i first;
    __m512i second;
    __m512i third;
    __m512i fourth;

    [[FASTRL_VBMI]] explicit Table(const std::uint8_t* greys) noexcept
        : first(_mm512_loadu_si512(greys)),
          second(_mm512_loadu_si512(greys + 64)),
          third(_mm512_loadu_si512(greys + 128)),
          fourth(_mm512_loadu_si512(greys + 192)) {}

    [[FASTRL_VBMI]] __m512i operator()(__m512i pixels) const noexcept {
      const __m512i low = _mm512_permutex2var_epi8(first, pixels, second);
      const __m512i high = _mm512_permutex2var_epi8(third, pixels, fourth);
      return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(pixels), high);
    }
  };
#else
 private:
#endif

  const std::array<std::uint8_t, 256>& greys_;
};

/// Greys already.
class PaintedGreyRow {
 public:
  static constexpr std::size_t kChannels = 1;

  void operator()(const std::uint8_t* in, std::uint8_t* out) const noexcept {
    std::copy_n(in, kScreenWidth, out);
  }

#ifdef __x86_64__
  /// `pool` below, 32 pixels at a time.
  [[FASTRL_AVX2]] static void pool_avx2(std::span<const std::uint8_t> screen,
                                        const std::uint8_t* older, std::uint8_t* out,
                                        Changes& changes) noexcept {
    for (std::size_t y = 0; y * kScreenWidth < screen.size(); ++y) {
      if (!changes[y]) continue;
      const std::size_t at = y * kScreenWidth;
      const auto* const newest = reinterpret_cast<const __m256i*>(screen.data() + at);
      const auto* const other = reinterpret_cast<const __m256i*>(older + at);
      auto* const to = reinterpret_cast<__m256i*>(out + at);
      __m256i changed = _mm256_setzero_si256();
      for (std::size_t i = 0; i < kScreenWidth / 32; ++i) {
        const __m256i a = _mm256_loadu_si256(newest + i);
        const __m256i pixels = _mm256_max_epu8(a, _mm256_loadu_si256(other + i));
        changed = _mm256_or_si256(changed, _mm256_xor_si256(pixels, _mm256_loadu_si256(to + i)));
        _mm256_storeu_si256(to + i, pixels);
      }
      changes[y] = _mm256_testz_si256(changed, changed) == 0;
    }
  }
#endif
};

/// Palette indices to red, green, blue of the first pixel, then of the next; a row at a time.
class RgbRow {
 public:
  static constexpr std::size_t kChannels = 3;

  explicit RgbRow(const Palette& palette) noexcept : colours_(palette.rgb) {}

  void operator()(const std::uint8_t* in, std::uint8_t* out) const noexcept {
    for (std::size_t x = 0; x < kScreenWidth; ++x, out += 3)
      std::ranges::copy(colours_[in[x]], out);
  }

 private:
  const std::array<std::array<std::uint8_t, 3>, 256>& colours_;
};

/// Writes Row::kChannels bytes a pixel. `screen` has whole rows.
template <typename Row>
void recolour(const Row& row, std::span<const std::uint8_t> screen, std::uint8_t* out) noexcept {
  for (std::size_t i = 0; i < screen.size(); i += kScreenWidth) {
    row(screen.data() + i, out + (i * Row::kChannels));
  }
}

/// `out` becomes the maximum of two screens' colours; they may be the same. `changes`: rows that
/// may be others than the last time; afterwards, rows of `out` that are.
template <typename Row>
void pool_plainly(const Row& row, std::span<const std::uint8_t> screen, const std::uint8_t* older,
                  std::uint8_t* out, Changes& changes) noexcept {
  constexpr std::size_t kSize = kScreenWidth * Row::kChannels;
  for (std::size_t y = 0; y * kScreenWidth < screen.size(); ++y) {
    if (!changes[y]) continue;
    const std::size_t at = y * kScreenWidth;
    changes[y] = pool_row(row, screen.data() + at, older + at, out + (y * kSize));
  }
}

template <typename Row>
void pool(const Row& row, std::span<const std::uint8_t> screen, const std::uint8_t* older,
          std::uint8_t* out, Changes& changes) noexcept {
#ifdef __x86_64__
  if constexpr (requires { row.pool_vbmi(screen, older, out, changes); }) {
    if (vectors >= Vectors::kVbmi) return row.pool_vbmi(screen, older, out, changes);
  }
  if constexpr (requires { row.pool_avx2(screen, older, out, changes); }) {
    if (vectors >= Vectors::kAvx2) return row.pool_avx2(screen, older, out, changes);
  }
#endif
  pool_plainly(row, screen, older, out, changes);
}

/// Pools `out` with one more screen.
template <typename Row>
void pool_another(const Row& row, std::span<const std::uint8_t> screen, std::uint8_t* out,
                  Changes& changes) noexcept {
  constexpr std::size_t kSize = kScreenWidth * Row::kChannels;
  std::array<std::uint8_t, kSize> coloured;
  for (std::size_t y = 0; y * kScreenWidth < screen.size(); ++y, out += kSize) {
    row(screen.data() + (y * kScreenWidth), coloured.data());
    changes[y] = maximum(coloured.data(), out, out, kSize);
  }
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
      if (channels == 1) find_shares();
    }
  }

  /// Floats that operator() needs.
  [[nodiscard]] std::size_t scratch_size() const noexcept {
    return chunks_.empty() ? 0 : 2 * line_size() * sizeof(std::int16_t) / sizeof(float);
  }

  /// `scratch` has scratch_size() floats; what is in them does not matter.
  void operator()(const std::uint8_t* src, std::uint8_t* dst,
                  [[maybe_unused]] float* scratch) const noexcept {
    if (method_ == Method::kCopy) {
      std::copy_n(src, rows_.src * columns_.src * channels_, dst);
      return;
    }
#ifdef __x86_64__
    if (!chunks_.empty()) return fast_area(src, dst, reinterpret_cast<__m128i*>(scratch));
#endif
    plain(src, dst);
  }

  /// The same where `last` is what came of the image before, which `changes` tell from this one.
  void update(const std::uint8_t* src, std::uint8_t* dst, [[maybe_unused]] float* scratch,
              [[maybe_unused]] const std::uint8_t* last,
              [[maybe_unused]] const Changes& changes) const noexcept {
#ifdef __x86_64__
    if (!chunks_.empty()) {
      return fast_area(src, dst, reinterpret_cast<__m128i*>(scratch), last, &changes);
    }
#endif
    (*this)(src, dst, scratch);
  }

  /// operator(), pixel by pixel.
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

    [[nodiscard]] std::size_t most_taps() const noexcept {
      std::size_t most = 0;
      for (std::size_t d = 0; d < dst; ++d) most = std::max(most, first[d + 1] - first[d]);
      return most;
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

  // Areas of one channel, fast. The shares of a pixel's area are n / down and m / across, so but
  // for rounding errors a pixel is an integer over down * across, in whatever order it is added up.
  // Only where that is so close to a half that errors could decide are the floats added up as
  // above.

  static constexpr std::size_t kChunk = 8;  ///< Pixels of the destination made at once.
  static constexpr std::size_t kReach = 4;  ///< Neighbours that a pixel has across, at most.

  struct Chunk {
    std::array<std::array<std::int16_t, kReach>, kChunk> shares;  ///< Some at the end may be 0.
    std::array<std::uint16_t, kChunk> first;                      ///< Leftmost neighbour.
    std::size_t start;                                            ///< In the destination.
  };

  /// The same for twice as many, for processors that pick 32 words out of 64 at once.
  struct WideChunk {
    static constexpr std::size_t kSize = 16;
    static constexpr std::size_t kRegister = 32;  ///< Words.

    using Words = std::array<std::uint16_t, kRegister>;
    std::array<Words, kReach / 2> neighbours;  ///< Two of each pixel, in two registers of the line,
    std::array<Words, kReach / 2> shares;
    std::size_t window;  ///< which start here.
    std::size_t start;   ///< In the destination.
  };

  /// 16-bit sums of a line of the source, with room for neighbours that count nothing.
  [[nodiscard]] std::size_t line_size() const noexcept {
    return (columns_.src + WideChunk::kRegister + 7) & ~7U;
  }

  void find_shares() {
    const std::size_t down = rows_.src / std::gcd(rows_.src, rows_.dst);
    const std::size_t across = columns_.src / std::gcd(columns_.src, columns_.dst);
    // 16 bits down, 24 bits (what a float counts exactly) in all.
    const bool fits = down * 255 <= 32767 && across <= 512 && columns_.most_taps() <= kReach;
    if (!fits || columns_.src < 2 * kChunk || columns_.dst < kChunk) return;

    for (const Tap& tap : rows_.taps) row_shares_.push_back(share(tap, down));
    for (std::size_t x = 0; x < columns_.dst; x += kChunk) {
      Chunk& chunk = chunks_.emplace_back();
      chunk.start = std::min(x, columns_.dst - kChunk);
      for (std::size_t i = 0; i < kChunk; ++i) {
        const auto taps = columns_.taps_of(chunk.start + i);
        chunk.first[i] = static_cast<std::uint16_t>(taps.front().source);
        for (std::size_t t = 0; t < taps.size(); ++t) chunk.shares[i][t] = share(taps[t], across);
      }
    }
    find_wide_chunks(across);
    inverse_area_ = 1.0F / static_cast<float>(down * across);
    // An operation is off by 2^-24 of its result, which is 255 at most. Each value went through
    // fewer of them than this: two weights, two products and the sums; here a factor and a product.
    const std::size_t operations = rows_.most_taps() + columns_.most_taps() + 4;
    doubtful_ = 0.5F - (255.0F * static_cast<float>(operations) * 0x1p-23F);
  }

  static std::int16_t share(const Tap& tap, std::size_t of) noexcept {
    return static_cast<std::int16_t>(std::lrint(tap.weight * static_cast<float>(of)));
  }

  void find_wide_chunks(std::size_t across) {
    if (columns_.dst < WideChunk::kSize || columns_.src % WideChunk::kRegister != 0) return;
    const auto first = [this](std::size_t x) { return columns_.taps_of(x).front().source; };
    for (std::size_t x = 0; x < columns_.dst; x += WideChunk::kSize) {
      WideChunk& chunk = wide_chunks_.emplace_back();
      chunk.start = std::min(x, columns_.dst - WideChunk::kSize);
      chunk.window = first(chunk.start) / WideChunk::kRegister * WideChunk::kRegister;
      const std::size_t end = first(chunk.start + WideChunk::kSize - 1) + kReach;
      if (end > chunk.window + (2 * WideChunk::kRegister)) {
        wide_chunks_.clear();
        return;
      }
      for (std::size_t i = 0; i < WideChunk::kSize; ++i) {
        const auto taps = columns_.taps_of(chunk.start + i);
        for (std::size_t t = 0; t < kReach; ++t) {
          const std::size_t at = (2 * i) + (t % 2);
          chunk.neighbours[t / 2][at] =
              static_cast<std::uint16_t>(taps.front().source + t - chunk.window);
          chunk.shares[t / 2][at] =
              t < taps.size() ? static_cast<std::uint16_t>(share(taps[t], across)) : 0U;
        }
      }
    }
  }

#ifdef __x86_64__
  void fast_area(const std::uint8_t* src, std::uint8_t* dst, __m128i* scratch,
                 const std::uint8_t* before = nullptr,
                 const Changes* changes = nullptr) const noexcept {
    auto* line = reinterpret_cast<std::int16_t*>(scratch);
    std::int16_t* last = line + line_size();
    for (std::size_t i = 0; i < 2 * line_size() / 8; ++i) {
      _mm_storeu_si128(scratch + i, _mm_setzero_si128());
    }
    const bool wide = vectors >= Vectors::kAvx512 && !wide_chunks_.empty();
    bool can_repeat = false;
    const auto changed = [&](const Tap& tap) { return (*changes)[tap.source]; };
    for (std::size_t y = 0; y < rows_.dst; ++y, dst += columns_.dst) {
      if (changes != nullptr && std::ranges::none_of(rows_.taps_of(y), changed)) {
        std::memmove(dst, before + (y * columns_.dst), columns_.dst);
        can_repeat = false;
        continue;
      }
      const bool same = wide ? add_rows_wide(src, y, line, last) : add_rows(src, y, line, last);
      if (same && can_repeat) {
        std::copy_n(dst - columns_.dst, columns_.dst, dst);
        continue;
      }
      can_repeat = true;
      const auto settle = [&](std::size_t start, unsigned doubts) {
        if (doubts == 0) return;
        can_repeat = false;
        for (; doubts != 0; doubts &= doubts - 1) {
          const std::size_t x = start + static_cast<std::size_t>(std::countr_zero(doubts));
          dst[x] = area(src, y, x);
        }
      };
      if (wide) {
        for (const WideChunk& chunk : wide_chunks_) {
          settle(chunk.start, add_columns_wide(chunk, line, dst + chunk.start));
        }
      } else {
        for (const Chunk& chunk : chunks_) {
          settle(chunk.start, add_columns(chunk, line, dst + chunk.start));
        }
      }
      std::swap(line, last);
    }
  }

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // gcc 12 says it of its own intrinsics.
  /// As add_rows.
  [[FASTRL_AVX512]] bool add_rows_wide(const std::uint8_t* src, std::size_t y, std::int16_t* line,
                                       const std::int16_t* last) const noexcept {
    const auto taps = rows_.taps_of(y);
    const std::int16_t* shares = row_shares_.data() + rows_.first[y];
    __mmask32 differ = 0;
    for (std::size_t x = 0; x < columns_.src; x += WideChunk::kRegister) {
      __m512i sum = _mm512_setzero_si512();
      for (std::size_t t = 0; t < taps.size(); ++t) {
        const auto* pixels =
            reinterpret_cast<const __m256i*>(src + (taps[t].source * columns_.src) + x);
        const __m512i words = _mm512_cvtepu8_epi16(_mm256_loadu_si256(pixels));
        sum = _mm512_add_epi16(sum, _mm512_mullo_epi16(words, _mm512_set1_epi16(shares[t])));
      }
      differ |= _mm512_cmpneq_epi16_mask(sum, _mm512_loadu_si512(last + x));
      _mm512_storeu_si512(line + x, sum);
    }
    return differ == 0;
  }

  /// As add_columns.
  [[FASTRL_AVX512]] unsigned add_columns_wide(const WideChunk& chunk, const std::int16_t* line,
                                              std::uint8_t* dst) const noexcept {
    const __m512i low = _mm512_loadu_si512(line + chunk.window);
    const __m512i high = _mm512_loadu_si512(line + chunk.window + WideChunk::kRegister);
    __m512i sum = _mm512_setzero_si512();
    for (std::size_t k = 0; k < chunk.shares.size(); ++k) {
      const __m512i which = _mm512_loadu_si512(chunk.neighbours[k].data());
      const __m512i two = _mm512_permutex2var_epi16(low, which, high);
      sum =
          _mm512_add_epi32(sum, _mm512_madd_epi16(two, _mm512_loadu_si512(chunk.shares[k].data())));
    }
    const __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(inverse_area_));
    const __m512i rounded = _mm512_cvtps_epi32(value);
    const __m512 error = _mm512_sub_ps(value, _mm512_cvtepi32_ps(rounded));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), _mm512_cvtepi32_epi8(rounded));
    return _mm512_cmp_ps_mask(_mm512_abs_ps(error), _mm512_set1_ps(doubtful_), _CMP_GE_OQ);
  }
#pragma GCC diagnostic pop

  /// Adds up the source rows of row y, in `line`. Returns whether it is the same as `last`.
  bool add_rows(const std::uint8_t* src, std::size_t y, std::int16_t* line,
                const std::int16_t* last) const noexcept {
    const auto taps = rows_.taps_of(y);
    const std::int16_t* shares = row_shares_.data() + rows_.first[y];
    switch (taps.size()) {
      case 3:
        return add_rows<3>(src, taps, shares, line, last);
      case 4:
        return add_rows<4>(src, taps, shares, line, last);
      default:
        return add_rows<0>(src, taps, shares, line, last);
    }
  }

  /// `kTaps` is taps.size(), or 0.
  template <std::size_t kTaps>
  bool add_rows(const std::uint8_t* src, std::span<const Tap> taps, const std::int16_t* shares,
                std::int16_t* line, const std::int16_t* last) const noexcept {
    const __m128i zero = _mm_setzero_si128();
    const std::size_t num_taps = kTaps == 0 ? taps.size() : kTaps;
    __m128i differ = zero;
    for (std::size_t x = 0; x < columns_.src; x += 16) {
      const std::size_t at = std::min(x, columns_.src - 16);
      __m128i low = zero;
      __m128i high = zero;
      for (std::size_t t = 0; t < num_taps; ++t) {
        const __m128i pixels = load(src + (taps[t].source * columns_.src) + at);
        const __m128i share = _mm_set1_epi16(shares[t]);
        low = _mm_add_epi16(low, _mm_mullo_epi16(_mm_unpacklo_epi8(pixels, zero), share));
        high = _mm_add_epi16(high, _mm_mullo_epi16(_mm_unpackhi_epi8(pixels, zero), share));
      }
      differ = _mm_or_si128(differ, _mm_xor_si128(low, load(last + at)));
      differ = _mm_or_si128(differ, _mm_xor_si128(high, load(last + at + 8)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(line + at), low);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(line + at + 8), high);
    }
    return _mm_movemask_epi8(_mm_cmpeq_epi8(differ, zero)) == 0xFFFF;
  }

  /// Adds up the columns of a chunk. Returns a bit a pixel: whether its rounding is in doubt.
  unsigned add_columns(const Chunk& chunk, const std::int16_t* line,
                       std::uint8_t* dst) const noexcept {
    const auto two = [&](std::size_t i) {
      __m128 neighbours = _mm_setzero_ps();
      neighbours = _mm_loadl_pi(neighbours, reinterpret_cast<const __m64*>(line + chunk.first[i]));
      neighbours =
          _mm_loadh_pi(neighbours, reinterpret_cast<const __m64*>(line + chunk.first[i + 1]));
      return _mm_castsi128_ps(_mm_madd_epi16(_mm_castps_si128(neighbours), load(&chunk.shares[i])));
    };
    const auto four = [&](std::size_t i) {
      const __m128 a = two(i);
      const __m128 b = two(i + 2);
      const __m128i even = _mm_castps_si128(_mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)));
      const __m128i odd = _mm_castps_si128(_mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
      return _mm_mul_ps(_mm_cvtepi32_ps(_mm_add_epi32(even, odd)), _mm_set1_ps(inverse_area_));
    };
    const auto in_doubt = [&](__m128 value, __m128i rounded) {
      const __m128 error = _mm_sub_ps(value, _mm_cvtepi32_ps(rounded));
      const __m128 size = _mm_andnot_ps(_mm_set1_ps(-0.0F), error);
      return _mm_castps_si128(_mm_cmpge_ps(size, _mm_set1_ps(doubtful_)));
    };
    const __m128 left = four(0);
    const __m128 right = four(4);
    const __m128i rounded_left = _mm_cvtps_epi32(left);
    const __m128i rounded_right = _mm_cvtps_epi32(right);
    const __m128i words = _mm_packs_epi32(rounded_left, rounded_right);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(dst), _mm_packus_epi16(words, words));
    const __m128i doubts =
        _mm_packs_epi32(in_doubt(left, rounded_left), in_doubt(right, rounded_right));
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(doubts, _mm_setzero_si128())));
  }

  static __m128i load(const void* from) noexcept {
    return _mm_loadu_si128(static_cast<const __m128i*>(from));
  }
#endif

  Axis rows_;
  Axis columns_;
  std::size_t channels_;
  Method method_ = Method::kCopy;
  std::vector<std::int16_t> row_shares_;  ///< Of rows_.taps.
  std::vector<Chunk> chunks_;             ///< None if there is no fast way.
  std::vector<WideChunk> wide_chunks_;    ///< None if there is no wide way.
  float inverse_area_ = 0.0F;
  float doubtful_ = 0.0F;  ///< So far from an integer, or farther.
};

}  // namespace fastrl::envs::atari
