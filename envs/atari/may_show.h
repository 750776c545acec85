// What a part of a log may have shown, without playing it.
//
// Oracle: beam.h (tests/oracle/test_atari.py: what comes and goes).
#pragma once

#include <array>
#include <cstddef>

#include "envs/atari/frame_memo.h"
#include "envs/atari/operations.h"
#include "envs/atari/tia.h"

namespace fastrl::envs::atari {

/// Things that may have been shown, at any time and for however long, since it was made.
class MayShow {
 public:
  explicit MayShow(const Tia& tia) noexcept : things_(tia.shown()) {
    for (std::size_t p = 0; p < 2; ++p) {  // A write to the other player's graphics shows these.
      if (tia.players[p].delay && tia.players[p].graphics != 0) things_ |= Tia::kHasP0 << p;
    }
    if (tia.ball.delay && tia.ball.enabled) things_ |= Tia::kHasBall;
    if ((tia.vblank & 2) == 0) things_ |= kPicture;
  }

  FASTRL_INLINE void add(TiaAccess access) noexcept {
    const Shows& shows = kShows[static_cast<std::size_t>(access.reg())];
    const unsigned shown = (access.value() | kAlways) & shows.mask;
    things_ |= shows.things & (0U - static_cast<unsigned>(shown != 0));  // Without a branch.
  }

  /// Whether one of these latches may have been set.
  [[nodiscard]] bool may_set(unsigned latches) const noexcept {
    return (things_ & kPicture) != 0 && (Tia::kCollisions[things_ & (kPicture - 1)] & latches) != 0;
  }

 private:
  static constexpr Tia::Things kPicture = 1U << 6U;  ///< VBLANK may have been off.

  /// What an access may show that was not shown before it.
  struct Shows {
    unsigned mask;  ///< It does so if its value has one of these bits, of which it has kAlways.
    Tia::Things things;
  };
  static constexpr unsigned kAlways = 0x100;
  static constexpr std::array<Shows, 64> kShows = [] {
    std::array<Shows, 64> table{};
    for (std::size_t p = 0; p < 2; ++p) {
      table[Tia::GRP0 + p] = {0xFF, Tia::kHasP0 << p};
      table[Tia::VDELP0 + p] = {kAlways, Tia::kHasP0 << p};
      table[Tia::ENAM0 + p] = {0x02, Tia::kHasM0 << p};
      table[Tia::RESMP0 + p] = {kAlways, Tia::kHasM0 << p};
    }
    table[Tia::ENABL] = {0x02, Tia::kHasBall};
    table[Tia::VDELBL] = {kAlways, Tia::kHasBall};
    for (const std::size_t pf : {Tia::PF0, Tia::PF1, Tia::PF2}) {
      table[pf] = {0xFF, Tia::kHasPlayfield};
    }
    table[Tia::VBLANK] = {kAlways, kPicture};
    return table;
  }();

  Tia::Things things_;
};

}  // namespace fastrl::envs::atari
