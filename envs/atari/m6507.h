// The 6507: registers, and one instruction at a time, step by step from the table in opcodes.h.
//
// Document: console_spec.md 2 (the `low` model). The opcode is fetched first, then all base cycles
// pass, then the other accesses happen: they all see the clock of the end of the instruction.
// Oracle:   tests/unit/test_m6507.py; whole programs in tests/oracle/test_atari.py.
#pragma once

#include <concepts>
#include <cstdint>

#include "envs/atari/opcodes.h"
#include "envs/atari/operations.h"

namespace fastrl::envs::atari {

/// What the processor is wired to. `wait` lets cycles pass.
template <typename B>
concept Bus = requires(B bus, std::uint16_t address, std::uint8_t value, int cycles) {
  { bus.read(address) } noexcept -> std::same_as<std::uint8_t>;
  { bus.write(address, value) } noexcept;
  { bus.wait(cycles) } noexcept;
};

struct M6507 {
  std::uint16_t pc = 0;
  std::uint8_t a = 0;
  std::uint8_t x = 0;
  std::uint8_t y = 0;
  std::uint8_t sp = 0xFF;
  std::uint8_t p = 0;
  bool jammed = false;  ///< A jam opcode ran: only a reset helps.

  friend bool operator==(const M6507&, const M6507&) = default;

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
          if (takes(*this, opcode.operation)) {
            branch(bus, value);
          } else {
            Alu(*this).operate(opcode.operation, address, value);
          }
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
          push(bus, p | flags::kUnused);
          break;
        case Step::kPullValue:
          value = pull(bus);
          break;
        case Step::kPullStatus:
          p = low(pull(bus) & ~flags::kUnused);
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

  [[nodiscard]] bool flag(std::uint8_t mask) const noexcept { return (p & mask) != 0; }
  void set(std::uint8_t mask, bool on) noexcept { p = low(on ? p | mask : p & ~mask); }
  void set_nz(std::uint8_t value) noexcept {
    set(flags::kNegative, (value & 0x80) != 0);
    set(flags::kZero, value == 0);
  }
  [[nodiscard]] std::uint8_t status() const noexcept { return p; }
  void set_status(std::uint8_t value) noexcept { p = value; }
  void jam() noexcept { jammed = true; }

 private:
  static constexpr std::uint8_t low(int value) noexcept { return static_cast<std::uint8_t>(value); }
  static constexpr std::uint16_t word(int value) noexcept {
    return static_cast<std::uint16_t>(value);
  }
  static constexpr std::uint16_t with_high(std::uint16_t address, std::uint8_t high) noexcept {
    return word((address & 0x00FF) | (high << 8));
  }

  [[nodiscard]] std::uint16_t stack() const noexcept { return word(0x0100 | sp); }

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

  template <Bus B>
  void branch(B& bus, std::uint8_t offset) noexcept {
    const std::uint16_t target = word(pc + static_cast<std::int8_t>(offset));
    bus.wait(((target ^ pc) & 0xFF00) != 0 ? 2 : 1);
    pc = target;
  }
};

static_assert(Registers<M6507>);

}  // namespace fastrl::envs::atari
