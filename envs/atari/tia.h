// The TIA: registers, the beam, collision latches, and the inputs that pass through it. Pixels are
// made by a painter: plainly in pixels.h, fast in spans.h.
//
// Document: console_spec.md 4. The picture is made only when somebody touches the chip
// (`catch_up`), and only inside the visible window. That laziness can be observed, so it is kept.
//
// A painter has `paint(tia, pen, first, count)`: columns [first, first + count) of a line go to the
// pixels from `pen` on and meetings of objects into `tia.collisions`; and `blank(pen, count)`.
// Oracle:   tests/oracle/test_atari.py.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "envs/atari/controllers.h"
#include "envs/atari/rom.h"

namespace fastrl::envs::atari {

/// A colour clock, three to a processor cycle. Wraps like the counter it is made from.
using Clock = std::int32_t;

constexpr Clock plus(Clock a, std::uint32_t b) noexcept {
  return static_cast<Clock>(static_cast<std::uint32_t>(a) + b);
}
/// How long before `later` `earlier` was.
constexpr std::uint32_t since(Clock later, Clock earlier) noexcept {
  return static_cast<std::uint32_t>(later) - static_cast<std::uint32_t>(earlier);
}
constexpr Clock clock_of(std::uint32_t cycle) noexcept { return static_cast<Clock>(3U * cycle); }

/// What the picture is made from, but the beam.
struct TiaRegisters {
  enum class Missile0 : std::uint8_t { kNormal, kWidened, kHidden };

  static constexpr std::array<std::uint8_t, 256> kMirrored = [] {
    std::array<std::uint8_t, 256> table{};
    for (std::size_t i = 0; i < table.size(); ++i) {
      for (unsigned bit = 0; bit < 8; ++bit) {
        table[i] = static_cast<std::uint8_t>(table[i] | (((i >> bit) & 1U) << (7 - bit)));
      }
    }
    return table;
  }();

  struct Player {
    std::uint8_t graphics = 0;
    std::uint8_t delayed = 0;
    bool delay = false;    ///< VDELPx
    bool reflect = false;  ///< REFPx
    bool first_copy_hidden = false;

    friend bool operator==(const Player&, const Player&) = default;

    [[nodiscard]] constexpr std::uint8_t shown() const noexcept {
      return faced(delay ? delayed : graphics);
    }
    /// `bits` from left to right.
    [[nodiscard]] constexpr std::uint8_t faced(std::uint8_t bits) const noexcept {
      return reflect ? kMirrored[bits] : bits;
    }
  };

  struct Missile {
    bool enabled = false;           ///< ENAMx
    bool locked_to_player = false;  ///< RESMPx

    friend bool operator==(const Missile&, const Missile&) = default;

    [[nodiscard]] constexpr bool shown() const noexcept { return enabled && !locked_to_player; }
  };

  struct Ball {
    bool enabled = false;
    bool delayed = false;
    bool delay = false;  ///< VDELBL

    friend bool operator==(const Ball&, const Ball&) = default;

    [[nodiscard]] constexpr bool shown() const noexcept { return delay ? delayed : enabled; }
  };

  std::uint32_t playfield = 0;  ///< 20 bits, the leftmost in bit 0.
  std::uint16_t star_count = 0;
  std::uint8_t vblank = 0;
  std::uint8_t ctrlpf = 0;
  std::array<std::uint8_t, 2> nusiz{};
  std::array<std::uint8_t, 4> colours{};  ///< COLUP0, COLUP1, COLUPF, COLUBK
  std::array<std::uint8_t, 5> motions{};
  std::array<Player, 2> players{};
  std::array<Missile, 2> missiles{};
  Ball ball;
  bool mirror_right_half = false;  ///< Lags behind CTRLPF.

  // Side effects of HMOVE.
  bool comb_pending = false;  ///< Eight columns are still to be blanked.
  Missile0 missile0 = Missile0::kNormal;
  bool stars_on = false;  ///< The effect of Cosmic Ark's star field.

