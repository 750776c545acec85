// A cartridge, read once: where every instruction that could start at an address goes, so that the
// fast processor (threaded.h) looks at no opcode and no addressing form again.
//
// Oracle:   m6507.h, which reads the bytes (tests/oracle/test_atari.py: the fast console).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "envs/atari/opcodes.h"
#include "envs/atari/rom.h"
#include "envs/atari/tia.h"

namespace fastrl::envs::atari {

/// What an instruction's address turned out to be.
enum class Place : std::uint8_t {
  kAny,         ///< There is none, or it is known only when the instruction runs.
  kRam,         ///< The console's memory.
  kRom,         ///< Bytes of the cartridge that nothing happens to.
  kTable,       ///< Indexed, and with any index such bytes.
  kTia,         ///< A register of the TIA.
  kKept,        ///< A register of the TIA that a second write of the same value does not change.
  kWait,        ///< WSYNC.
  kGrp0,        ///< GRP0, and
  kGrp1,        ///< GRP1, which copy each other.
  kPort,        ///< Timer and ports of the RIOT.
  kCart,        ///< What else is in a cartridge: bank switches, memory, a chip.
  kUnknown,     ///< To be run by the plain processor.
  kTranslated,  ///< To be run by machine code (translate.h).
};

/// One instruction, wherever it starts.
struct Instruction {
  std::uint16_t handler = 0;  ///< Opcode, and Place in the upper byte.
  std::uint16_t operand = 0;  ///< Byte, address; for a branch the cycles that taking it costs.
  std::uint16_t next = 0;     ///< Lower 12 bits of the address that follows.
  std::int16_t jump = 0;      ///< For a branch: how many bytes away its target is.
};

constexpr Place place_of(const Instruction& it) noexcept {
  return static_cast<Place>(it.handler >> 8U);
}
constexpr const Opcode& opcode_of(const Instruction& it) noexcept {
  return kOpcodes[it.handler & 0xFFU];
}
constexpr std::uint16_t handler_of(Place place, std::uint8_t code) noexcept {
  return static_cast<std::uint16_t>((static_cast<unsigned>(place) << 8U) | code);
}

/// Bytes that an instruction has.
constexpr int length_of(Form form) noexcept {
  switch (form) {
    case Form::kImplied:
    case Form::kAccumulator:
    case Form::kPush:
    case Form::kPull:
    case Form::kReturn:
    case Form::kReturnInterrupt:
      return 1;
    case Form::kAbsolute:
    case Form::kAbsoluteX:
    case Form::kAbsoluteY:
    case Form::kAbsoluteJump:
    case Form::kIndirectJump:
    case Form::kCall:
      return 3;
    default:
      return 2;
  }
}

/// Addresses of a cartridge (lower 12 bits) that answer with a byte of the image and nothing else.
struct PlainRange {
  int first = 0;
  int end = 0x1000;

