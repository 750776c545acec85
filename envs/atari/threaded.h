// The fast 6507: one handler for every opcode and place (code.h), made at compile time from the
// instruction set in opcodes.h, and each jumps straight to the next.
//
// It handles what every frame of every game does. Everything else - code or a stack outside the
// usual memory, rare opcodes, branches out of a slice of E0 - is done by one step of the plain
// processor on the same bus, and a frame that does not end in time is given up: the caller runs it
// again, plainly.
//
// Oracle:   m6507.h and console.h (tests/oracle/test_atari.py: the fast console).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "envs/atari/beam.h"
#include "envs/atari/cart.h"
#include "envs/atari/code.h"
#include "envs/atari/m6507.h"
#include "envs/atari/operations.h"
#include "envs/atari/riot.h"
#include "envs/atari/rom.h"
#include "envs/atari/tia.h"
#include "envs/atari/translation.h"

// The jump from handler to handler must not grow the stack. Compilers that are known to make it a
// jump (setup.py: gcc at -O3) or that promise to (clang) do so; elsewhere a loop calls the
// handlers.
#if defined(__clang__)
#define FASTRL_TAIL_CALL [[clang::musttail]]
#define FASTRL_TAIL_CALLS 1
#else
#define FASTRL_TAIL_CALL
#endif

namespace fastrl::envs::atari {

/// Why the processor stopped.
enum class Stop : std::uint8_t { kNot, kFrameEnd, kGaveUp };

template <typename Host>
class Translator;

/// A working copy of what the processor sees, for the run of one frame.
///
/// `Host` knows the collisions: read_latches(threaded, pin, cycle) -> bits 7 and 6.
template <typename Host>
struct Threaded {
  /// Looked at in jumps; no more than 4,096 instructions are in a row, and none takes one cycle, so
  /// that what runs in the end has run no more than 25,000 of them.
  static constexpr std::uint32_t kDeadline = 40000;
  /// Accesses after which a plain step gives up. Between two writes of handlers are three cycles or
  /// more.
  static constexpr std::size_t kMaxByPlainSteps = 8192;
  static constexpr std::uint16_t kUnkept = 0x100;
  static constexpr TiaAccess kNever{~0U};
  static constexpr std::size_t kMaxAccesses = kMaxByPlainSteps + kDeadline / 3 + 4096;

  Riot riot;
  std::uint32_t nz = 1;  ///< Zero if the low byte is; negative if bit 7 or 15 is set.
  std::uint8_t carry = 0;
  std::uint8_t overflow = 0;
  std::uint8_t decimal = 0;
  std::uint8_t interrupt_disable = 0;
  std::uint8_t sp = 0xFF;
  std::uint8_t bus = 0;
  std::uint8_t swcha = 0xFF;
  std::uint8_t swchb = 0xFF;
  std::uint32_t page = 0;  ///< The upper four bits of PC.
  Stop stop = Stop::kNot;
  bool last_was_read = true;
  PlainRange plain;
  std::uint32_t last_cycle = 0;  ///< A write to the TIA after this cycle ends the frame.
  TiaAccess too_late{0};         ///< From here on.
  // By bits 10, 11 and 13 of an address.
  std::array<const Instruction*, 8> code{};
  std::array<const std::uint8_t*, 8> bytes{};
  std::array<const Translation::Entry*, 8> entries{};
  std::uint32_t mapped = ~0U;                  ///< The banks that these are for.
  std::array<std::uint32_t, 128> ram_bytes{};  ///< By address in memory: bytes that were read.
  /// What they are, and what follows in place of the next three. Nothing before they are read: to
  /// clear 4 KB takes longer than whatever else a frame starts with.
  union RamCode {
    RamCode() noexcept {}
    std::array<std::array<Instruction, 4>, 128> at;
  };
  RamCode ram_code;
  Host* host = nullptr;
  const Rom* rom = nullptr;

  // What the processor notices of its writes to the TIA.
  Clock frame_start = 0;
  Clock vsync_end = Tia::kNever;
  std::uint8_t vblank = 0;
  std::array<std::uint16_t, 64> kept;              ///< What was last written and meant, or kUnkept.
  std::array<std::uint8_t, 64> bits = Tia::kBits;  ///< Here for machine code.
  bool differs0 = true;  ///< GRP1 would copy a GRP0 that it has not copied yet.
  bool differs1 = true;  ///< And GRP0 a GRP1.
  TiaAccess touched{0};  ///< The last access, perhaps one that was not written down; if any.
  bool dumping = false;
  std::int32_t dump_ended = 0;
  std::array<std::int32_t, 4> paddles{};  ///< Resistances at pins 8 to 11.
  /// Of pins 8 to 15: bit 7 is set from here on. Those of `paddles` follow from that.
  std::array<TiaAccess, 8> high_from{kNever, kNever, kNever, kNever,
                                     kNever, kNever, kNever, kNever};

  M6507 cpu;  ///< Up to date at the start, at the end and in plain steps.
  Cart cart;
  std::uint32_t cycle = 0;  ///< As `cpu`.