  friend bool operator==(const TiaRegisters&, const TiaRegisters&) = default;
};

struct Tia : TiaRegisters {
  static constexpr int kWidth = 160;
  static constexpr int kLineClocks = 228;
  static constexpr int kLineCycles = kLineClocks / 3;
  static constexpr int kBlankClocks = 68;  ///< Horizontal blank, at the start of a line.
  static constexpr int kCombColumns = 8;   ///< What HMOVE blanks of the line after it,
  static constexpr int kCombEnd = kBlankClocks + kCombColumns;  ///< and where that ends.
  static constexpr int kMaxHeight = 300;
  static constexpr Clock kNever = std::numeric_limits<Clock>::max();

  // clang-format off
  enum Register : std::uint8_t {
    VSYNC, VBLANK, WSYNC, RSYNC, NUSIZ0, NUSIZ1, COLUP0, COLUP1, COLUPF, COLUBK, CTRLPF, REFP0,
    REFP1, PF0, PF1, PF2, RESP0, RESP1, RESM0, RESM1, RESBL, AUDC0, AUDC1, AUDF0, AUDF1, AUDV0,
    AUDV1, GRP0, GRP1, ENAM0, ENAM1, ENABL, HMP0, HMP1, HMM0, HMM1, HMBL, VDELP0, VDELP1, VDELBL,
    RESMP0, RESMP1, HMOVE, HMCLR, CXCLR
  };
  // clang-format on
  static_assert(CTRLPF == 0x0A && GRP0 == 0x1B && CXCLR == 0x2C);

  /// Bits of a write to a register that mean something: none, where the write itself does.
  static constexpr std::array<std::uint8_t, 64> kBits = [] {
    std::array<std::uint8_t, 64> table{};
    table.fill(0xFF);
    const auto set = [&table](std::uint8_t bits, std::initializer_list<Register> registers) {
      for (const Register r : registers) table[r] = bits;
    };
    set(0x00, {RESP0, RESP1, RESM0, RESM1, RESBL, HMOVE, HMCLR, CXCLR});
    set(0x01, {VDELP0, VDELP1, VDELBL});
    set(0x02, {ENAM0, ENAM1, ENABL, RESMP0, RESMP1});
    set(0x08, {REFP0, REFP1});
    set(0x37, {NUSIZ0, NUSIZ1, CTRLPF});
    set(0xF0, {PF0, HMP0, HMP1, HMM0, HMM1, HMBL});
    set(0xFE, {COLUP0, COLUP1, COLUPF, COLUBK});
    return table;
  }();

  /// The five objects that move. Their order is that of RESP0.. and HMP0..
  enum Object : std::uint8_t { kP0, kP1, kM0, kM1, kBall };

  /// Sets of things: present at a pixel, or shown anywhere at all.
  using Things = unsigned;
  static constexpr Things kHasP0 = 1U << kP0;
  static constexpr Things kHasP1 = 1U << kP1;
  static constexpr Things kHasM0 = 1U << kM0;
  static constexpr Things kHasM1 = 1U << kM1;
  static constexpr Things kHasBall = 1U << kBall;
  static constexpr Things kHasPlayfield = 1U << 5U;
  static constexpr Things kColours = 1U << 6U;  ///< For painters: colours, or whose come first.

  /// Copies of a player or missile, by NUSIZ bits 0 to 2. Wide players (5, 7) have one.
  struct Copies {
    int count;
    std::array<int, 3> offsets;
  };
  static constexpr std::array<Copies, 8> kCopies{{{1, {0}},
                                                  {2, {0, 16}},
                                                  {2, {0, 32}},
                                                  {3, {0, 16, 32}},
                                                  {2, {0, 64}},
                                                  {1, {0}},
                                                  {3, {0, 32, 64}},
                                                  {1, {0}}}};

