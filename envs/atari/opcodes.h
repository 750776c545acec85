// The instruction set of the 6507, once, as data: operation, addressing form, base cycles, and the
// order in which each form uses the bus. `m6507.h` runs it.
//
// Document: console_spec.md 2.2 to 2.4 (cycles, accesses, undocumented opcodes).
// Oracle:   tests/unit/test_m6507.py holds it to an independent description in Python.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fastrl::envs::atari {

/// Documented operations, then the undocumented ones.
// clang-format off
enum class Operation : std::uint8_t {
  ADC, AND, ASL, BCC, BCS, BEQ, BIT, BMI, BNE, BPL, BRK, BVC, BVS, CLC, CLD, CLI, CLV, CMP, CPX,
  CPY, DEC, DEX, DEY, EOR, INC, INX, INY, JMP, JSR, LDA, LDX, LDY, LSR, NOP, ORA, PHA, PHP, PLA,
  PLP, ROL, ROR, RTI, RTS, SBC, SEC, SED, SEI, STA, STX, STY, TAX, TAY, TSX, TXA, TXS, TYA,
  ANC, ANE, ARR, ASR, DCP, ISB, JAM, LAS, LAX, LXA, RLA, RRA, SAX, SBX, SHA, SHS, SHX, SHY, SLO,
  SRE,
};
// clang-format on

enum class Form : std::uint8_t {
  kImplied,
  kAccumulator,
  kImmediate,
  kZeroPage,
  kZeroPageX,
  kZeroPageY,
  kAbsolute,
  kAbsoluteX,
  kAbsoluteY,
  kIndirectX,
  kIndirectY,
  kRelative,
  kAbsoluteJump,
  kIndirectJump,
  kPush,
  kPull,
  kCall,
  kReturn,
  kReturnInterrupt,
  kBreak,
};

/// What an operation does with the byte in memory that its form addresses.
enum class Access : std::uint8_t { kRead, kWrite, kModify };

struct Opcode {
  Operation operation;
  Form form;
  std::uint8_t cycles;  ///< Without page crossings and taken branches.
};