  TiaAccess line_end{0};               ///< The end of a line, for the next WSYNC of machine code.
  TiaAccess* next_access = nullptr;    ///< The log's end.
  const TiaAccess* cleared = nullptr;  ///< Behind its last CXCLR, or where it begins.
  std::array<TiaAccess, kMaxAccesses> accesses;  ///< The log. Not initialised, as long as it is.

#ifndef FASTRL_TAIL_CALLS
  // Between two handlers.
  const Instruction* next_at = nullptr;
  std::uint32_t next_a = 0;
  std::uint32_t next_x = 0;
  std::uint32_t next_y = 0;
#endif

  [[nodiscard]] std::uint32_t num_accesses() const noexcept {
    return static_cast<std::uint32_t>(next_access - accesses.data());
  }
  /// Of them, up to the last CXCLR.
  [[nodiscard]] std::uint32_t num_cleared() const noexcept {
    return static_cast<std::uint32_t>(cleared - accesses.data());
  }

  /// Runs until the frame ends or it has to be given up.
  Stop run() noexcept {
    stop = Stop::kNot;
    kept.fill(kUnkept);
    const std::uint32_t into_line = (since(0, frame_start) + 2) / 3 % Tia::kLineCycles;
    line_end = TiaAccess::make(Tia::kLineCycles - into_line, 0, 0);
    too_late = TiaAccess::make(last_cycle + 1, 0, 0);
    next_access = accesses.data();
    cleared = next_access;
    time_paddles();
    resume(*this);
#ifndef FASTRL_TAIL_CALLS
    while (stop == Stop::kNot) {
      kHandlers[next_at->handler](*this, next_at, cycle, next_a, next_x, next_y);
    }
#endif
    return stop;
  }

 private:
  friend Translator<Host>;

  using Handler = void (*)(Threaded&, const Instruction*, std::uint32_t, std::uint32_t,
                           std::uint32_t, std::uint32_t) noexcept;
  static constexpr std::size_t kNumHandlers =
      256 * (static_cast<std::size_t>(Place::kTranslated) + 1);

  /// The registers while a handler runs.
  struct Live {
    Threaded& t;
    std::uint8_t a;
    std::uint8_t x;
    std::uint8_t y;
    std::uint8_t& sp;

    FASTRL_INLINE [[nodiscard]] bool flag(std::uint8_t mask) const noexcept {
      switch (mask) {
        case flags::kCarry:
          return t.carry != 0;
        case flags::kZero:
          return (t.nz & 0xFFU) == 0;
        case flags::kNegative:
          return (t.nz & 0x8080U) != 0;
        case flags::kOverflow:
          return t.overflow != 0;
        case flags::kDecimal:
          return t.decimal != 0;
        default:
          return t.interrupt_disable != 0;
      }
    }
    FASTRL_INLINE void set(std::uint8_t mask, bool on) noexcept {
      switch (mask) {
        case flags::kCarry:
          t.carry = on ? 1 : 0;
          break;
        case flags::kZero:
          t.nz = (flag(flags::kNegative) ? 0x8000U : 0U) | (on ? 0U : 1U);
          break;
        case flags::kNegative:
          t.nz = (on ? 0x8000U : 0U) | (flag(flags::kZero) ? 0U : 1U);
          break;
        case flags::kOverflow:
          t.overflow = on ? 1 : 0;
          break;
        case flags::kDecimal:
          t.decimal = on ? 1 : 0;
          break;
        default:
          t.interrupt_disable = on ? 1 : 0;
          break;
      }
    }
    FASTRL_INLINE void set_nz(std::uint8_t value) noexcept { t.nz = value; }
    FASTRL_INLINE [[nodiscard]] std::uint8_t status() const noexcept {
      return static_cast<std::uint8_t>(
          t.carry | (flag(flags::kZero) ? flags::kZero : 0) |
          (t.interrupt_disable * flags::kInterruptDisable) | (t.decimal * flags::kDecimal) |
          (t.overflow * flags::kOverflow) | (flag(flags::kNegative) ? flags::kNegative : 0));
    }
    FASTRL_INLINE void set_status(std::uint8_t p) noexcept {
      t.carry = p & flags::kCarry;
      t.interrupt_disable = (p & flags::kInterruptDisable) != 0;
      t.decimal = (p & flags::kDecimal) != 0;
      t.overflow = (p & flags::kOverflow) != 0;
      t.nz = ((p & flags::kNegative) != 0 ? 0x8000U : 0U) | ((p & flags::kZero) != 0 ? 0U : 1U);
    }
    void jam() noexcept {}
  };

  /// The bus of a plain step.
  struct Wires {
    Threaded& t;

    std::uint8_t read(std::uint16_t a) noexcept {
      if (address::is_cart(a)) {
        t.bus = t.cart.read(*t.rom, a, t.cycle);
      } else if (address::is_tia(a)) {
        t.bus = t.read_tia(a, t.cycle, t.bus);
      } else if (address::is_ram(a)) {
        t.bus = t.riot.ram[a & 0x7FU];
      } else {
        t.bus = t.riot.read(a, t.cycle, t.swcha, t.swchb);
      }
      t.last_was_read = true;
      return t.bus;
    }
    void write(std::uint16_t a, std::uint8_t value) noexcept {
      if (address::is_cart(a)) {
        t.cart.write(t.rom->properties.scheme, a, value);
      } else if (address::is_tia(a)) {
        t.cycle = t.write_tia(a, value, t.cycle);
      } else if (address::is_ram(a)) {
        t.riot.ram[a & 0x7FU] = value;
      } else {
        t.riot.write(a, value, t.cycle);
      }
      t.bus = value;
      t.last_was_read = false;
    }
    void wait(int cycles) noexcept { t.cycle += static_cast<std::uint32_t>(cycles); }
  };
  static_assert(Bus<Wires>);