  /// Two presences and the latch that they set when they meet, as a bit of `collisions`.
  static constexpr std::array<Things, 15> kPairs{
      kHasM0 | kHasP1,          kHasM0 | kHasP0,   kHasM1 | kHasP0,        kHasM1 | kHasP1,
      kHasP0 | kHasPlayfield,   kHasP0 | kHasBall, kHasP1 | kHasPlayfield, kHasP1 | kHasBall,
      kHasM0 | kHasPlayfield,   kHasM0 | kHasBall, kHasM1 | kHasPlayfield, kHasM1 | kHasBall,
      kHasBall | kHasPlayfield, kHasP0 | kHasP1,   kHasM0 | kHasM1};

  /// The latches that are read at a pin, 0 to 7.
  static constexpr std::uint16_t latches_at(int pin) noexcept {
    constexpr std::array<std::uint16_t, 8> kLatches{0x0003, 0x000C, 0x0030, 0x00C0,
                                                    0x0300, 0x0C00, 0x1000, 0x6000};
    return kLatches[static_cast<std::size_t>(pin)];
  }
  static constexpr std::uint16_t kAllLatches = 0x7FFF;

  static constexpr std::array<std::uint16_t, 64> kCollisions = [] {
    std::array<std::uint16_t, 64> table{};
    for (Things present = 0; present < table.size(); ++present) {
      for (unsigned bit = 0; bit < kPairs.size(); ++bit) {
        if ((present & kPairs[bit]) == kPairs[bit]) {
          table[present] = static_cast<std::uint16_t>(table[present] | (1U << bit));
        }
      }
    }
    return table;
  }();

  /// Clocks until a write takes effect on the picture, by the lower bits of the line's cycle.
  static constexpr auto kDelays = [] {
    std::array<std::array<std::uint8_t, 64>, 4> table{};
    constexpr std::array<std::uint8_t, 4> kPlayfield{4, 5, 2, 3};
    for (std::size_t i = 0; i < table.size(); ++i) {
      for (const int r : {VBLANK, REFP0, REFP1, GRP0, GRP1}) table[i][static_cast<unsigned>(r)] = 1;
      for (const int r : {NUSIZ0, NUSIZ1, RESM0, RESM1}) table[i][static_cast<unsigned>(r)] = 8;
      for (const int r : {PF0, PF1, PF2}) table[i][static_cast<unsigned>(r)] = kPlayfield[i];
    }
    return table;
  }();
  /// CTRLPF mirrors the half that is on the screen only if it is written before this clock.
  static constexpr int kMirrorUntil = 147;
  /// After RESPx, an old copy is displayed for so long.
  static constexpr int kCopyClocks = 11;

  // Wiring, fixed by the cartridge and the television.
  int window_top = 34;
  int window_height = 210;
  bool hmove_blanks = true;
  bool pal = false;

  // The beam.
  Clock frame_start = 0;
  Clock drawn = 0;              ///< The picture is done up to this clock.
  int line_left = kLineClocks;  ///< Clocks left of the line at `drawn`.
  std::size_t pen = 0;          ///< Next pixel of the current frame.
  Clock vsync_end = kNever;     ///< From here on, clearing VSYNC ends the frame.
  std::uint32_t current_lines = 0;
  std::uint32_t previous_lines = 0;
  bool frame_open = false;  ///< Between a frame's first instruction and its end. Resets keep it.
  bool greyed = false;      ///< A frame that did not end was greyed out. Resets keep it.

  // What moves.
  std::array<std::int16_t, 5> positions{};  ///< By Object.
  std::uint16_t collisions = 0;             ///< A bit for each of kPairs.
  Clock last_hmove = 0;

  // Paddle capacitors.
  bool dumping = false;
  std::int32_t dump_ended = 0;  ///< Processor cycle.

  friend bool operator==(const Tia&, const Tia&) = default;