  [[nodiscard]] constexpr bool has(int at) const noexcept { return at >= first && at < end; }
};

constexpr PlainRange plain_range_of(Scheme scheme) noexcept {
  switch (scheme) {
    case Scheme::k2K:
    case Scheme::k4K:
    case Scheme::kFE:
      return {};
    case Scheme::kF8:
      return {0, 0xFF8};
    case Scheme::kF6:
      return {0, 0xFF6};
    case Scheme::kF8SC:
      return {0x100, 0xFF8};
    case Scheme::kF6SC:
      return {0x100, 0xFF6};
    case Scheme::kE0:
      return {0, 0xFE0};
    case Scheme::kDPC:
      return {0x080, 0xFC0};
  }
  return {0, 0};
}

/// What no bundled game was seen to use is left to the plain processor.
constexpr bool is_rare(Operation operation) noexcept {
  return operation >= Operation::ANC && operation != Operation::LAX;
}

/// Whether instructions are found to be of this kind.
constexpr bool is_decoded(Place place, std::uint8_t code) noexcept {
  const Opcode& opcode = kOpcodes[code];
  const Access access = access_of(opcode.operation);
  const bool fixed = opcode.form == Form::kZeroPage || opcode.form == Form::kAbsolute;
  const bool indexed = opcode.form == Form::kAbsoluteX || opcode.form == Form::kAbsoluteY;
  if (is_rare(opcode.operation)) return false;
  switch (place) {
    case Place::kAny:
      return !fixed;
    case Place::kRam:
      return fixed;
    case Place::kRom:
      return opcode.form == Form::kAbsolute && access == Access::kRead;
    case Place::kTable:
      return indexed && access == Access::kRead;
    case Place::kTia:
      return fixed;
    case Place::kKept:
    case Place::kWait:
    case Place::kGrp0:
    case Place::kGrp1:
      return fixed && access == Access::kWrite;
    case Place::kPort:
      return opcode.form == Form::kAbsolute;
    case Place::kCart:
      return opcode.form == Form::kAbsolute && access != Access::kModify;
    case Place::kUnknown:
    case Place::kTranslated:
      return false;
  }
  return false;
}

/// Whether nothing behind it is looked at.
constexpr bool leaves_for_good(std::uint8_t code) noexcept {
  const Form form = kOpcodes[code].form;
  return form == Form::kAbsoluteJump || form == Form::kIndirectJump;
}

/// What is run by the plain processor: `next` is its own address.
constexpr Instruction instruction_unknown(int address) noexcept {
  return {.handler = handler_of(Place::kUnknown, 0),
          .next = static_cast<std::uint16_t>(address & 0xFFF)};
}

/// Registers a write to which may do something whatever was written before.
constexpr bool acts_always(int reg) noexcept {
  switch (reg) {
    case Tia::RESP0:
    case Tia::RESP1:
    case Tia::RESM0:
    case Tia::RESM1:
    case Tia::RESBL:
    case Tia::RESMP0:
    case Tia::RESMP1:
    case Tia::HMOVE:
    case Tia::CXCLR:
      return true;
    default:
      return false;
  }
}

/// Registers that nothing but a write to them changes; HMCLR is looked after. After a RESPx, a
/// write to NUSIZx does something more; and while there are stars, but such frames are run by the
/// plain console.
constexpr bool is_kept(int reg) noexcept {
  switch (reg) {
    case Tia::NUSIZ0:
    case Tia::NUSIZ1:
    case Tia::CTRLPF:
    case Tia::COLUP0:
    case Tia::COLUP1:
    case Tia::COLUPF:
    case Tia::COLUBK:
    case Tia::REFP0:
    case Tia::REFP1:
    case Tia::PF0:
    case Tia::PF1:
    case Tia::PF2:
    case Tia::ENAM0:
    case Tia::ENAM1:
    case Tia::HMP0:
    case Tia::HMP1:
    case Tia::HMM0:
    case Tia::HMM1:
    case Tia::HMBL:
    case Tia::VDELP0:
    case Tia::VDELP1:
    case Tia::VDELBL:
      return true;
    default:
      return false;
  }
}

constexpr Place place_of_register(int reg) noexcept {
  switch (reg) {
    case Tia::WSYNC:
      return Place::kWait;
    case Tia::GRP0:
      return Place::kGrp0;
    case Tia::GRP1:
      return Place::kGrp1;
    default:
      return is_kept(reg) ? Place::kKept : Place::kTia;
  }
}

constexpr Place place_of(std::uint8_t code, int operand, PlainRange plain) noexcept {
  using namespace address;
  const Opcode& opcode = kOpcodes[code];
  const Access access = access_of(opcode.operation);
  switch (opcode.form) {
    case Form::kZeroPage:
    case Form::kAbsolute:
      if (is_ram(operand)) return Place::kRam;
      if (is_tia(operand)) {
        return access == Access::kWrite ? place_of_register(operand & 0x3F) : Place::kTia;
      }
      if (is_port(operand)) return Place::kPort;
      return access == Access::kRead && plain.has(operand & 0xFFF) ? Place::kRom : Place::kCart;
    case Form::kAbsoluteX:
    case Form::kAbsoluteY:
      return access == Access::kRead && is_cart(operand) && plain.has(operand & 0xFFF) &&
                     plain.has((operand & 0xFFF) + 0xFF)
                 ? Place::kTable
                 : Place::kAny;
    case Form::kIndirectY:  // The pointer is in memory.
      return operand >= 0x80 && operand < 0xFF ? Place::kAny : Place::kUnknown;
    case Form::kAbsoluteJump:
      return is_cart(operand) || is_ram(operand) ? Place::kAny : Place::kUnknown;
    case Form::kCall:
      return is_cart(operand) ? Place::kAny : Place::kUnknown;
    case Form::kIndirectJump:
      return is_ram(operand) && (operand & 0xFF) != 0xFF ? Place::kAny : Place::kUnknown;
    default:
      return Place::kAny;
  }
}

/// The instruction of these bytes, whose first is at `address`.
constexpr Instruction instruction_at(int address, std::uint8_t code, std::uint8_t low,
                                     std::uint8_t high, PlainRange plain) noexcept {
  const Form form = kOpcodes[code].form;
  const int length = length_of(form);
  int operand = low | (high << 8);
  const Place place = place_of(code, operand, plain);
  if (!is_decoded(place, code)) return instruction_unknown(address);
  int jump = 0;
  if (form == Form::kRelative) {
    jump = length + static_cast<std::int8_t>(low);
    operand = (((address + length) ^ (address + jump)) & 0xF00) != 0 ? 2 : 1;
  }
  return {.handler = handler_of(place, code),
          .operand = static_cast<std::uint16_t>(operand),
          .next = static_cast<std::uint16_t>(address + length),
          .jump = static_cast<std::int16_t>(jump)};
}

/// The instructions of an image, for every bank, and its bytes bank by bank.
class Code {
 public:
  static constexpr int kBankSize = 4096;
  static constexpr int kSliceSize = 1024;  ///< What E0 switches.

