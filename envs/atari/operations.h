// What the instructions do to registers and flags, once, for every core.
//
// Document: console_spec.md 2.4 (undocumented opcodes), 2.6 (decimal mode).
// Oracle:   tests/oracle/test_m6507.py.
#pragma once

#include <concepts>
#include <cstdint>

#include "envs/atari/opcodes.h"

// With the operation known at compile time nothing must be left of the choice between operations.
#ifdef __GNUC__
#define FASTRL_INLINE [[gnu::always_inline]]
#else
#define FASTRL_INLINE
#endif

namespace fastrl::envs::atari {

/// The bits of P.
namespace flags {
inline constexpr std::uint8_t kCarry = 0x01;
inline constexpr std::uint8_t kZero = 0x02;
inline constexpr std::uint8_t kInterruptDisable = 0x04;
inline constexpr std::uint8_t kDecimal = 0x08;
inline constexpr std::uint8_t kUnused = 0x30;  ///< Not stored; read as ones where P is pushed.
inline constexpr std::uint8_t kOverflow = 0x40;
inline constexpr std::uint8_t kNegative = 0x80;
}  // namespace flags

/// A register file. Each core keeps its flags as it likes.
template <typename R>
concept Registers = requires(R r, const R& seen, std::uint8_t mask, bool on, std::uint8_t value) {
  { r.a } -> std::convertible_to<std::uint8_t>;
  { r.x } -> std::convertible_to<std::uint8_t>;
  { r.y } -> std::convertible_to<std::uint8_t>;
  { r.sp } -> std::convertible_to<std::uint8_t>;
  { seen.flag(mask) } noexcept -> std::same_as<bool>;
  { r.set(mask, on) } noexcept;
  { r.set_nz(value) } noexcept;  // N and Z from a result
  { seen.status() } noexcept -> std::same_as<std::uint8_t>;
  { r.set_status(value) } noexcept;
  { r.jam() } noexcept;
};

/// Whether a branch is taken.
template <Registers R>
FASTRL_INLINE [[nodiscard]] constexpr bool takes(const R& r, Operation branch) noexcept {
  using enum Operation;
  using namespace flags;
  switch (branch) {
    case BCC:
      return !r.flag(kCarry);
    case BCS:
      return r.flag(kCarry);
    case BEQ:
      return r.flag(kZero);
    case BMI:
      return r.flag(kNegative);
    case BNE:
      return !r.flag(kZero);
    case BPL:
      return !r.flag(kNegative);
    case BVC:
      return !r.flag(kOverflow);
    case BVS:
      return r.flag(kOverflow);
    default:
      return false;
  }
}

/// The operations on one register file.
template <Registers R>
class Alu {
 public:
  constexpr explicit Alu(R& registers) noexcept : r_(registers) {}

