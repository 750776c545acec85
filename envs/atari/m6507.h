// The 6507: registers, and one instruction at a time, step by step from the table in opcodes.h.
//
// Document: console_spec.md 2 (the `low` model). The opcode is fetched first, then all base cycles
// pass, then the other accesses happen: they all see the clock of the end of the instruction.
// Oracle:   tests/unit/test_m6507.py; whole programs in tests/oracle/test_atari.py.
#pragma once

#include <concepts>
#include <cstdint>

#include "envs/atari/opcodes.h"

namespace fastrl::envs::atari {

/// What the processor is wired to. `wait` lets cycles pass.
template <typename B>
concept Bus = requires(B bus, std::uint16_t address, std::uint8_t value, int cycles) {
  { bus.read(address) } noexcept -> std::same_as<std::uint8_t>;
  { bus.write(address, value) } noexcept;
  { bus.wait(cycles) } noexcept;
};

struct M6507 {
  static constexpr std::uint8_t kCarry = 0x01;
  static constexpr std::uint8_t kZero = 0x02;
  static constexpr std::uint8_t kInterruptDisable = 0x04;
  static constexpr std::uint8_t kDecimal = 0x08;
  static constexpr std::uint8_t kUnused = 0x30;  ///< Not stored; read as ones where P is pushed.
  static constexpr std::uint8_t kOverflow = 0x40;
  static constexpr std::uint8_t kNegative = 0x80;

  std::uint16_t pc = 0;
  std::uint8_t a = 0;
  std::uint8_t x = 0;
  std::uint8_t y = 0;
  std::uint8_t sp = 0xFF;
  std::uint8_t p = 0;
  bool jammed = false;  ///< A jam opcode ran: only a reset helps.

  template <Bus B>
  void reset(B& bus) noexcept {
    *this = M6507{};
    pc = read_word(bus, 0xFFFC, 0xFFFD);
  }

  /// Runs one instruction. The caller has seen that the processor is not jammed.
  template <Bus B>
  void step(B& bus) noexcept {
    const std::uint8_t code = bus.read(pc++);
    const Opcode& opcode = kOpcodes[code];
    bus.wait(opcode.cycles);
    std::uint16_t address = 0;
    std::uint8_t value = 0;
    for (const Step step : kSteps[code]) {
      switch (step) {
        case Step::kEnd:
          return;
        case Step::kFetchLow:
          address = bus.read(pc++);
          break;
        case Step::kFetchHigh:
          address = with_high(address, bus.read(pc++));
          break;
        case Step::kFetchValue:
          value = bus.read(pc++);
          break;
        case Step::kAddXInPage:
          address = low(address + x);
          break;
        case Step::kAddYInPage:
          address = low(address + y);
          break;
        case Step::kAddX:
          address = word(address + x);
          break;
        case Step::kAddY:
          address = word(address + y);
          break;
        case Step::kAddXTimed:
          address = add_timed(bus, address, x);
          break;
        case Step::kAddYTimed:
          address = add_timed(bus, address, y);
          break;
        case Step::kFollow:
          address = read_word(bus, address, word(address + 1));
          break;
        case Step::kFollowInPage:
          address = read_word(bus, address, word((address & 0xFF00) | low(address + 1)));
          break;
        case Step::kRead:
          value = bus.read(address);
          break;
        case Step::kWrite:
          bus.write(address, value);
          break;
        case Step::kLoadAccumulator:
          value = a;
          break;
        case Step::kStoreAccumulator:
          a = value;
          break;
        case Step::kOperate:
          operate(bus, opcode.operation, address, value);
          break;
        case Step::kPeekStack:
          static_cast<void>(bus.read(stack()));
          break;
        case Step::kPushValue:
          push(bus, value);
          break;
        case Step::kPushHigh:
          push(bus, low(pc >> 8));
          break;
        case Step::kPushLow:
          push(bus, low(pc));
          break;
        case Step::kPushStatus:
          push(bus, p | kUnused);
          break;
        case Step::kPullValue:
          value = pull(bus);
          break;
        case Step::kPullStatus:
          p = low(pull(bus) & ~kUnused);
          break;
        case Step::kPullLow:
          address = pull(bus);
          break;
        case Step::kPullHigh:
          address = with_high(address, pull(bus));
          break;
        case Step::kVector:
          address = read_word(bus, 0xFFFE, 0xFFFF);
          break;
        case Step::kJump:
          pc = address;
          break;
      }
    }
  }

