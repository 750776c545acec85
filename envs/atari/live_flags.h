// Which flags somebody may read, so that the translator need not keep the others.
//
// Oracle:   tests/oracle/test_translation.py, test_atari.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "envs/atari/code.h"
#include "envs/atari/opcodes.h"

namespace fastrl::envs::atari {

/// Of every instruction of a cartridge: the flags that may be read, before they are set, after it.
class LiveFlags {
 public:
  using Set = std::uint8_t;
  static constexpr Set kNz = 1;  ///< Negative and zero.
  static constexpr Set kCarry = 2;
  static constexpr Set kOverflow = 4;
  static constexpr Set kAll = 7;

  explicit LiveFlags(const Code& code) : code_(code), before_(code.size(), 0) {
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t i = code.size(); i-- > 0;) {
        const Set now = before(i);
        changed = changed || now != before_[i];
        before_[i] = now;
      }
    }
  }

  [[nodiscard]] Set after(std::size_t i) const {
    const Instruction& it = *code_.instructions(i);
    // After a switch of banks the next instruction is another one.
    if (place_of(it) == Place::kUnknown || place_of(it) == Place::kCart) return kAll;
    const auto next = [&] {
      return before_[i + static_cast<std::size_t>(length_of(opcode_of(it).form))];
    };
    switch (opcode_of(it).form) {
      case Form::kRelative:
        return next() | before_[i + static_cast<std::size_t>(it.jump)];
      case Form::kAbsoluteJump:
      case Form::kCall: {
        const auto target = code_.index_of(i, it.operand);
        return target ? before_[*target] : kAll;
      }
      case Form::kReturn:
      case Form::kReturnInterrupt:
      case Form::kBreak:
      case Form::kIndirectJump:
        return kAll;
      case Form::kAbsoluteX:
      case Form::kAbsoluteY:
      case Form::kIndirectX:
      case Form::kIndirectY:  // Any of them may switch banks, too.
        return place_of(it) == Place::kTable ? next() : kAll;
      default:
        return next();
    }
  }

 private:
  [[nodiscard]] Set before(std::size_t i) const {
    const Instruction& it = *code_.instructions(i);
    if (place_of(it) == Place::kUnknown || may_end_frame(it)) return kAll;
    const Operation operation = opcode_of(it).operation;
    return static_cast<Set>((after(i) & ~set_by(operation)) | read_by(operation));
  }

  /// At the end of a frame somebody looks at all registers.
  static bool may_end_frame(const Instruction& it) {
    const Place place = place_of(it);
    const auto [operation, form, cycles] = opcode_of(it);
    const bool writes = access_of(operation) != Access::kRead && form != Form::kAccumulator;
    return form == Form::kPush || form == Form::kCall ||
           (writes && place != Place::kRam && place != Place::kPort);
  }

  static Set read_by(Operation operation) {
    using enum Operation;
    switch (operation) {
      case ADC:
      case SBC:
      case ROL:
      case ROR:
      case BCC:
      case BCS:
        return kCarry;
      case BEQ:
      case BNE:
      case BMI:
      case BPL:
        return kNz;
      case BVC:
      case BVS:
        return kOverflow;
      case PHP:
        return kAll;
      default:
        return 0;
    }
  }
  static Set set_by(Operation operation) {
    using enum Operation;
    switch (operation) {
      case ADC:
      case SBC:
      case PLP:
        return kAll;
      case ASL:
      case LSR:
      case ROL:
      case ROR:
      case CMP:
      case CPX:
      case CPY:
        return kNz | kCarry;
      case BIT:
        return kNz | kOverflow;
      case CLC:
      case SEC:
        return kCarry;
      case CLV:
        return kOverflow;
      case AND:
      case EOR:
      case ORA:
      case DEC:
      case DEX:
      case DEY:
      case INC:
      case INX:
      case INY:
      case LAX:
      case LDA:
      case LDX:
      case LDY:
      case PLA:
      case TAX:
      case TAY:
      case TSX:
      case TXA:
      case TYA:
        return kNz;
      default:
        return 0;
    }
  }

  const Code& code_;
  std::vector<Set> before_;  ///< As `after`, but before each instruction.
};

}  // namespace fastrl::envs::atari