namespace opcode_table {
using enum Operation;
using enum Form;

// clang-format off
inline constexpr std::array kOpcodes = std::to_array<Opcode>({
    /* 00 */ {BRK, kBreak, 7}, {ORA, kIndirectX, 6}, {JAM, kImplied, 2}, {SLO, kIndirectX, 8},
    /* 04 */ {NOP, kZeroPage, 3}, {ORA, kZeroPage, 3}, {ASL, kZeroPage, 5}, {SLO, kZeroPage, 5},
    /* 08 */ {PHP, kPush, 3}, {ORA, kImmediate, 2}, {ASL, kAccumulator, 2}, {ANC, kImmediate, 2},
    /* 0C */ {NOP, kAbsolute, 4}, {ORA, kAbsolute, 4}, {ASL, kAbsolute, 6}, {SLO, kAbsolute, 6},
    /* 10 */ {BPL, kRelative, 2}, {ORA, kIndirectY, 5}, {JAM, kImplied, 2}, {SLO, kIndirectY, 8},
    /* 14 */ {NOP, kZeroPageX, 4}, {ORA, kZeroPageX, 4}, {ASL, kZeroPageX, 6}, {SLO, kZeroPageX, 6},
    /* 18 */ {CLC, kImplied, 2}, {ORA, kAbsoluteY, 4}, {NOP, kImplied, 2}, {SLO, kAbsoluteY, 7},
    /* 1C */ {NOP, kAbsoluteX, 4}, {ORA, kAbsoluteX, 4}, {ASL, kAbsoluteX, 7}, {SLO, kAbsoluteX, 7},
    /* 20 */ {JSR, kCall, 6}, {AND, kIndirectX, 6}, {JAM, kImplied, 2}, {RLA, kIndirectX, 8},
    /* 24 */ {BIT, kZeroPage, 3}, {AND, kZeroPage, 3}, {ROL, kZeroPage, 5}, {RLA, kZeroPage, 5},
    /* 28 */ {PLP, kPull, 4}, {AND, kImmediate, 2}, {ROL, kAccumulator, 2}, {ANC, kImmediate, 2},
    /* 2C */ {BIT, kAbsolute, 4}, {AND, kAbsolute, 4}, {ROL, kAbsolute, 6}, {RLA, kAbsolute, 6},
    /* 30 */ {BMI, kRelative, 2}, {AND, kIndirectY, 5}, {JAM, kImplied, 2}, {RLA, kIndirectY, 8},
    /* 34 */ {NOP, kZeroPageX, 4}, {AND, kZeroPageX, 4}, {ROL, kZeroPageX, 6}, {RLA, kZeroPageX, 6},
    /* 38 */ {SEC, kImplied, 2}, {AND, kAbsoluteY, 4}, {NOP, kImplied, 2}, {RLA, kAbsoluteY, 7},
    /* 3C */ {NOP, kAbsoluteX, 4}, {AND, kAbsoluteX, 4}, {ROL, kAbsoluteX, 7}, {RLA, kAbsoluteX, 7},
    /* 40 */ {RTI, kReturnInterrupt, 6}, {EOR, kIndirectX, 6}, {JAM, kImplied, 2}, {SRE, kIndirectX, 8},
    /* 44 */ {NOP, kZeroPage, 3}, {EOR, kZeroPage, 3}, {LSR, kZeroPage, 5}, {SRE, kZeroPage, 5},
    /* 48 */ {PHA, kPush, 3}, {EOR, kImmediate, 2}, {LSR, kAccumulator, 2}, {ASR, kImmediate, 2},
    /* 4C */ {JMP, kAbsoluteJump, 3}, {EOR, kAbsolute, 4}, {LSR, kAbsolute, 6}, {SRE, kAbsolute, 6},
    /* 50 */ {BVC, kRelative, 2}, {EOR, kIndirectY, 5}, {JAM, kImplied, 2}, {SRE, kIndirectY, 8},
    /* 54 */ {NOP, kZeroPageX, 4}, {EOR, kZeroPageX, 4}, {LSR, kZeroPageX, 6}, {SRE, kZeroPageX, 6},
    /* 58 */ {CLI, kImplied, 2}, {EOR, kAbsoluteY, 4}, {NOP, kImplied, 2}, {SRE, kAbsoluteY, 7},
    /* 5C */ {NOP, kAbsoluteX, 4}, {EOR, kAbsoluteX, 4}, {LSR, kAbsoluteX, 7}, {SRE, kAbsoluteX, 7},
    /* 60 */ {RTS, kReturn, 6}, {ADC, kIndirectX, 6}, {JAM, kImplied, 2}, {RRA, kIndirectX, 8},
    /* 64 */ {NOP, kZeroPage, 3}, {ADC, kZeroPage, 3}, {ROR, kZeroPage, 5}, {RRA, kZeroPage, 5},
    /* 68 */ {PLA, kPull, 4}, {ADC, kImmediate, 2}, {ROR, kAccumulator, 2}, {ARR, kImmediate, 2},
    /* 6C */ {JMP, kIndirectJump, 5}, {ADC, kAbsolute, 4}, {ROR, kAbsolute, 6}, {RRA, kAbsolute, 6},
    /* 70 */ {BVS, kRelative, 2}, {ADC, kIndirectY, 5}, {JAM, kImplied, 2}, {RRA, kIndirectY, 8},
    /* 74 */ {NOP, kZeroPageX, 4}, {ADC, kZeroPageX, 4}, {ROR, kZeroPageX, 6}, {RRA, kZeroPageX, 6},
    /* 78 */ {SEI, kImplied, 2}, {ADC, kAbsoluteY, 4}, {NOP, kImplied, 2}, {RRA, kAbsoluteY, 7},
    /* 7C */ {NOP, kAbsoluteX, 4}, {ADC, kAbsoluteX, 4}, {ROR, kAbsoluteX, 7}, {RRA, kAbsoluteX, 7},
    /* 80 */ {NOP, kImmediate, 2}, {STA, kIndirectX, 6}, {NOP, kImmediate, 2}, {SAX, kIndirectX, 6},
    /* 84 */ {STY, kZeroPage, 3}, {STA, kZeroPage, 3}, {STX, kZeroPage, 3}, {SAX, kZeroPage, 3},
    /* 88 */ {DEY, kImplied, 2}, {NOP, kImmediate, 2}, {TXA, kImplied, 2}, {ANE, kImmediate, 2},
    /* 8C */ {STY, kAbsolute, 4}, {STA, kAbsolute, 4}, {STX, kAbsolute, 4}, {SAX, kAbsolute, 4},
    /* 90 */ {BCC, kRelative, 2}, {STA, kIndirectY, 6}, {JAM, kImplied, 2}, {SHA, kIndirectY, 6},
    /* 94 */ {STY, kZeroPageX, 4}, {STA, kZeroPageX, 4}, {STX, kZeroPageY, 4}, {SAX, kZeroPageY, 4},
    /* 98 */ {TYA, kImplied, 2}, {STA, kAbsoluteY, 5}, {TXS, kImplied, 2}, {SHS, kAbsoluteY, 5},
    /* 9C */ {SHY, kAbsoluteX, 5}, {STA, kAbsoluteX, 5}, {SHX, kAbsoluteY, 5}, {SHA, kAbsoluteY, 5},
    /* A0 */ {LDY, kImmediate, 2}, {LDA, kIndirectX, 6}, {LDX, kImmediate, 2}, {LAX, kIndirectX, 6},
    /* A4 */ {LDY, kZeroPage, 3}, {LDA, kZeroPage, 3}, {LDX, kZeroPage, 3}, {LAX, kZeroPage, 4},
    /* A8 */ {TAY, kImplied, 2}, {LDA, kImmediate, 2}, {TAX, kImplied, 2}, {LXA, kImmediate, 2},
    /* AC */ {LDY, kAbsolute, 4}, {LDA, kAbsolute, 4}, {LDX, kAbsolute, 4}, {LAX, kAbsolute, 4},
    /* B0 */ {BCS, kRelative, 2}, {LDA, kIndirectY, 5}, {JAM, kImplied, 2}, {LAX, kIndirectY, 5},
    /* B4 */ {LDY, kZeroPageX, 4}, {LDA, kZeroPageX, 4}, {LDX, kZeroPageY, 4}, {LAX, kZeroPageY, 4},
    /* B8 */ {CLV, kImplied, 2}, {LDA, kAbsoluteY, 4}, {TSX, kImplied, 2}, {LAS, kAbsoluteY, 4},
    /* BC */ {LDY, kAbsoluteX, 4}, {LDA, kAbsoluteX, 4}, {LDX, kAbsoluteY, 4}, {LAX, kAbsoluteY, 4},
    /* C0 */ {CPY, kImmediate, 2}, {CMP, kIndirectX, 6}, {NOP, kImmediate, 2}, {DCP, kIndirectX, 8},
    /* C4 */ {CPY, kZeroPage, 3}, {CMP, kZeroPage, 3}, {DEC, kZeroPage, 5}, {DCP, kZeroPage, 5},
    /* C8 */ {INY, kImplied, 2}, {CMP, kImmediate, 2}, {DEX, kImplied, 2}, {SBX, kImmediate, 2},
    /* CC */ {CPY, kAbsolute, 4}, {CMP, kAbsolute, 4}, {DEC, kAbsolute, 6}, {DCP, kAbsolute, 6},
    /* D0 */ {BNE, kRelative, 2}, {CMP, kIndirectY, 5}, {JAM, kImplied, 2}, {DCP, kIndirectY, 8},
    /* D4 */ {NOP, kZeroPageX, 4}, {CMP, kZeroPageX, 4}, {DEC, kZeroPageX, 6}, {DCP, kZeroPageX, 6},
    /* D8 */ {CLD, kImplied, 2}, {CMP, kAbsoluteY, 4}, {NOP, kImplied, 2}, {DCP, kAbsoluteY, 7},
    /* DC */ {NOP, kAbsoluteX, 4}, {CMP, kAbsoluteX, 4}, {DEC, kAbsoluteX, 7}, {DCP, kAbsoluteX, 7},
    /* E0 */ {CPX, kImmediate, 2}, {SBC, kIndirectX, 6}, {NOP, kImmediate, 2}, {ISB, kIndirectX, 8},
    /* E4 */ {CPX, kZeroPage, 3}, {SBC, kZeroPage, 3}, {INC, kZeroPage, 5}, {ISB, kZeroPage, 5},
    /* E8 */ {INX, kImplied, 2}, {SBC, kImmediate, 2}, {NOP, kImplied, 2}, {SBC, kImmediate, 2},
    /* EC */ {CPX, kAbsolute, 4}, {SBC, kAbsolute, 4}, {INC, kAbsolute, 6}, {ISB, kAbsolute, 6},
    /* F0 */ {BEQ, kRelative, 2}, {SBC, kIndirectY, 5}, {JAM, kImplied, 2}, {ISB, kIndirectY, 8},
    /* F4 */ {NOP, kZeroPageX, 4}, {SBC, kZeroPageX, 4}, {INC, kZeroPageX, 6}, {ISB, kZeroPageX, 6},
    /* F8 */ {SED, kImplied, 2}, {SBC, kAbsoluteY, 4}, {NOP, kImplied, 2}, {ISB, kAbsoluteY, 7},
    /* FC */ {NOP, kAbsoluteX, 4}, {SBC, kAbsoluteX, 4}, {INC, kAbsoluteX, 7}, {ISB, kAbsoluteX, 7},
});
// clang-format on
}  // namespace opcode_table