 private:
  static constexpr std::uint8_t low(int value) noexcept { return static_cast<std::uint8_t>(value); }
  static constexpr std::uint16_t word(int value) noexcept {
    return static_cast<std::uint16_t>(value);
  }
  static constexpr std::uint16_t with_high(std::uint16_t address, std::uint8_t high) noexcept {
    return word((address & 0x00FF) | (high << 8));
  }

  [[nodiscard]] std::uint16_t stack() const noexcept { return word(0x0100 | sp); }
  [[nodiscard]] bool flag(std::uint8_t mask) const noexcept { return (p & mask) != 0; }
  [[nodiscard]] int carry() const noexcept { return p & kCarry; }

  template <Bus B>
  static std::uint16_t read_word(B& bus, std::uint16_t at_low, std::uint16_t at_high) noexcept {
    const std::uint8_t first = bus.read(at_low);
    return with_high(first, bus.read(at_high));
  }

  template <Bus B>
  static std::uint16_t add_timed(B& bus, std::uint16_t address, std::uint8_t index) noexcept {
    const std::uint16_t sum = word(address + index);
    if (((sum ^ address) & 0xFF00) != 0) bus.wait(1);
    return sum;
  }

  template <Bus B>
  void push(B& bus, std::uint8_t value) noexcept {
    bus.write(stack(), value);
    --sp;
  }

  template <Bus B>
  std::uint8_t pull(B& bus) noexcept {
    ++sp;
    return bus.read(stack());
  }

  void set(std::uint8_t mask, bool on) noexcept { p = low(on ? p | mask : p & ~mask); }

  void set_nz(std::uint8_t value) noexcept {
    set(kNegative, (value & 0x80) != 0);
    set(kZero, value == 0);
  }

  void compare(std::uint8_t reg, std::uint8_t value) noexcept {
    set_nz(low(reg - value));
    set(kCarry, reg >= value);
  }

  template <Bus B>
  void branch(B& bus, std::uint8_t offset, bool taken) noexcept {
    if (!taken) return;
    const std::uint16_t target = word(pc + static_cast<std::int8_t>(offset));
    bus.wait(((target ^ pc) & 0xFF00) != 0 ? 2 : 1);
    pc = target;
  }

  // Two decimal digits; a digit above nine counts as what it says.
  static constexpr int from_decimal(int byte) noexcept { return (10 * (byte >> 4)) + (byte & 15); }
  static constexpr std::uint8_t to_decimal(int number) noexcept {
    return low((((number % 100) / 10) << 4) | (number % 10));
  }

  void add(std::uint8_t value) noexcept {
    const std::uint8_t before = a;
    if (flag(kDecimal)) {
      const int sum = from_decimal(before) + from_decimal(value) + carry();
      a = to_decimal(sum & 0xFF);
      set(kCarry, sum > 99);
    } else {
      const int sum = before + value + carry();
      a = low(sum);
      set(kCarry, sum > 0xFF);
    }
    set_nz(a);
    set(kOverflow, ((before ^ a) & (value ^ a) & 0x80) != 0);
  }

  void subtract(std::uint8_t value) noexcept {
    if (!flag(kDecimal)) {
      add(low(~value));
      return;
    }
    const std::uint8_t before = a;
    const int borrow = 1 - carry();
    int difference = from_decimal(before) - from_decimal(value) - borrow;
    if (difference < 0) difference += 100;
    // Still negative: only with digits above nine.
    a = difference < 0 ? low(from_decimal(256 + difference)) : to_decimal(difference);
    set_nz(a);
    set(kCarry, before >= value + borrow);
    set(kOverflow, ((before ^ a) & (a ^ value) & 0x80) != 0);
  }

  void rotate_and(std::uint8_t value) noexcept {  // ARR
    const std::uint8_t masked = low(a & value);
    const int old_carry = carry();
    a = low((masked >> 1) | (old_carry << 7));
    if (!flag(kDecimal)) {
      set_nz(a);
      set(kCarry, (a & 0x40) != 0);
      set(kOverflow, ((a ^ (a << 1)) & 0x40) != 0);
      return;
    }
    set(kNegative, old_carry != 0);
    set(kZero, a == 0);
    set(kOverflow, ((masked ^ a) & 0x40) != 0);
    if ((masked & 15) + (masked & 1) > 5) a = low((a & 0xF0) | ((a + 6) & 15));
    const bool carries = (masked & 0xF0) + (masked & 0x10) > 0x50;
    if (carries) a = low(a + 0x60);
    set(kCarry, carries);
  }

  std::uint8_t shift_left(std::uint8_t value, int fill) noexcept {
    set(kCarry, (value & 0x80) != 0);
    return low((value << 1) | fill);
  }

