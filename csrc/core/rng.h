// The random numbers of one environment: small, seedable, copied with the state.
#pragma once

#include <concepts>
#include <cstdint>

namespace fastrl {

/// SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195). Eight bytes of state, so
/// every environment owns a stream and a snapshot of the environment contains it.
class Rng {
 public:
  Rng() = default;
  explicit constexpr Rng(std::uint64_t seed) noexcept : state_(mix(seed + kGamma)) {}

  constexpr std::uint64_t next() noexcept { return mix(state_ += kGamma); }

  /// Uniform in [0, 1), 53 bits.
  constexpr double uniform() noexcept { return static_cast<double>(next() >> 11U) * 0x1.0p-53; }

  /// Uniform in [0, n), n > 0, without bias (Lemire 2019, doi:10.1145/3230636).
  constexpr int below(int n) noexcept {
    const auto range = static_cast<std::uint32_t>(n);
    std::uint64_t product = (next() >> 32U) * range;
    if (static_cast<std::uint32_t>(product) < range) {
      const std::uint32_t threshold = -range % range;
      while (static_cast<std::uint32_t>(product) < threshold) product = (next() >> 32U) * range;
    }
    return static_cast<int>(product >> 32U);
  }

  /// True with probability p.
  constexpr bool chance(double p) noexcept { return uniform() < p; }

  /// An independent stream; this one moves on by one draw.
  constexpr Rng split() noexcept { return Rng(next()); }

 private:
  static constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15ULL;

  static constexpr std::uint64_t mix(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31U);
  }

  std::uint64_t state_ = mix(kGamma);
};

/// What a game draws from: `Rng` in the pool, a list of recorded draws in the oracle tests.
template <typename R>
concept RandomSource = requires(R rng, int n, double p) {
  { rng.uniform() } -> std::same_as<double>;
  { rng.below(n) } -> std::same_as<int>;
  { rng.chance(p) } -> std::same_as<bool>;
};

}  // namespace fastrl