  FASTRL_INLINE [[nodiscard]] Live live(std::uint32_t a, std::uint32_t x,
                                        std::uint32_t y) noexcept {
    return {*this, static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(x),
            static_cast<std::uint8_t>(y), sp};
  }

  /// Puts the banks in view.
  void map() noexcept {
    const auto banks = std::bit_cast<std::uint32_t>(
        std::array{cart.bank, cart.slices[0], cart.slices[1], cart.slices[2]});
    if (banks == mapped) return;
    mapped = banks;
    const Code& all = *rom->code;
    const Translation* translation = rom->translation;
    const Instruction* instructions =
        translation != nullptr ? translation->instructions.data() : all.instructions(0);
    plain = all.plain();
    for (std::size_t i = 0; i < code.size(); ++i) {
      const std::size_t segment = i & 3U;
      std::size_t offset = segment * Code::kSliceSize;
      switch (all.scheme()) {
        case Scheme::kE0:
          offset += (segment == 3 ? 7U : cart.slices[segment]) * std::size_t{Code::kBankSize};
          break;
        case Scheme::kFE:
          offset += i < 4 ? Code::kBankSize : 0;
          break;
        default:
          offset += std::size_t{cart.bank} * Code::kBankSize;
          break;
      }
      code[i] = instructions + offset;
      bytes[i] = all.bytes(offset);
      if (translation != nullptr) entries[i] = translation->entries.data() + offset;
    }
  }

  [[nodiscard]] static constexpr std::size_t segment_of(int a) noexcept {
    return static_cast<std::size_t>(((a >> 10) & 3) | ((a >> 11) & 4));
  }
  [[nodiscard]] std::uint8_t plain_byte(int a) const noexcept {
    return bytes[segment_of(a)][a & 0x3FF];
  }
  [[nodiscard]] bool is_plain(int a) const noexcept {
    return address::is_cart(a) && plain.has(a & 0xFFF);
  }

  // ---- the TIA ----------------------------------------------------------------------------------
  /// A write by a plain step. Returns the cycle after it.
  std::uint32_t write_tia(int a, std::uint8_t value, std::uint32_t now) noexcept {
    const int reg = a & 0x3F;
    forget_kept(reg);
    record(now, reg > Tia::CXCLR ? TiaAccess::kNothing : reg, value);
    if (now > last_cycle) end_frame(value);
    return reg <= Tia::WSYNC ? synchronise(reg, value, now) : now;
  }

  /// A write by a handler; what changes nothing is not written down.
  std::uint32_t store_tia(int reg, std::uint8_t value, std::uint32_t now) noexcept {
    const bool late = now > last_cycle;
    switch (reg) {
      case Tia::VSYNC:
        record_end(now, reg, value);
        break;
      case Tia::VBLANK:
        touch(now, reg);
        if (value == vblank && !late) return now;
        record(now, reg, value);
        break;
      case Tia::WSYNC:
        return wait(value, now);
      case Tia::GRP0:
        return store_grp0(value, now);
      case Tia::GRP1:
        return store_grp1(value, now);
      case Tia::ENABL:
        // GRP1 has something to do for the ball.
        differs0 = differs0 || meant(reg, value) != kept[Tia::ENABL];
        return keep(reg, value, now);
        break;
      case Tia::HMCLR:
        touch(now, reg);
        if (!std::ranges::all_of(motions(), [](std::uint16_t motion) { return motion == 0; })) {
          std::ranges::fill(motions(), std::uint16_t{0});
          record(now, reg, value);
        }
        break;
      default:
        if (is_kept(reg)) return keep(reg, value, now);
        touch(now, reg);
        if (acts_always(reg)) {  // Others: RSYNC, sound, nothing.
          record(now, reg, value);
          if (reg == Tia::RESP0 || reg == Tia::RESP1) forget_copies(reg);
        }
        break;
    }
    end_if_late(value, now);
    return reg <= Tia::WSYNC ? synchronise(reg, value, now) : now;
  }

  FASTRL_INLINE std::uint32_t wait(std::uint8_t value, std::uint32_t now) noexcept {
    touch(now, Tia::WSYNC);
    end_if_late(value, now);
    return synchronise(Tia::WSYNC, value, now);
  }

  FASTRL_INLINE std::uint32_t store_grp0(std::uint8_t value, std::uint32_t now) noexcept {
    touch(now, Tia::GRP0);
    if (value != kept[Tia::GRP0] || differs1) {
      differs0 = differs0 || value != kept[Tia::GRP0];
      differs1 = false;
      kept[Tia::GRP0] = value;
      record(now, Tia::GRP0, value);
    }
    end_if_late(value, now);
    return now;
  }