  /// The operation itself. `value` comes in as the byte read and leaves as the byte to write.
  FASTRL_INLINE constexpr void operate(Operation operation, std::uint16_t address,
                                       std::uint8_t& value) noexcept {
    using enum Operation;
    using namespace flags;
    const int next_page = (address >> 8) + 1;
    switch (operation) {
      case ADC:
        return add(value);
      case AND:
        return load(r_.a, r_.a & value);
      case ASL:
        return load(value, shift_left(value, 0));
      case BIT:
        set(kNegative, (value & kNegative) != 0);
        set(kOverflow, (value & kOverflow) != 0);
        return set(kZero, (r_.a & value) == 0);
      case BRK:
        return set(kInterruptDisable, true);
      case CLC:
        return set(kCarry, false);
      case CLD:
        return set(kDecimal, false);
      case CLI:
        return set(kInterruptDisable, false);
      case CLV:
        return set(kOverflow, false);
      case CMP:
        return compare(r_.a, value);
      case CPX:
        return compare(r_.x, value);
      case CPY:
        return compare(r_.y, value);
      case DEC:
        return load(value, value - 1);
      case DEX:
        return load(r_.x, r_.x - 1);
      case DEY:
        return load(r_.y, r_.y - 1);
      case EOR:
        return load(r_.a, r_.a ^ value);
      case INC:
        return load(value, value + 1);
      case INX:
        return load(r_.x, r_.x + 1);
      case INY:
        return load(r_.y, r_.y + 1);
      case LDA:
      case PLA:
        return load(r_.a, value);
      case LDX:
        return load(r_.x, value);
      case LDY:
        return load(r_.y, value);
      case LSR:
        return load(value, shift_right(value, 0));
      case BCC:
      case BCS:
      case BEQ:
      case BMI:
      case BNE:
      case BPL:
      case BVC:
      case BVS:
      case JMP:
      case JSR:
      case NOP:
      case RTI:
      case RTS:
        return;
      case ORA:
        return load(r_.a, r_.a | value);
      case PHA:
        value = r_.a;
        return;
      case PHP:
        value = r_.status() | kUnused;
        return;
      case PLP:
        return r_.set_status(low(value & ~kUnused));
      case ROL:
        return load(value, shift_left(value, carry()));
      case ROR:
        return load(value, shift_right(value, carry()));
      case SBC:
        return subtract(value);
      case SEC:
        return set(kCarry, true);
      case SED:
        return set(kDecimal, true);
      case SEI:
        return set(kInterruptDisable, true);
      case STA:
        value = r_.a;
        return;
      case STX:
        value = r_.x;
        return;
      case STY:
        value = r_.y;
        return;
      case TAX:
        return load(r_.x, r_.a);
      case TAY:
        return load(r_.y, r_.a);
      case TSX:
        return load(r_.x, r_.sp);
      case TXA:
        return load(r_.a, r_.x);
      case TXS:
        r_.sp = r_.x;
        return;
      case TYA:
        return load(r_.a, r_.y);
      // Undocumented from here on.
      case ANC:
        load(r_.a, r_.a & value);
        return set(kCarry, flag(kNegative));
      case ANE:
        return load(r_.a, (r_.a | 0xEE) & r_.x & value);
      case ARR:
        return rotate_and(value);
      case ASR:
        return load(r_.a, shift_right(low(r_.a & value), 0));
      case DCP:
        return compare(r_.a, --value);
      case ISB:
        return subtract(++value);
      case JAM:
        return r_.jam();
      case LAS:
        r_.sp &= value;
        r_.x = r_.sp;
        return load(r_.a, r_.sp);
      case LAX:
        r_.x = value;
        return load(r_.a, value);
      case LXA:
        load(r_.a, (r_.a | 0xEE) & value);
        r_.x = r_.a;
        return;
      case RLA:
        value = shift_left(value, carry());
        return load(r_.a, r_.a & value);
      case RRA:
        value = shift_right(value, carry());
        return add(value);
      case SAX:
        value = r_.a & r_.x;
        return;
      case SBX: {
        const int masked = r_.a & r_.x;
        set(kCarry, masked >= value);
        return load(r_.x, masked - value);
      }
      case SHA:
        value = low(r_.a & r_.x & next_page);
        return;
      case SHS:
        r_.sp = r_.a & r_.x;
        value = low(r_.sp & next_page);
        return;
      case SHX:
        value = low(r_.x & next_page);
        return;
      case SHY:
        value = low(r_.y & next_page);
        return;
      case SLO:
        value = shift_left(value, 0);
        return load(r_.a, r_.a | value);
      case SRE:
        value = shift_right(value, 0);
        return load(r_.a, r_.a ^ value);
    }
  }

 private:
  FASTRL_INLINE static constexpr std::uint8_t low(int value) noexcept {
    return static_cast<std::uint8_t>(value);
  }

