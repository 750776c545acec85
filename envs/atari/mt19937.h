// The Mersenne Twister MT19937, 32 bits: the generator of the reference console and environment.
//
// Document: Matsumoto and Nishimura 1998, doi:10.1145/272991.272995 (2002 initialisation).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fastrl::envs::atari {

class Mt19937 {
 public:
  explicit constexpr Mt19937(std::uint32_t seed = 5489) noexcept {
    words_[0] = seed;
    for (std::uint32_t i = 1; i < kSize; ++i) {
      const std::uint32_t last = words_[i - 1];
      words_[i] = (1812433253U * (last ^ (last >> 30U))) + i;
    }
  }

  constexpr std::uint32_t next() noexcept {
    if (used_ == kSize) refill();
    std::uint32_t y = words_[used_++];
    y ^= y >> 11U;
    y ^= (y << 7U) & 0x9D2C5680U;
    y ^= (y << 15U) & 0xEFC60000U;
    return y ^ (y >> 18U);
  }

 private:
  static constexpr std::size_t kSize = 624;
  static constexpr std::size_t kShift = 397;

  constexpr void refill() noexcept {
    for (std::size_t i = 0; i < kSize; ++i) {
      const std::uint32_t y = (words_[i] & 0x80000000U) | (words_[(i + 1) % kSize] & 0x7FFFFFFFU);
      words_[i] = words_[(i + kShift) % kSize] ^ (y >> 1U) ^ ((y & 1U) * 0x9908B0DFU);
    }
    used_ = 0;
  }

  std::array<std::uint32_t, kSize> words_{};
  std::size_t used_ = kSize;
};

// The console's stream (console_spec.md 1.4).
static_assert([] {
  Mt19937 random(4753849);
  return random.next() == 3205607096U && random.next() == 2794184854U &&
         random.next() == 4236690624U;
}());

}  // namespace fastrl::envs::atari