  FASTRL_INLINE std::uint32_t store_grp1(std::uint8_t value, std::uint32_t now) noexcept {
    touch(now, Tia::GRP1);
    if (value != kept[Tia::GRP1] || differs0) {
      differs1 = differs1 || value != kept[Tia::GRP1];
      differs0 = false;
      kept[Tia::GRP1] = value;
      record(now, Tia::GRP1, value);
    }
    end_if_late(value, now);
    return now;
  }

  /// A write to a register that is_kept, or to ENABL.
  FASTRL_INLINE std::uint32_t keep(int reg, std::uint8_t value, std::uint32_t now) noexcept {
    touch(now, reg);
    auto& old = kept[static_cast<std::size_t>(reg)];
    if (const std::uint8_t next = meant(reg, value); old != next) {
      old = next;
      record(now, reg, next);
    }
    end_if_late(value, now);
    return now;
  }

  FASTRL_INLINE void end_if_late(std::uint8_t value, std::uint32_t now) noexcept {
    if (now > last_cycle) [[unlikely]] {
      record_end(now, TiaAccess::kNothing, 0);
      end_frame(value);
    }
  }

  /// Of `kept`, what HMCLR clears.
  std::span<std::uint16_t, 5> motions() noexcept {
    return std::span(kept).template subspan<Tia::HMP0, 5>();
  }

  /// Writes that are not known any more to change nothing.
  void forget_kept(int reg) noexcept {
    if (reg == Tia::HMCLR) {
      std::ranges::fill(motions(), kUnkept);
    } else {
      kept[static_cast<std::size_t>(reg)] = kUnkept;
      if (reg == Tia::RESP0 || reg == Tia::RESP1) forget_copies(reg);
    }
    differs0 = true;
    differs1 = true;
  }

  /// After RESPx, NUSIZx shows a first copy that would be hidden.
  void forget_copies(int resp) noexcept {
    kept[static_cast<std::size_t>(resp - Tia::RESP0 + Tia::NUSIZ0)] = kUnkept;
  }

  std::uint32_t synchronise(int reg, std::uint8_t value, std::uint32_t now) noexcept {
    const Clock clock = clock_of(now);
    if (reg == Tia::WSYNC) {
      const std::uint32_t h = since(clock, frame_start) % Tia::kLineClocks;
      return last_was_read && h != 0 ? now + (Tia::kLineClocks - h) / 3 : now;
    }
    if (reg == Tia::VSYNC) {
      if ((value & 2) != 0) {
        vsync_end = plus(clock, Tia::kLineClocks);
      } else if (clock >= vsync_end) {
        vsync_end = Tia::kNever;
        end_frame(value);
      }
      return now;
    }
    if ((value & 0x80) != 0) {
      dumping = true;
      time_paddles();
    } else if ((vblank & 0x80) != 0) {
      dumping = false;
      dump_ended = static_cast<std::int32_t>(now);
      time_paddles();
    }
    vblank = value;
    return now;
  }

  void time_paddles() noexcept {
    for (std::size_t i = 0; i < paddles.size(); ++i) {
      const std::uint32_t from = Tia::charged_from(paddles[i], dumping, dump_ended);
      high_from[i] = from < TiaAccess::kMaxCycles ? TiaAccess::make(from, 0, 0) : kNever;
    }
  }

  void end_frame(std::uint8_t value) noexcept {
    bus = value;
    stop = Stop::kFrameEnd;
  }

  [[nodiscard]] std::uint8_t meant(int reg, std::uint8_t value) const noexcept {
    return value & bits[static_cast<std::size_t>(reg)];
  }

  void record(std::uint32_t now, int reg, std::uint8_t value) noexcept {
    *next_access++ = TiaAccess::make(now, reg, meant(reg, value));
    if (reg == Tia::CXCLR) cleared = next_access;
  }

  /// An access that changes nothing made the picture up to its clock all the same. That can be told
  /// from the last one before the end of a frame, so that one is kept.
  void touch(std::uint32_t now, int reg) noexcept {
    touched = TiaAccess::make(now, TiaAccess::kRead, static_cast<std::uint8_t>(reg));
  }

  void record_end(std::uint32_t now, int reg, std::uint8_t value) noexcept {
    if (touched.bits != 0) *next_access++ = touched;
    touched.bits = 0;
    record(now, reg, value);
  }

  std::uint8_t read_tia(int a, std::uint32_t now, std::uint8_t before) noexcept {
    const auto pin = static_cast<std::size_t>(a & 15);
    unsigned read = 0;
    if (pin < 8) {
      read = host->read_latches(*this, a & 15, now);
    } else if (TiaAccess::make(now, 0, 0).bits >= high_from[pin - 8].bits) {
      read = 0x80;
    }
    touch(now, TiaAccess::kNothing);
    return static_cast<std::uint8_t>(read | (before & 0x3FU));
  }

  // ---- from one instruction to the next ---------------------------------------------------------
  static void go(Threaded& t, const Instruction* next, std::uint32_t cycle, std::uint32_t a,
                 std::uint32_t x, std::uint32_t y) noexcept {
#ifdef FASTRL_TAIL_CALLS
    FASTRL_TAIL_CALL return kHandlers[next->handler](t, next, cycle, a, x, y);
#else
    t.next_at = next;
    t.cycle = cycle;
    t.next_a = a;
    t.next_x = x;
    t.next_y = y;
#endif
  }