  void reset(std::uint32_t cycle) noexcept {
    Tia fresh;
    fresh.window_top = window_top;
    fresh.window_height = window_height;
    fresh.hmove_blanks = hmove_blanks;
    fresh.pal = pal;
    fresh.frame_open = frame_open;
    fresh.greyed = greyed;
    fresh.frame_start = clock_of(cycle);
    fresh.drawn = fresh.frame_start;
    *this = fresh;
  }

  /// Starts a frame and makes its first cycle zero. Returns the cycles to take off every counter.
  std::uint32_t begin_frame(std::uint32_t cycle) noexcept {
    const auto into_line = static_cast<Clock>(line_clock(clock_of(cycle)));
    rebase(cycle);
    frame_start = -into_line;
    drawn = window_begin();
    line_left = kLineClocks;
    pen = 0;
    if (pal) {  // Colour loss.
      for (std::uint8_t& colour : colours) colour = with_colour_loss(colour);
    }
    greyed = false;
    frame_open = true;
    return cycle;
  }

  void rebase(std::uint32_t cycles) noexcept {
    const std::uint32_t clocks = 3U * cycles;
    for (Clock* clock : {&frame_start, &drawn, &vsync_end, &last_hmove}) {
      *clock = static_cast<Clock>(since(*clock, static_cast<Clock>(clocks)));
    }
    dump_ended = static_cast<std::int32_t>(static_cast<std::uint32_t>(dump_ended) - cycles);
  }

  /// Counts lines after the processor ran. Returns whether the picture is to be greyed out: once
  /// for a frame that is still open.
  [[nodiscard]] bool end_update(std::uint32_t cycle) noexcept {
    current_lines = lines(clock_of(cycle));
    if (!frame_open) previous_lines = current_lines;
    const bool grey = frame_open && !greyed;
    greyed = frame_open;
    return grey;
  }

  /// `bus` is the byte last on the bus: it shows through where the chip drives no pin.
  template <typename Painter>
  [[nodiscard]] std::uint8_t read(Painter& painter, int address, std::uint32_t cycle,
                                  std::uint8_t bus, const Ports& ports) noexcept {
    catch_up(painter, clock_of(cycle));
    const int pin = address & 15;
    int high = 0;
    switch (pin) {
      case 0x8:
        high = charged(ports.left.pin9, cycle, dumping, dump_ended) ? 0x80 : 0;
        break;
      case 0x9:
        high = charged(ports.left.pin5, cycle, dumping, dump_ended) ? 0x80 : 0;
        break;
      case 0xA:
        high = charged(ports.right.pin9, cycle, dumping, dump_ended) ? 0x80 : 0;
        break;
      case 0xB:
        high = charged(ports.right.pin5, cycle, dumping, dump_ended) ? 0x80 : 0;
        break;
      case 0xC:
        high = ports.left.pin6 ? 0x80 : 0;
        break;
      case 0xD:
        high = ports.right.pin6 ? 0x80 : 0;
        break;
      default:
        if (pin < 8) high = latches(collisions, pin);
        break;
    }
    return static_cast<std::uint8_t>(high | (bus & 0x3F));
  }

