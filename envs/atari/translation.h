// What translate.h makes of a cartridge's code, and what the fast processor needs to run it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "csrc/core/executable_memory.h"
#include "envs/atari/code.h"

namespace fastrl::envs::atari {

struct Translation {
  /// How to begin in the midst of the machine code.
  struct Entry {
    std::uint32_t offset = 0;
    /// Time that has passed there and is not counted yet, as TiaAccess has it: the machine code
    /// adds it up at jumps.
    std::int32_t ahead = 0;
  };

  ExecutableMemory machine_code;          ///< It begins with what is called to enter it.
  std::vector<Instruction> instructions;  ///< Code's; those with machine code are kTranslated.
  std::vector<Entry> entries;             ///< Of every instruction.

  [[nodiscard]] std::uintptr_t address_of(Entry entry) const noexcept {
    return reinterpret_cast<std::uintptr_t>(machine_code.data() + entry.offset);
  }
};

}  // namespace fastrl::envs::atari