  /// The frame has ended with the instruction at `at`.
  [[gnu::noinline]] static void leave(Threaded& t, const Instruction* at, std::uint32_t cycle,
                                      std::uint32_t a, std::uint32_t x, std::uint32_t y) noexcept {
    t.last_was_read = false;
    t.cycle = cycle;
    t.store(t.live(a, x, y), t.page | at->next);
  }

  void store(const Live& r, int next) noexcept {
    cpu = {.pc = static_cast<std::uint16_t>(next),
           .a = r.a,
           .x = r.x,
           .y = r.y,
           .sp = sp,
           .p = r.status(),
           .jammed = false};
  }

  /// Goes on at `cpu`, with plain steps as long as it is neither in the cartridge nor in memory.
  static void resume(Threaded& t) noexcept {
    const Instruction* next = t.code_in_ram(t.cpu.pc);
    while (next == nullptr && !address::is_cart(t.cpu.pc)) {
      t.plain_step();
      if (t.stop != Stop::kNot) return;
      next = t.code_in_ram(t.cpu.pc);
    }
    t.map();
    t.sp = t.cpu.sp;
    t.live(0, 0, 0).set_status(t.cpu.p);
    t.page = t.cpu.pc & 0xF000U;
    if (next == nullptr) next = t.code[segment_of(t.cpu.pc)] + (t.cpu.pc & 0x3FF);
    return go(t, next, t.cycle, t.cpu.a, t.cpu.x, t.cpu.y);
  }

  /// Reads one instruction in memory, which may be another the next time; null if there is none
  /// that a handler can run. What follows it leads back to `handle` of Place::kUnknown.
  const Instruction* code_in_ram(int pc) noexcept {
    if (!address::is_ram(pc) || !address::is_ram(pc + 3)) return nullptr;
    const auto byte = [&](int k) {
      return std::uint32_t{riot.ram[static_cast<std::size_t>((pc + k) & 0x7F)]};
    };
    const auto low = [](std::uint32_t value) { return static_cast<std::uint8_t>(value); };
    const std::uint32_t mirror = (static_cast<std::uint32_t>(pc) >> 8U) & 0xFU;
    const std::uint32_t bytes_there = byte(0) | byte(1) << 8U | byte(2) << 16U | mirror << 24U;
    const auto at = static_cast<std::size_t>(pc & 0x7F);
    if (ram_bytes[at] != bytes_there || bytes_there == 0) {
      ram_bytes[at] = bytes_there;
      ram_code.at[at] = {
          instruction_at(pc & 0xFFF, low(byte(0)), low(byte(1)), low(byte(2)), plain),
          instruction_unknown(pc + 1), instruction_unknown(pc + 2), instruction_unknown(pc + 3)};
    }
    const Instruction& read = ram_code.at[at].front();
    return place_of(read) == Place::kUnknown || read.jump != 0 ? nullptr : &read;
  }

  void plain_step() noexcept {
    Wires wires{*this};
    cpu.step(wires);
    if (cpu.jammed || cycle >= kDeadline || num_accesses() > kMaxByPlainSteps) stop = Stop::kGaveUp;
  }

  /// One plain step instead of the handler of `at`, which has changed nothing yet.
  [[gnu::noinline]] static void step_plainly(Threaded& t, const Instruction* at,
                                             std::uint32_t cycle, std::uint32_t a, std::uint32_t x,
                                             std::uint32_t y) noexcept {
    const bool unknown = at->handler == handler_of(Place::kUnknown, 0);
    const int length = unknown ? 0 : length_of(kOpcodes[at->handler & 0xFFU].form);
    t.cycle = cycle;
    t.store(t.live(a, x, y), t.page | (at->next - length));
    t.plain_step();
    if (t.stop != Stop::kNot) return;
    return resume(t);
  }

  /// Of a translated instruction: its number.
  [[nodiscard]] std::size_t index_of(const Instruction* at) const noexcept {
    return static_cast<std::size_t>(at - rom->translation->instructions.data());
  }

  // A loop of two instructions: a read of the timer, and a branch back to it.
  struct TimerLoop {
    int least;  ///< It goes on as long as INTIM reads as that or more
    int most;   ///< and that or less.
  };

  /// The loop at `at`, if it is one that goes on until the timer says something.
  static std::optional<TimerLoop> timer_loop(const Instruction* at) noexcept {
    using enum Operation;
    const Operation reads = opcode_of(at[0]).operation;
    const bool loads = reads == LDA || reads == LDX || reads == LDY;
    const bool is_timer = place_of(at[0]) == Place::kPort && (at[0].operand & 4) != 0;
    if (!is_timer || !(loads || reads == BIT) || at[3].jump != -3) return std::nullopt;
    const bool is_intim = (at[0].operand & 1) == 0;  // INSTAT reads as 0 until it runs out.
    switch (opcode_of(at[3]).operation) {
      case BPL:
        return TimerLoop{0, is_intim ? 0x7F : 0xFF};
      case BMI:
        if (is_intim) return TimerLoop{0x80, 0xFF};
        break;
      case BNE:
        if (is_intim && loads) return TimerLoop{1, 0xFF};
        break;
      default:
        break;
    }
    return std::nullopt;
  }