  /// Returns how many cycles the processor must wait. `after_read`: the access before this one
  /// was a read, as it is for stores but not for the second push of a JSR.
  template <typename Painter>
  [[nodiscard]] int write(Painter& painter, int address, std::uint8_t value, std::uint32_t cycle,
                          bool after_read) noexcept {
    catch_up(painter, effective_at(address, cycle));
    const Clock now = clock_of(cycle);
    const auto h = static_cast<int>(line_clock(now));
    const int reg = address & 0x3F;
    const auto number = [reg](int first) { return static_cast<std::size_t>(reg - first); };
    value &= kBits[static_cast<std::size_t>(reg)];
    end_if_late(now);
    switch (reg) {
      case VSYNC:
        set_vsync(value, now);
        break;
      case VBLANK:
        set_vblank(value, cycle);
        break;
      case WSYNC:
        return after_read && h != 0 ? (kLineClocks - h) / 3 : 0;
      case NUSIZ0:
      case NUSIZ1:
        nusiz[number(NUSIZ0)] = value;
        players[number(NUSIZ0)].first_copy_hidden = false;
        if (reg == NUSIZ0) missile0 = Missile0::kNormal;
        break;
      case COLUP0:
      case COLUP1:
      case COLUPF:
      case COLUBK:
        colours[number(COLUP0)] = with_colour_loss(value);
        break;
      case CTRLPF:
        ctrlpf = value;
        if (h < kMirrorUntil) mirror_right_half = (value & 1) != 0;
        break;
      case REFP0:
      case REFP1:
        players[number(REFP0)].reflect = (value & 8) != 0;
        break;
      case PF0:
        playfield = with_pf0(value);
        break;
      case PF1:
        playfield = with_pf1(value);
        break;
      case PF2:
        playfield = with_pf2(value);
        break;
      case RESP0:
      case RESP1: {
        const Strobe strobe = strobe_player(number(RESP0), h);
        if (strobe.old_copy_shown) catch_up(painter, plus(now, kCopyClocks));
        reset_player(number(RESP0), strobe);
        break;
      }
      case RESM0:
      case RESM1:
        positions[kM0 + number(RESM0)] = missile_position(number(RESM0), h, now);
        if (reg == RESM0) missile0 = Missile0::kNormal;
        break;
      case RESBL:
        positions[kBall] = ball_position(h, now);
        break;
      case GRP0:
        players[0].graphics = value;
        players[1].delayed = players[1].graphics;
        break;
      case GRP1:
        players[1].graphics = value;
        players[0].delayed = players[0].graphics;
        ball.delayed = ball.enabled;
        break;
      case ENAM0:
      case ENAM1:
        missiles[number(ENAM0)].enabled = (value & 2) != 0;
        break;
      case ENABL:
        ball.enabled = (value & 2) != 0;
        break;
      case HMM0:
        if (makes_stars(value, now)) start_stars();
        [[fallthrough]];
      case HMP0:
      case HMP1:
      case HMM1:
      case HMBL:
        motions[number(HMP0)] = value >> 4;
        break;
      case VDELP0:
      case VDELP1:
        players[number(VDELP0)].delay = (value & 1) != 0;
        break;
      case VDELBL:
        ball.delay = (value & 1) != 0;
        break;
      case RESMP0:
      case RESMP1:
        lock_missile(number(RESMP0), (value & 2) != 0);
        break;
      case HMOVE:
        move(h / 3, now);
        break;
      case HMCLR:
        motions = {};
        break;
      case CXCLR:
        collisions = 0;
        break;
      default:  // RSYNC, sound, nothing.
        break;
    }
    return 0;
  }

  /// The clock from which on the picture shows a write.
  [[nodiscard]] Clock effective_at(int address, std::uint32_t cycle) const noexcept {
    const std::uint32_t line_cycle = line_clock(clock_of(cycle)) / 3;
    return plus(clock_of(cycle),
                kDelays[line_cycle & 3U][static_cast<std::size_t>(address & 0x3F)]);
  }

  /// Makes the picture up to a clock.
  template <typename Painter>
  void catch_up(Painter& painter, Clock target) noexcept {
    if (target < window_begin() || drawn >= window_end() || drawn >= target) return;
    target = std::min(target, window_end());
    do {
      int from = kLineClocks - line_left;
      int count = 0;
      // Strictly past the end: reaching it exactly leaves the line open until the next time.
      if (target > drawn + line_left) {
        count = line_left;
        line_left = kLineClocks;
        drawn += count;
      } else {
        count = target - drawn;
        line_left -= count;
        drawn = target;
      }
      if (from < kBlankClocks) {
        const int skipped = std::min(kBlankClocks - from, count);
        from += skipped;
        count -= skipped;
      }
      const std::size_t start = pen;
      if (count > 0) {
        painter.paint(*this, pen, from - kBlankClocks, count);
        pen += static_cast<std::size_t>(count);
      }
      if (comb_pending && from < kCombEnd) {
        painter.blank(start, kCombEnd - from);
        if (from + count >= kCombEnd) comb_pending = false;
      }
      if (line_left == kLineClocks) end_line();
    } while (drawn < target);
  }