  FASTRL_INLINE [[nodiscard]] constexpr bool flag(std::uint8_t mask) const noexcept {
    return r_.flag(mask);
  }
  FASTRL_INLINE [[nodiscard]] constexpr int carry() const noexcept {
    return r_.flag(flags::kCarry) ? 1 : 0;
  }
  FASTRL_INLINE constexpr void set(std::uint8_t mask, bool on) noexcept { r_.set(mask, on); }
  FASTRL_INLINE constexpr void set_nz(std::uint8_t value) noexcept { r_.set_nz(value); }

  FASTRL_INLINE constexpr void compare(std::uint8_t reg, std::uint8_t value) noexcept {
    using namespace flags;
    set_nz(low(reg - value));
    set(kCarry, reg >= value);
  }

  // Two decimal digits; a digit above nine counts as what it says.
  FASTRL_INLINE static constexpr int from_decimal(int byte) noexcept {
    return (10 * (byte >> 4)) + (byte & 15);
  }
  FASTRL_INLINE static constexpr std::uint8_t to_decimal(int number) noexcept {
    return low((((number % 100) / 10) << 4) | (number % 10));
  }

  FASTRL_INLINE constexpr void add(std::uint8_t value) noexcept {
    using namespace flags;
    const std::uint8_t before = r_.a;
    if (flag(kDecimal)) {
      const int sum = from_decimal(before) + from_decimal(value) + carry();
      r_.a = to_decimal(sum & 0xFF);
      set(kCarry, sum > 99);
    } else {
      const int sum = before + value + carry();
      r_.a = low(sum);
      set(kCarry, sum > 0xFF);
    }
    set_nz(r_.a);
    set(kOverflow, ((before ^ r_.a) & (value ^ r_.a) & 0x80) != 0);
  }

  FASTRL_INLINE constexpr void subtract(std::uint8_t value) noexcept {
    using namespace flags;
    if (!flag(kDecimal)) {
      add(low(~value));
      return;
    }
    const std::uint8_t before = r_.a;
    const int borrow = 1 - carry();
    int difference = from_decimal(before) - from_decimal(value) - borrow;
    if (difference < 0) difference += 100;
    // Still negative: only with digits above nine.
    r_.a = difference < 0 ? low(from_decimal(256 + difference)) : to_decimal(difference);
    set_nz(r_.a);
    set(kCarry, before >= value + borrow);
    set(kOverflow, ((before ^ r_.a) & (r_.a ^ value) & 0x80) != 0);
  }

  FASTRL_INLINE constexpr void rotate_and(std::uint8_t value) noexcept {  // ARR
    using namespace flags;
    const std::uint8_t masked = low(r_.a & value);
    const int old_carry = carry();
    r_.a = low((masked >> 1) | (old_carry << 7));
    if (!flag(kDecimal)) {
      set_nz(r_.a);
      set(kCarry, (r_.a & 0x40) != 0);
      set(kOverflow, ((r_.a ^ (r_.a << 1)) & 0x40) != 0);
      return;
    }
    set(kNegative, old_carry != 0);
    set(kZero, r_.a == 0);
    set(kOverflow, ((masked ^ r_.a) & 0x40) != 0);
    if ((masked & 15) + (masked & 1) > 5) r_.a = low((r_.a & 0xF0) | ((r_.a + 6) & 15));
    const bool carries = (masked & 0xF0) + (masked & 0x10) > 0x50;
    if (carries) r_.a = low(r_.a + 0x60);
    set(kCarry, carries);
  }

  FASTRL_INLINE constexpr std::uint8_t shift_left(std::uint8_t value, int fill) noexcept {
    using namespace flags;
    set(kCarry, (value & 0x80) != 0);
    return low((value << 1) | fill);
  }

  FASTRL_INLINE constexpr std::uint8_t shift_right(std::uint8_t value, int fill) noexcept {
    using namespace flags;
    set(kCarry, (value & 1) != 0);
    return low((value >> 1) | (fill << 7));
  }

  FASTRL_INLINE constexpr void load(std::uint8_t& reg, int value) noexcept {
    reg = low(value);
    set_nz(reg);
  }

  R& r_;
};

}  // namespace fastrl::envs::atari