  /// The handler of `at`, after the turns of its loop that another turn follows: what they leave is
  /// what that one overwrites.
  static void wait_for_timer(Threaded& t, const Instruction* at, std::uint32_t cycle,
                             std::uint32_t a, std::uint32_t x, std::uint32_t y) noexcept {
    const Instruction& read = *t.rom->code->instructions(t.index_of(at));
    const auto [least, most] = *timer_loop(&read);
    const std::uint32_t until_read = opcode_of(read).cycles;
    const std::uint32_t turn = until_read + opcode_of(at[3]).cycles + at[3].operand;
    cycle += (t.riot.stays(least, most, cycle + until_read) + turn - 1) / turn * turn;
    if (cycle >= kDeadline) {
      t.stop = Stop::kGaveUp;
      return;
    }
    FASTRL_TAIL_CALL return kHandlers[read.handler](t, at, cycle, a, x, y);
  }

  /// Goes on in machine code, in place of the handler of `at`.
  static void enter(Threaded& t, const Instruction* at, std::uint32_t cycle, std::uint32_t a,
                    std::uint32_t x, std::uint32_t y) noexcept {
    const Translation& all = *t.rom->translation;
    const auto entry = all.entries[t.index_of(at)];
    const auto begin = reinterpret_cast<Handler>(all.address_of({}));
    const auto where = reinterpret_cast<const Instruction*>(all.address_of(entry));
    const std::uint32_t time =
        TiaAccess::make(cycle, 0, 0).bits - static_cast<std::uint32_t>(entry.ahead);
    FASTRL_TAIL_CALL return begin(t, where, time, a, x, y);
  }

  /// A jump to a place in the cartridge.
  static void jump(Threaded& t, int pc, std::uint32_t cycle, std::uint32_t a, std::uint32_t x,
                   std::uint32_t y) noexcept {
    if (cycle >= kDeadline) {
      t.stop = Stop::kGaveUp;
      return;
    }
    t.page = static_cast<std::uint32_t>(pc & 0xF000);
    return go(t, t.code[segment_of(pc)] + (pc & 0x3FF), cycle, a, x, y);
  }

  // ---- one handler ------------------------------------------------------------------------------
  template <std::size_t kHandler>
  static void handle(Threaded& t, const Instruction* at, std::uint32_t cycle, std::uint32_t a,
                     std::uint32_t x, std::uint32_t y) noexcept;

  template <std::size_t kHandler>
  static constexpr Handler handler() {
    constexpr auto kPlace = static_cast<Place>(kHandler >> 8U);
    if constexpr (kPlace == Place::kTranslated) {
      return &enter;
    } else if constexpr (is_decoded(kPlace, kHandler & 0xFFU)) {
      return &handle<kHandler>;
    } else {
      return &handle<handler_of(Place::kUnknown, 0)>;
    }
  }
  template <std::size_t... kHandler>
  static constexpr std::array<Handler, kNumHandlers> all(std::index_sequence<kHandler...>) {
    return {handler<kHandler>()...};
  }