  /// Whether a paddle's capacitor has charged since it was last dumped.
  static constexpr bool charged(std::int32_t resistance, std::uint32_t cycle, bool dumping,
                                std::int32_t dump_ended) noexcept {
    return cycle >= charged_from(resistance, dumping, dump_ended);
  }
  /// From which cycle on it has, if nothing is done; the last that there is: never.
  static constexpr std::uint32_t charged_from(std::int32_t resistance, bool dumping,
                                              std::int32_t dump_ended) noexcept {
    constexpr std::uint32_t kNever = ~0U;
    if (resistance == 0) return 0;
    if (resistance == Port::kOpen || dumping) return kNever;
    // Unsigned: a dump that ended in an earlier frame may be in the far future.
    const std::uint32_t last =
        static_cast<std::uint32_t>(dump_ended) + cycles_to_charge(resistance);
    return last == kNever ? kNever : last + 1;
  }
  static constexpr std::uint32_t cycles_to_charge(std::int32_t resistance) noexcept {
    return static_cast<std::uint32_t>(1.6 * resistance * 0.01E-6 * 1.19E6);
  }

  // What painters ask.

  [[nodiscard]] std::uint32_t lines(Clock now) const noexcept {
    return since(now, frame_start) / kLineClocks;
  }
  [[nodiscard]] std::uint32_t line_clock(Clock now) const noexcept {
    return since(now, frame_start) % kLineClocks;
  }
  [[nodiscard]] std::uint32_t max_lines() const noexcept { return pal ? 342 : 290; }
  /// At an access: a frame that the program does not end has only so many lines.
  void end_if_late(Clock now) noexcept {
    if (since(now, frame_start) >= (max_lines() + 1) * kLineClocks) frame_open = false;
  }
  [[nodiscard]] Clock window_begin() const noexcept {
    return plus(frame_start, static_cast<std::uint32_t>(kLineClocks * window_top));
  }
  [[nodiscard]] Clock window_end() const noexcept {
    return plus(window_begin(), static_cast<std::uint32_t>(kLineClocks * window_height));
  }

  [[nodiscard]] Things shown() const noexcept {
    return (players[0].shown() != 0 ? kHasP0 : 0U) | (players[1].shown() != 0 ? kHasP1 : 0U) |
           (missiles[0].shown() ? kHasM0 : 0U) | (missiles[1].shown() ? kHasM1 : 0U) |
           (ball.shown() ? kHasBall : 0U) | (playfield != 0 ? kHasPlayfield : 0U);
  }

  [[nodiscard]] int right_of(std::size_t object, int x) const noexcept {
    const int distance = x - positions[object];
    return distance < 0 ? distance + kWidth : distance;
  }

  // What a write does.

  void set_vsync(std::uint8_t value, Clock now) noexcept {
    if ((value & 2) != 0) {
      vsync_end = plus(now, kLineClocks);
    } else if (now >= vsync_end) {
      vsync_end = kNever;
      frame_open = false;
    }
  }

  void set_vblank(std::uint8_t value, std::uint32_t cycle) noexcept {
    if ((value & 0x80) != 0) {
      dumping = true;
    } else if ((vblank & 0x80) != 0) {
      dumping = false;
      dump_ended = static_cast<std::int32_t>(cycle);
    }
    vblank = value;
  }

  // PF0 has bits 4 to 7 from left to right, PF1 7 to 0, PF2 0 to 7.
  [[nodiscard]] std::uint32_t with_pf0(std::uint8_t value) const noexcept {
    return (playfield & ~0x0000FU) | (std::uint32_t{value} >> 4U);
  }
  [[nodiscard]] std::uint32_t with_pf1(std::uint8_t value) const noexcept {
    return (playfield & ~0x00FF0U) | (std::uint32_t{kMirrored[value]} << 4U);
  }
  [[nodiscard]] std::uint32_t with_pf2(std::uint8_t value) const noexcept {
    return (playfield & ~0xFF000U) | (std::uint32_t{value} << 12U);
  }