using opcode_table::kOpcodes;

constexpr Access access_of(Operation operation) noexcept {
  using enum Operation;
  switch (operation) {
    case STA:
    case STX:
    case STY:
    case SAX:
    case SHA:
    case SHS:
    case SHX:
    case SHY:
      return Access::kWrite;
    case ASL:
    case LSR:
    case ROL:
    case ROR:
    case DEC:
    case INC:
    case SLO:
    case RLA:
    case SRE:
    case RRA:
    case DCP:
    case ISB:
      return Access::kModify;
    default:
      return Access::kRead;
  }
}

/// One thing an instruction does after its opcode was fetched and its base cycles have passed.
/// `address` and `value` are the two scratch registers that the steps of one instruction share.
enum class Step : std::uint8_t {
  kEnd,
  kFetchLow,          ///< address = the byte at PC, PC + 1
  kFetchHigh,         ///< high byte of address = the byte at PC, PC + 1
  kFetchValue,        ///< value = the byte at PC, PC + 1
  kAddXInPage,        ///< no access: address + X, kept in page zero
  kAddYInPage,        ///< no access: address + Y, kept in page zero
  kAddX,              ///< no access: address + X
  kAddY,              ///< no access: address + Y
  kAddXTimed,         ///< as kAddX; one cycle more if that leaves the page
  kAddYTimed,         ///< as kAddY; one cycle more if that leaves the page
  kFollow,            ///< address = the word at address; the high byte may lie in the next page
  kFollowInPage,      ///< address = the word at address; the high byte lies in the same page
  kRead,              ///< value = the byte at address
  kWrite,             ///< the byte at address = value
  kLoadAccumulator,   ///< no access: value = A
  kStoreAccumulator,  ///< no access: A = value
  kOperate,           ///< no access: the operation itself, on value and the registers
  kPeekStack,         ///< reads the byte at SP and drops it
  kPushValue,
  kPushHigh,  ///< the high byte of PC
  kPushLow,   ///< the low byte of PC
  kPushStatus,
  kPullValue,
  kPullStatus,
  kPullLow,   ///< low byte of address
  kPullHigh,  ///< high byte of address
  kVector,    ///< address = the word at $FFFE
  kJump,      ///< no access: PC = address
};