  static const std::array<Handler, kNumHandlers> kHandlers;
};

template <typename Host>
inline const std::array<typename Threaded<Host>::Handler, Threaded<Host>::kNumHandlers>
    Threaded<Host>::kHandlers = Threaded<Host>::all(std::make_index_sequence<kNumHandlers>{});

template <typename Host>
template <std::size_t kHandler>
void Threaded<Host>::handle(Threaded& t, const Instruction* at, std::uint32_t cycle,
                            std::uint32_t a, std::uint32_t x, std::uint32_t y) noexcept {
  using enum Operation;
  constexpr auto kPlace = static_cast<Place>(kHandler >> 8U);
  constexpr Opcode kOpcode = kOpcodes[kHandler & 0xFFU];
  constexpr Operation kOperation = kOpcode.operation;
  constexpr Form kForm = kOpcode.form;
  constexpr Access kAccess = access_of(kOperation);
  constexpr int kLength = length_of(kForm);
  if (a > 0xFF || x > 0xFF || y > 0xFF) __builtin_unreachable();
  Live r = t.live(a, x, y);
  if constexpr (kPlace == Place::kUnknown) {
    const int pc = t.page | at->next;
    const Instruction* next = t.code_in_ram(pc);
    if (next != nullptr) return go(t, next, cycle, a, x, y);
    return step_plainly(t, at, cycle, a, x, y);
  } else {
    const std::uint32_t start = cycle;
    // Nothing was changed yet: let the plain processor do it.
    const auto plainly = [&]() __attribute__((always_inline)) {
      return step_plainly(t, at, start, a, x, y);
    };
    cycle += kOpcode.cycles;
    std::uint8_t value = 0;
    const auto operate = [&]() __attribute__((always_inline)) {
      Alu(r).operate(kOperation, 0, value);
    };
    [[maybe_unused]] const auto use = [&](std::uint8_t& cell) __attribute__((always_inline)) {
      if constexpr (kAccess != Access::kWrite) value = cell;
      operate();
      if constexpr (kAccess != Access::kRead) cell = value;
    };
    const int operand = at->operand;

    if constexpr (kForm == Form::kImplied) {
      operate();
    } else if constexpr (kForm == Form::kAccumulator) {
      value = r.a;
      operate();
      r.a = value;
    } else if constexpr (kForm == Form::kImmediate) {
      value = static_cast<std::uint8_t>(operand);
      operate();
    } else if constexpr (kForm == Form::kRelative) {
      if (takes(r, kOperation)) {
        cycle += at->operand;
        if (cycle >= kDeadline) {
          t.stop = Stop::kGaveUp;
          return;
        }
        return go(t, at + at->jump, cycle, r.a, r.x, r.y);
      }
    } else if constexpr (kForm == Form::kAbsoluteJump) {
      if (address::is_ram(operand)) [[unlikely]] {
        const Instruction* next = cycle < kDeadline ? t.code_in_ram(operand) : nullptr;
        if (next == nullptr) return plainly();
        t.page = static_cast<std::uint32_t>(operand & 0xF000);
        return go(t, next, cycle, r.a, r.x, r.y);
      }
      return jump(t, operand, cycle, r.a, r.x, r.y);
    } else if constexpr (kForm == Form::kIndirectJump) {
      const int low = t.riot.ram[operand & 0x7F];
      const int target = low | (t.riot.ram[(operand + 1) & 0x7F] << 8);
      if (!address::is_cart(target)) return plainly();
      return jump(t, target, cycle, r.a, r.x, r.y);
    } else if constexpr (kForm == Form::kCall) {
      if (r.sp < 0x81) return plainly();
      const int last = t.page | (at->next - 1);
      t.riot.ram[r.sp & 0x7F] = static_cast<std::uint8_t>(last >> 8);
      t.riot.ram[(r.sp - 1) & 0x7F] = static_cast<std::uint8_t>(last);
      r.sp = static_cast<std::uint8_t>(r.sp - 2);
      return jump(t, operand, cycle, r.a, r.x, r.y);
    } else if constexpr (kForm == Form::kReturn) {
      if (r.sp < 0x80 || r.sp > 0xFD) return plainly();
      const int low = t.riot.ram[(r.sp + 1) & 0x7F];
      const int last = low | (t.riot.ram[(r.sp + 2) & 0x7F] << 8);
      if (!t.is_plain(last) || !t.is_plain(last + 1)) return plainly();
      r.sp = static_cast<std::uint8_t>(r.sp + 2);
      return jump(t, last + 1, cycle, r.a, r.x, r.y);
    } else if constexpr (kForm == Form::kReturnInterrupt) {
      if (r.sp < 0x80 || r.sp > 0xFC) return plainly();
      const int low = t.riot.ram[(r.sp + 2) & 0x7F];
      const int target = low | (t.riot.ram[(r.sp + 3) & 0x7F] << 8);
      if (!address::is_cart(target)) return plainly();
      r.set_status(t.riot.ram[(r.sp + 1) & 0x7F]);
      r.sp = static_cast<std::uint8_t>(r.sp + 3);
      return jump(t, target, cycle, r.a, r.x, r.y);
    } else if constexpr (kForm == Form::kBreak) {
      constexpr int kVector = 0xFFFE;
      if (r.sp < 0x82 || !t.is_plain(kVector) || !t.is_plain(kVector + 1)) return plainly();
      const int target = t.plain_byte(kVector) | (t.plain_byte(kVector + 1) << 8);
      if (!address::is_cart(target)) return plainly();
      const int next = t.page | at->next;
      t.riot.ram[r.sp & 0x7F] = static_cast<std::uint8_t>(next >> 8);
      t.riot.ram[(r.sp - 1) & 0x7F] = static_cast<std::uint8_t>(next);
      t.riot.ram[(r.sp - 2) & 0x7F] = r.status() | flags::kUnused;
      r.sp = static_cast<std::uint8_t>(r.sp - 3);
      operate();
      return jump(t, target, cycle, r.a, r.x, r.y);
    } else if constexpr (kForm == Form::kPush) {
      operate();
      const int address = r.sp--;
      if (address >= 0x80) {
        t.riot.ram[address & 0x7F] = value;
      } else {  // Games point the stack at ENABL and below to write fast.
        t.last_was_read = true;
        cycle = t.store_tia(address & 0x3F, value, cycle);
        if (t.stop != Stop::kNot) [[unlikely]]
          return leave(t, at, cycle, r.a, r.x, r.y);
      }
    } else if constexpr (kForm == Form::kPull) {
      if (r.sp == 0x7F || r.sp == 0xFF) return plainly();
      if (r.sp < 0x80) {
        value = t.read_tia(r.sp, cycle, kHandler & 0xFFU);
        value = t.read_tia(++r.sp, cycle, value);
        if (t.stop != Stop::kNot) [[unlikely]]
          return;
      } else {
        value = t.riot.ram[++r.sp & 0x7F];
      }
      operate();
    } else if constexpr (kPlace == Place::kRam) {
      use(t.riot.ram[operand & 0x7F]);
    } else if constexpr (kPlace == Place::kRom) {
      value = t.plain_byte(operand);
      operate();
    } else if constexpr (kPlace == Place::kTable) {
      const int address = operand + (kForm == Form::kAbsoluteX ? r.x : r.y);
      cycle += ((operand ^ address) & 0xFF00) != 0 ? 1 : 0;
      value = t.plain_byte(address);
      operate();
    } else if constexpr (kPlace == Place::kTia || kPlace == Place::kKept ||
                         kPlace == Place::kWait || kPlace == Place::kGrp0 ||
                         kPlace == Place::kGrp1) {
      if constexpr (kAccess != Access::kWrite) {
        const int before = kForm == Form::kZeroPage ? operand : operand >> 8;
        value = t.read_tia(operand, cycle, static_cast<std::uint8_t>(before));
        if (t.stop != Stop::kNot) [[unlikely]]
          return;
      }
      operate();
      if constexpr (kAccess != Access::kRead) {
        t.last_was_read = true;
        const int reg = operand & 0x3F;
        cycle = kPlace == Place::kKept   ? t.keep(reg, value, cycle)
                : kPlace == Place::kWait ? t.wait(value, cycle)
                : kPlace == Place::kGrp0 ? t.store_grp0(value, cycle)
                : kPlace == Place::kGrp1 ? t.store_grp1(value, cycle)
                                         : t.store_tia(reg, value, cycle);
        if (t.stop != Stop::kNot) [[unlikely]]
          return leave(t, at, cycle, r.a, r.x, r.y);
      }
    } else if constexpr (kPlace == Place::kPort) {
      if constexpr (kAccess != Access::kWrite) {
        value = t.riot.read(operand, cycle, t.swcha, t.swchb);
      }
      operate();
      if constexpr (kAccess != Access::kRead) t.riot.write(operand, value, cycle);
    } else if constexpr (kPlace == Place::kCart) {
      const auto where = static_cast<std::uint16_t>(operand);
      if constexpr (kAccess == Access::kRead) value = t.cart.read(*t.rom, where, cycle);
      operate();
      if constexpr (kAccess == Access::kWrite) {
        t.cart.write(t.rom->properties.scheme, where, value);
      }
      t.map();
      const int next = t.page | at->next;  // In the banks that are there now.
      if (address::is_cart(next)) return jump(t, next, cycle, r.a, r.x, r.y);
    } else if constexpr (kForm == Form::kZeroPageX || kForm == Form::kZeroPageY) {
      const int address = (operand + (kForm == Form::kZeroPageX ? r.x : r.y)) & 0xFF;
      if (address >= 0x80) {
        use(t.riot.ram[address & 0x7F]);
      } else if constexpr (kAccess == Access::kWrite) {
        operate();
        t.last_was_read = true;
        cycle = t.store_tia(address & 0x3F, value, cycle);
        if (t.stop != Stop::kNot) [[unlikely]]
          return leave(t, at, cycle, r.a, r.x, r.y);
      } else if constexpr (kAccess == Access::kRead) {
        value = t.read_tia(address, cycle, static_cast<std::uint8_t>(operand));
        if (t.stop != Stop::kNot) [[unlikely]]
          return;
        operate();
      } else {
        return plainly();
      }
    } else if constexpr (kForm == Form::kAbsoluteX || kForm == Form::kAbsoluteY ||
                         kForm == Form::kIndirectX || kForm == Form::kIndirectY) {
      int base = operand;
      if constexpr (kForm == Form::kIndirectX || kForm == Form::kIndirectY) {
        const int pointer = kForm == Form::kIndirectX ? (operand + r.x) & 0xFF : operand;
        if (kForm == Form::kIndirectX && (pointer < 0x80 || pointer == 0xFF)) return plainly();
        const int low = t.riot.ram[pointer & 0x7F];
        base = low | (t.riot.ram[(pointer + 1) & 0x7F] << 8);
      }
      const int index = kForm == Form::kAbsoluteX ? r.x : kForm == Form::kIndirectX ? 0 : r.y;
      const int address = (base + index) & 0xFFFF;
      if constexpr (kAccess == Access::kRead) {
        cycle += ((base ^ address) & 0xFF00) != 0 ? 1 : 0;
        if (t.is_plain(address)) {
          value = t.plain_byte(address);
        } else if (address::is_ram(address)) {
          value = t.riot.ram[address & 0x7F];
        } else if (address::is_tia(address)) {
          value = t.read_tia(address, cycle, static_cast<std::uint8_t>(base >> 8));
          if (t.stop != Stop::kNot) [[unlikely]]
            return;
        } else {
          return plainly();
        }
        operate();
      } else {
        if (address::is_ram(address)) {
          use(t.riot.ram[address & 0x7F]);
        } else if (kAccess == Access::kWrite && address::is_tia(address)) {
          operate();
          t.last_was_read = true;
          cycle = t.store_tia(address & 0x3F, value, cycle);
          if (t.stop != Stop::kNot) [[unlikely]]
            return leave(t, at, cycle, r.a, r.x, r.y);
        } else {
          return plainly();
        }
      }
    } else {
      return plainly();  // Forms that are never decoded.
    }
    return go(t, at + kLength, cycle, r.a, r.x, r.y);
  }
}

}  // namespace fastrl::envs::atari