  [[nodiscard]] std::uint8_t with_colour_loss(std::uint8_t colour) const noexcept {
    const unsigned loss = pal ? previous_lines & 1U : 0U;
    return static_cast<std::uint8_t>((colour & 0xFEU) | loss);
  }

  /// Whether end_line changes anything.
  [[nodiscard]] bool line_end_matters() const noexcept {
    return stars_on || mirror_right_half != ((ctrlpf & 1) != 0) || players[0].first_copy_hidden ||
           players[1].first_copy_hidden;
  }

  void end_line() noexcept {
    mirror_right_half = (ctrlpf & 1) != 0;
    for (Player& player : players) player.first_copy_hidden = false;
    if (!stars_on) return;
    static constexpr std::array<int, 4> kShifts{18, 33, 0, 17};
    star_count = static_cast<std::uint16_t>((star_count + 1U) & 3U);
    shift(kM0, -kShifts[star_count]);
    missile0 = star_count == 1   ? Missile0::kWidened
               : star_count == 2 ? Missile0::kHidden
                                 : Missile0::kNormal;
  }

  /// Whether missile 0 is not an object like others.
  [[nodiscard]] bool starry() const noexcept { return stars_on || missile0 != Missile0::kNormal; }

  /// Cosmic Ark changes the motion of HMM0 just before the chip is done with it.
  [[nodiscard]] bool makes_stars(std::uint8_t hmm0, Clock now) const noexcept {
    return since(now, last_hmove) == 63 && motions[kM0] == 7 && (hmm0 >> 4) == 6;
  }
  void start_stars() noexcept {
    stars_on = true;
    star_count = 0;
  }

  void shift(std::size_t object, int columns) noexcept {
    int position = positions[object] + columns;
    if (position < 0) position += kWidth;
    if (position >= kWidth) position -= kWidth;
    positions[object] = static_cast<std::int16_t>(position);
  }

  /// RESPx. What happens to the copy on its way depends on where the beam meets the old ones.
  struct Strobe {
    std::int16_t position;
    bool hide;            ///< The first copy, on this line.
    bool old_copy_shown;  ///< To its end.
  };
  [[nodiscard]] Strobe strobe_player(std::size_t p, int h) const noexcept {
    const int position = h < kBlankClocks ? 3 : (h - kBlankClocks + 5) % kWidth;
    const std::size_t mode = nusiz[p] & 7U;
    const int width = mode == 5 ? 16 : mode == 7 ? 32 : 8;
    const int distance = right_of(p, position);
    Strobe strobe{static_cast<std::int16_t>(position), true, false};
    for (int copy = 0; copy < kCopies[mode].count; ++copy) {
      const int into = distance - kCopies[mode].offsets[static_cast<std::size_t>(copy)];
      if (into >= 0 && into < 4) {
        strobe.hide = false;
        break;
      }
      if (into >= 4 && into < 4 + width) {
        strobe.old_copy_shown = true;
        break;
      }
    }
    return strobe;
  }
  void reset_player(std::size_t p, const Strobe& strobe) noexcept {
    positions[p] = strobe.position;
    players[p].first_copy_hidden = strobe.hide;
  }

  /// RESMx and RESBL, away from an HMOVE.
  static constexpr std::int16_t strobe_position(int h) noexcept {
    return static_cast<std::int16_t>(h < kBlankClocks ? 2 : (h - kBlankClocks + 4) % kWidth);
  }

  [[nodiscard]] std::int16_t missile_position(std::size_t m, int h, Clock now) const noexcept {
    const std::uint32_t delta = since(now, last_hmove);
    if (m == 0 && delta == 60 && h == 69) return 8;
    if (m == 1 && delta == 9 && h == 18) return 3;
    return strobe_position(h);
  }