using Steps = std::array<Step, 8>;

/// The bus accesses of an instruction, in order. There are no dummy accesses but those listed.
constexpr Steps steps_of(Operation operation, Form form) noexcept {
  using enum Step;
  const Access access = access_of(operation);
  const bool reads = access == Access::kRead;
  Steps steps{};
  std::size_t length = 0;
  const auto add = [&steps, &length](auto... step) { ((steps[length++] = step), ...); };
  const auto use_memory = [&add, access] {
    if (access != Access::kWrite) add(kRead);
    add(kOperate);
    if (access != Access::kRead) add(kWrite);
  };
  switch (form) {
    case Form::kImplied:
      add(kOperate);
      break;
    case Form::kAccumulator:
      add(kLoadAccumulator, kOperate, kStoreAccumulator);
      break;
    case Form::kImmediate:
    case Form::kRelative:
      add(kFetchValue, kOperate);
      break;
    case Form::kZeroPage:
      add(kFetchLow);
      use_memory();
      break;
    case Form::kZeroPageX:
      add(kFetchLow, kAddXInPage);
      use_memory();
      break;
    case Form::kZeroPageY:
      add(kFetchLow, kAddYInPage);
      use_memory();
      break;
    case Form::kAbsolute:
      add(kFetchLow, kFetchHigh);
      use_memory();
      break;
    case Form::kAbsoluteX:
      add(kFetchLow, kFetchHigh, reads ? kAddXTimed : kAddX);
      use_memory();
      break;
    case Form::kAbsoluteY:
      add(kFetchLow, kFetchHigh, reads ? kAddYTimed : kAddY);
      use_memory();
      break;
    case Form::kIndirectX:
      add(kFetchLow, kAddXInPage, kFollow);
      use_memory();
      break;
    case Form::kIndirectY:
      add(kFetchLow, kFollow, reads ? kAddYTimed : kAddY);
      use_memory();
      break;
    case Form::kAbsoluteJump:
      add(kFetchLow, kFetchHigh, kJump);
      break;
    case Form::kIndirectJump:
      add(kFetchLow, kFetchHigh, kFollowInPage, kJump);
      break;
    case Form::kPush:
      add(kOperate, kPushValue);
      break;
    case Form::kPull:
      add(kPeekStack, kPullValue, kOperate);
      break;
    case Form::kCall:
      add(kFetchLow, kPeekStack, kPushHigh, kPushLow, kFetchHigh, kJump);
      break;
    case Form::kReturn:
      add(kPeekStack, kPullLow, kPullHigh, kJump, kFetchValue);
      break;
    case Form::kReturnInterrupt:
      add(kPeekStack, kPullStatus, kPullLow, kPullHigh, kJump);
      break;
    case Form::kBreak:
      add(kFetchValue, kPushHigh, kPushLow, kPushStatus, kOperate, kVector, kJump);
      break;
  }
  return steps;
}