  Code(std::span<const std::uint8_t> image, Scheme scheme)
      : scheme_(scheme), plain_(plain_range_of(scheme)) {
    if (scheme == Scheme::kE0) {
      for (int slice = 0; slice < 8; ++slice) {
        for (int segment = 0; segment < 4; ++segment) {
          append(image.subspan(static_cast<std::size_t>(slice * kSliceSize), kSliceSize),
                 segment * kSliceSize);
        }
      }
      return;
    }
    if (scheme == Scheme::k2K) {
      for (int half = 0; half < 2; ++half) append_bytes(image.first(2048));
      decode(std::span(bytes_), 0);
      return;
    }
    const std::size_t num_banks = scheme == Scheme::k4K                              ? 1
                                  : scheme == Scheme::kF6 || scheme == Scheme::kF6SC ? 4
                                                                                     : 2;
    for (std::size_t bank = 0; bank < num_banks; ++bank) {
      append(image.subspan(bank * kBankSize, kBankSize), 0);
    }
  }

  [[nodiscard]] Scheme scheme() const noexcept { return scheme_; }
  [[nodiscard]] PlainRange plain() const noexcept { return plain_; }
  [[nodiscard]] std::size_t size() const noexcept { return instructions_.size(); }
  /// Which instruction is at `pc` while instruction i runs; nothing if that depends on the banks.
  [[nodiscard]] std::optional<std::size_t> index_of(std::size_t i, int pc) const noexcept {
    if (!address::is_cart(pc)) return std::nullopt;
    const auto low = static_cast<std::size_t>(pc & 0xFFF);
    const std::size_t segment = low / kSliceSize;
    const std::size_t bank = i - (i % kBankSize);
    switch (scheme_) {
      case Scheme::kFE:
        return ((pc & 0x2000) != 0 ? 0 : kBankSize) + low;
      case Scheme::kE0:
        if (segment == 3) return 7 * kBankSize + low;
        if (segment == (i / kSliceSize) % 4) return bank + low;
        return std::nullopt;
      default:
        return bank + low;
    }
  }
  /// `offset` in the sequence of banks; for E0 of slice 0 in segments 0, 1, 2, 3, slice 1 ...
  [[nodiscard]] const Instruction* instructions(std::size_t offset) const noexcept {
    return instructions_.data() + offset;
  }
  [[nodiscard]] const std::uint8_t* bytes(std::size_t offset) const noexcept {
    return bytes_.data() + offset;
  }

 private:
  void append_bytes(std::span<const std::uint8_t> part) {
    bytes_.insert(bytes_.end(), part.begin(), part.end());
  }

  void append(std::span<const std::uint8_t> part, int at) {
    append_bytes(part);
    decode(part, at);
  }

  /// The instructions of a part that is seen from address `at` on; it is left through a jump only.
  void decode(std::span<const std::uint8_t> part, int at) {
    const auto size = static_cast<int>(part.size());
    for (int i = 0; i < size; ++i) {
      const auto byte = [&](int k) { return part[static_cast<std::size_t>(i + k)]; };
      const int length = length_of(kOpcodes[byte(0)].form);
      // Most instructions go on behind themselves, or read a byte there.
      const int end = i + length - (leaves_for_good(byte(0)) ? 1 : 0);
      const bool whole = end < size && plain_.has(at + i) && plain_.has(at + end);
      Instruction instruction = instruction_unknown(at + i);
      if (whole) {
        instruction = instruction_at(at + i, byte(0), length > 1 ? byte(1) : 0,
                                     length > 2 ? byte(2) : 0, plain_);
        const int target = i + instruction.jump;
        if (target < 0 || target >= size) instruction = instruction_unknown(at + i);
      }
      instructions_.push_back(instruction);
    }
  }

  Scheme scheme_;
  PlainRange plain_;
  std::vector<Instruction> instructions_;
  std::vector<std::uint8_t> bytes_;
};

}  // namespace fastrl::envs::atari