  [[nodiscard]] std::int16_t ball_position(int h, Clock now) const noexcept {
    const std::uint32_t delta = since(now, last_hmove);
    if (delta == 54 && (h == 60 || h == 69)) return 10;
    if (delta == 9 && h == 18) return 3;
    if (delta == 21 && h == 30) return 6;
    if (delta == 18 && h == 27) return 5;
    return strobe_position(h);
  }

  void lock_missile(std::size_t m, bool lock) noexcept {
    if (missiles[m].locked_to_player && !lock) {
      const int mode = nusiz[m] & 7;
      const int middle = mode == 5 ? 8 : mode == 7 ? 16 : 4;
      positions[kM0 + m] = static_cast<std::int16_t>((positions[m] + middle) % kWidth);
      if (m == 0) missile0 = Missile0::kNormal;
    }
    missiles[m].locked_to_player = lock;
  }

  /// Columns to the right that an object moves, for an HMOVE at a cycle of the line.
  static constexpr int motion_at(int cycle, int nibble) noexcept {
    // An HMOVE inside the blank stops early, one behind the picture starts late.
    constexpr std::array<int, 17> kLeast{-6, -5, -5, -4, -3, -2, -2, -1, 0, 1, 1, 2, 3, 4, 4, 5, 6};
    constexpr std::array<int, 20> kLate{6,  5,  4,  4,  3,  2,  1,  1,  0,  -1,
                                        -2, -2, -3, -4, -5, -5, -6, -7, -8, -8};
    const int base = nibble < 8 ? -nibble : 16 - nibble;
    if (cycle <= 3 || cycle == 75) return base;
    if (cycle <= 20) return std::max(base, kLeast[static_cast<std::size_t>(cycle - 4)]);
    if (cycle <= 54) return 0;
    return std::min(0, base + kLate[static_cast<std::size_t>(cycle - 55)]);
  }

  using Motions = std::array<std::array<std::int8_t, 16>, kLineCycles>;
  static constexpr Motions motions_at() noexcept {
    Motions table{};
    for (int cycle = 0; cycle < kLineCycles; ++cycle) {
      for (int nibble = 0; nibble < 16; ++nibble) {
        table[static_cast<std::size_t>(cycle)][static_cast<std::size_t>(nibble)] =
            static_cast<std::int8_t>(motion_at(cycle, nibble));
      }
    }
    return table;
  }

  /// HMOVE. Returns what it moved.
  Things move(int cycle, Clock now) noexcept {
    if (hmove_blanks && (cycle <= 20 || cycle == 75)) comb_pending = true;
    static constexpr Motions kMotions = motions_at();
    const auto& columns = kMotions[static_cast<std::size_t>(cycle)];
    Things moved = 0;
    static_assert(sizeof(motions) == 5);
    const bool still = columns[0] == 0 && (motions[kP0] | motions[kP1] | motions[kM0] |
                                           motions[kM1] | motions[kBall]) == 0;
    for (std::size_t object = 0; object < (still ? 0 : positions.size()); ++object) {
      const int by = columns[motions[object] & 15U];
      if (by == 0) continue;
      shift(object, by);
      moved |= 1U << object;
    }
    for (Player& player : players) player.first_copy_hidden = false;
    missile0 = Missile0::kNormal;
    last_hmove = now;
    stars_on = false;
    return moved;
  }

  /// Bits 7 and 6 of a collision register: two latches each, but CXBLPF.
  [[nodiscard]] static constexpr int latches(std::uint16_t collisions, int pin) noexcept {
    if (pin == 6) return (collisions >> 5) & 0x80;
    const int bit = pin < 6 ? 2 * pin : 13;
    return (((collisions >> bit) & 1) << 7) | (((collisions >> (bit + 1)) & 1) << 6);
  }
};

}  // namespace fastrl::envs::atari