inline constexpr std::array<Steps, 256> kSteps = [] {
  std::array<Steps, 256> all{};
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = steps_of(kOpcodes[i].operation, kOpcodes[i].form);
  }
  return all;
}();

static_assert(kOpcodes.size() == 256);

static_assert([] {
  for (std::size_t i = 0; i < kSteps.size(); ++i) {
    if (kSteps[i].front() == Step::kEnd || kSteps[i].back() != Step::kEnd) return false;
    if (kOpcodes[i].cycles < 2 || kOpcodes[i].cycles > 8) return false;
  }
  return true;
}());

// Opcodes whose low bits say their form keep to it.
static_assert([] {
  for (std::size_t i = 0; i < kOpcodes.size(); i += 4) {
    const bool y_indexed =
        kOpcodes[i + 2].operation == Operation::STX || kOpcodes[i + 2].operation == Operation::LDX;
    const std::size_t column = i % 32;
    if (column == 0x04 && kOpcodes[i + 1].form != Form::kZeroPage) return false;
    if (column == 0x14 && kOpcodes[i + 2].form != (y_indexed ? Form::kZeroPageY : Form::kZeroPageX))
      return false;
    if (column == 0x0C && kOpcodes[i + 3].form != Form::kAbsolute) return false;
    if (column == 0x18 && kOpcodes[i + 1].form != Form::kAbsoluteY) return false;
  }
  return true;
}());

}  // namespace fastrl::envs::atari