  std::uint8_t shift_right(std::uint8_t value, int fill) noexcept {
    set(kCarry, (value & 1) != 0);
    return low((value >> 1) | (fill << 7));
  }

  void load(std::uint8_t& reg, int value) noexcept {
    reg = low(value);
    set_nz(reg);
  }

  /// The operation itself. `value` comes in as the byte read and leaves as the byte to write.
  template <Bus B>
  void operate(B& bus, Operation operation, std::uint16_t address, std::uint8_t& value) noexcept {
    using enum Operation;
    const int next_page = (address >> 8) + 1;
    switch (operation) {
      case ADC:
        return add(value);
      case AND:
        return load(a, a & value);
      case ASL:
        return load(value, shift_left(value, 0));
      case BCC:
        return branch(bus, value, !flag(kCarry));
      case BCS:
        return branch(bus, value, flag(kCarry));
      case BEQ:
        return branch(bus, value, flag(kZero));
      case BIT:
        p = low((p & ~(kNegative | kOverflow)) | (value & (kNegative | kOverflow)));
        return set(kZero, (a & value) == 0);
      case BMI:
        return branch(bus, value, flag(kNegative));
      case BNE:
        return branch(bus, value, !flag(kZero));
      case BPL:
        return branch(bus, value, !flag(kNegative));
      case BRK:
        return set(kInterruptDisable, true);
      case BVC:
        return branch(bus, value, !flag(kOverflow));
      case BVS:
        return branch(bus, value, flag(kOverflow));
      case CLC:
        return set(kCarry, false);
      case CLD:
        return set(kDecimal, false);
      case CLI:
        return set(kInterruptDisable, false);
      case CLV:
        return set(kOverflow, false);
      case CMP:
        return compare(a, value);
      case CPX:
        return compare(x, value);
      case CPY:
        return compare(y, value);
      case DEC:
        return load(value, value - 1);
      case DEX:
        return load(x, x - 1);
      case DEY:
        return load(y, y - 1);
      case EOR:
        return load(a, a ^ value);
      case INC:
        return load(value, value + 1);
      case INX:
        return load(x, x + 1);
      case INY:
        return load(y, y + 1);
      case LDA:
      case PLA:
        return load(a, value);
      case LDX:
        return load(x, value);
      case LDY:
        return load(y, value);
      case LSR:
        return load(value, shift_right(value, 0));
      case JMP:
      case JSR:
      case NOP:
      case RTI:
      case RTS:
        return;
      case ORA:
        return load(a, a | value);
      case PHA:
        value = a;
        return;
      case PHP:
        value = p | kUnused;
        return;
      case PLP:
        p = low(value & ~kUnused);
        return;
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
        value = a;
        return;
      case STX:
        value = x;
        return;
      case STY:
        value = y;
        return;
      case TAX:
        return load(x, a);
      case TAY:
        return load(y, a);
      case TSX:
        return load(x, sp);
      case TXA:
        return load(a, x);
      case TXS:
        sp = x;
        return;
      case TYA:
        return load(a, y);
      // Undocumented from here on.
      case ANC:
        load(a, a & value);
        return set(kCarry, flag(kNegative));
      case ANE:
        return load(a, (a | 0xEE) & x & value);
      case ARR:
        return rotate_and(value);
      case ASR:
        return load(a, shift_right(low(a & value), 0));
      case DCP:
        return compare(a, --value);
      case ISB:
        return subtract(++value);
      case JAM:
        jammed = true;
        return;
      case LAS:
        sp &= value;
        x = sp;
        return load(a, sp);
      case LAX:
        x = value;
        return load(a, value);
      case LXA:
        load(a, (a | 0xEE) & value);
        x = a;
        return;
      case RLA:
        value = shift_left(value, carry());
        return load(a, a & value);
      case RRA:
        value = shift_right(value, carry());
        return add(value);
      case SAX:
        value = a & x;
        return;
      case SBX: {
        const int masked = a & x;
        set(kCarry, masked >= value);
        return load(x, masked - value);
      }
      case SHA:
        value = low(a & x & next_page);
        return;
      case SHS:
        sp = a & x;
        value = low(sp & next_page);
        return;
      case SHX:
        value = low(x & next_page);
        return;
      case SHY:
        value = low(y & next_page);
        return;
      case SLO:
        value = shift_left(value, 0);
        return load(a, a | value);
      case SRE:
        value = shift_right(value, 0);
        return load(a, a ^ value);
    }
  }
};

}  // namespace fastrl::envs::atari
