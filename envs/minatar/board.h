// What the five games share: the six actions, the sticky one among them, and the 10 by 10 board.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "csrc/core/check.h"
#include "csrc/core/rng.h"

namespace fastrl::envs::minatar {

inline constexpr int kSide = 10;
inline constexpr int kNumAllActions = 6;

enum Action : int { kNoop, kLeft, kUp, kRight, kDown, kFire };

/// Plays the previous action again with some probability (Machado et al. 2018, section 5.2).
struct StickyAction {
  std::int8_t last = kNoop;

  /// Always takes one draw, so that the stream does not depend on `prob`.
  template <RandomSource R>
  int operator()(int action, double prob, R& rng) noexcept {
    if (!rng.chance(prob)) last = static_cast<std::int8_t>(action);
    return last;
  }
};

/// A (kSide, kSide, kChannels) observation of zeros and ones, cleared on construction.
template <int kChannels>
class Canvas {
 public:
  static constexpr std::size_t kSize = std::size_t{kSide} * kSide * kChannels;

  explicit Canvas(std::span<std::uint8_t, kSize> cells) noexcept : cells_(cells) {
    std::memset(cells_.data(), 0, kSize);
  }

  void set(int channel, int row, int col) noexcept {
    cells_[static_cast<std::size_t>(((row * kSide) + col) * kChannels + channel)] = 1;
  }

 private:
  std::span<std::uint8_t, kSize> cells_;
};

/// A list that lives inside the state and keeps its order. Its capacity is a bound that the rules
/// of the game give; the comment beside each use says why.
template <typename T, int kCapacity>
struct BoundedList {
  std::array<T, kCapacity> items{};
  std::int8_t count = 0;

  static_assert(kCapacity <= INT8_MAX);

  [[nodiscard]] T& operator[](int i) noexcept { return items[static_cast<std::size_t>(i)]; }
  [[nodiscard]] const T* begin() const noexcept { return items.data(); }
  [[nodiscard]] const T* end() const noexcept { return items.data() + count; }

  void push(const T& item) noexcept {
    FASTRL_DCHECK(count < kCapacity);
    items[static_cast<std::size_t>(count++)] = item;
  }

  void erase(int i) noexcept {
    for (--count; i < count; ++i) (*this)[i] = (*this)[i + 1];
  }
};

}  // namespace fastrl::envs::minatar
