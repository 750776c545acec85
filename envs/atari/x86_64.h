// An assembler for the x86-64 instructions that translate.h emits, and no others.
//
// Document: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: 2.1 and 2.2
// (prefixes, ModR/M, SIB), 3 to 5 (the opcodes).
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "csrc/core/check.h"

namespace fastrl::envs::atari::x86_64 {

/// Numbers of registers. One of 8 bits is the low byte.
enum class Reg : std::uint8_t { kAx, kCx, kDx, kBx, kSp, kBp, kSi, kDi, k8, k9, k10, k11, k12 };

/// base + index + displacement, with the index scaled by 2^scale.
struct Mem {
  Reg base;
  std::int32_t displacement = 0;
  Reg index = Reg::kSp;  ///< kSp: none.
  unsigned scale = 0;
};

template <typename T>
concept RegOrMem = std::same_as<T, Reg> || std::same_as<T, Mem>;

/// As the processor numbers them.
enum class Alu : std::uint8_t { kAdd, kOr, kAdc, kSbb, kAnd, kSub, kXor, kCmp };
enum class Shift : std::uint8_t { kRol, kRor, kRcl, kRcr, kShl, kShr };
/// Conditions, likewise.
enum class If : std::uint8_t {
  kOverflow,
  kNoOverflow,
  kBelow,
  kNotBelow,
  kEqual,
  kNotEqual,
  kNotAbove,
  kAbove,
  kNegative,
  kNotNegative,
  kNotLess = 13,  ///< Signed, as the next.
  kGreater = 15,
};

enum class Width : std::uint8_t { k8, k16, k32, k64 };

class Assembler {
 public:
  /// Where a jump keeps its target; `aim` fills it in.
  struct Jump {
    std::size_t end;
    bool is_short;
  };

  [[nodiscard]] std::span<const std::uint8_t> code() const noexcept { return bytes_; }
  [[nodiscard]] std::size_t here() const noexcept { return bytes_.size(); }

  // ---- moves ------------------------------------------------------------------------------------
  void mov(Reg to, Reg from) { encode(Width::k32, 0x8B, number(to), from); }
  void mov(Reg to, std::uint32_t value) {
    if (value == 0) return alu(Width::k32, Alu::kXor, to, to);
    begin(Width::k32, 0, Mem{to});
    byte(0xB8 | (number(to) & 7U));
    dword(value);
  }
  void mov_address(Reg to, const void* address) {
    begin(Width::k64, 0, Mem{to});
    byte(0xB8 | (number(to) & 7U));
    qword(reinterpret_cast<std::uintptr_t>(address));
  }
  template <RegOrMem Rm>  // Zero-extended.
  void load8(Reg to, Rm from) {
    encode(Width::k32, 0x0FB6, number(to), from, needs_rex(from));
  }
  void load16(Reg to, Mem from) { encode(Width::k32, 0x0FB7, number(to), from); }
  void load32(Reg to, Mem from) { encode(Width::k32, 0x8B, number(to), from); }
  void load64(Reg to, Mem from) { encode(Width::k64, 0x8B, number(to), from); }
  void store8(Mem to, Reg from) { encode(Width::k8, 0x88, number(from), to, needs_rex(from)); }
  void store16(Mem to, Reg from) { encode(Width::k16, 0x89, number(from), to); }
  void store32(Mem to, Reg from) { encode(Width::k32, 0x89, number(from), to); }
  void store64(Mem to, Reg from) { encode(Width::k64, 0x89, number(from), to); }
  void store8(Mem to, std::uint8_t value) {
    encode(Width::k8, 0xC6, 0, to);
    byte(value);
  }
  void store16(Mem to, std::uint16_t value) {
    encode(Width::k16, 0xC7, 0, to);
    byte(value & 0xFFU);
    byte(value >> 8U);
  }
  void store32(Mem to, std::uint32_t value) {
    encode(Width::k32, 0xC7, 0, to);
    dword(value);
  }
  void lea(Reg to, Mem from, Width width = Width::k32) { encode(width, 0x8D, number(to), from); }
  void push(Reg from) {
    begin(Width::k32, 0, Mem{from});
    byte(0x50 | (number(from) & 7U));
  }
  void pop(Reg to) {
    begin(Width::k32, 0, Mem{to});
    byte(0x58 | (number(to) & 7U));
  }
  /// The address of byte `target` of the code.
  void lea_code(Reg to, std::size_t target) {
    byte(number(to) > 7 ? 0x4C : 0x48);
    byte(0x8D);
    byte(0x05 | ((number(to) & 7U) << 3U));
    dword(static_cast<std::uint32_t>(target - (here() + 4)));
  }

  // ---- arithmetic -------------------------------------------------------------------------------
  template <RegOrMem Rm>
  void alu(Width width, Alu what, Reg to, Rm from) {
    const unsigned code = (static_cast<unsigned>(what) << 3U) | 2U;
    encode(width, code | wide(width), number(to), from,
           width == Width::k8 && (needs_rex(to) || needs_rex(from)));
  }
  void alu(Width width, Alu what, Mem to, Reg from) {
    encode(width, (static_cast<unsigned>(what) << 3U) | wide(width), number(from), to,
           width == Width::k8 && needs_rex(from));
  }
  template <RegOrMem Rm>
  void alu(Width width, Alu what, Rm to, std::int32_t value) {
    if (width == Width::k8) {
      encode(width, 0x80, static_cast<unsigned>(what), to, needs_rex(to));
      byte(static_cast<std::uint8_t>(value));
    } else if (is_small(value)) {
      encode(width, 0x83, static_cast<unsigned>(what), to);
      byte(static_cast<std::uint8_t>(value));
    } else {
      encode(width, 0x81, static_cast<unsigned>(what), to);
      dword(static_cast<std::uint32_t>(value));
    }
  }
  template <RegOrMem Rm>
  void inc8(Rm at) {
    encode(Width::k8, 0xFE, 0, at, needs_rex(at));
  }
  template <RegOrMem Rm>
  void dec8(Rm at) {
    encode(Width::k8, 0xFE, 1, at, needs_rex(at));
  }
  /// By one bit.
  void shift8(Shift what, Reg at) {
    encode(Width::k8, 0xD0, static_cast<unsigned>(what), at, needs_rex(at));
  }
  void shift(Width width, Shift what, Reg at, std::uint8_t bits) {
    encode(width, 0xC1, static_cast<unsigned>(what), at);
    byte(bits);
  }
  /// By the number in kCx.
  void shift32(Shift what, Reg at) { encode(Width::k32, 0xD3, static_cast<unsigned>(what), at); }
  void mul(Width width, Reg to, Reg from, std::int32_t factor) {
    encode(width, 0x69, number(to), from);
    dword(static_cast<std::uint32_t>(factor));
  }

  // ---- conditions -------------------------------------------------------------------------------
  void test8(Reg a, Reg b) { encode(Width::k8, 0x84, number(a), b, needs_rex(a) || needs_rex(b)); }
  void test32(Reg at, std::uint32_t bits) {
    encode(Width::k32, 0xF7, 0, at);
    dword(bits);
  }
  /// Carry = the bit.
  void bit_test(Reg at, std::uint8_t bit) {
    encode(Width::k32, 0x0FBA, 4, at);
    byte(bit);
  }
  template <RegOrMem Rm>
  void set(If condition, Rm to) {
    encode(Width::k8, 0x0F90U | static_cast<unsigned>(condition), 0, to, needs_rex(to));
  }

  // ---- jumps ------------------------------------------------------------------------------------
  [[nodiscard]] Jump jump() {
    byte(0xE9);
    return far();
  }
  [[nodiscard]] Jump jump(If condition) {
    byte(0x0F);
    byte(0x80U | static_cast<unsigned>(condition));
    return far();
  }
  /// By at most 128 bytes.
  void jump_back(If condition, std::size_t target) {
    byte(0x70U | static_cast<unsigned>(condition));
    byte(static_cast<unsigned>(target - (here() + 1)) & 0xFFU);
    FASTRL_DCHECK(here() - target <= 128);
  }
  /// Over less than 128 bytes, forwards.
  [[nodiscard]] Jump skip() {
    byte(0xEB);
    return near();
  }
  [[nodiscard]] Jump skip(If condition) {
    byte(0x70U | static_cast<unsigned>(condition));
    return near();
  }
  void aim(Jump jump, std::size_t target) noexcept {
    const auto distance = static_cast<std::uint32_t>(target - jump.end);
    const unsigned length = jump.is_short ? 1 : 4;
    FASTRL_DCHECK(!jump.is_short || distance < 128);
    for (unsigned i = 0; i < length; ++i) {
      bytes_[jump.end - length + i] = static_cast<std::uint8_t>(distance >> (8U * i));
    }
  }
  void aim_here(Jump jump) noexcept { aim(jump, here()); }
  template <RegOrMem Rm>
  void jump_to(Rm target) {
    encode(Width::k32, 0xFF, 4, target);
  }
  void ret() { byte(0xC3); }

 private:
  static constexpr unsigned number(Reg reg) noexcept { return static_cast<unsigned>(reg); }
  static constexpr bool is_small(std::int32_t value) noexcept {
    return value >= std::numeric_limits<std::int8_t>::min() &&
           value <= std::numeric_limits<std::int8_t>::max();
  }
  static constexpr unsigned wide(Width width) noexcept { return width == Width::k8 ? 0 : 1; }
  /// Without a REX prefix, bytes 4 to 7 are the upper halves of registers 0 to 3.
  static constexpr bool needs_rex(Reg reg) noexcept { return reg >= Reg::kSp; }
  static constexpr bool needs_rex(const Mem& /*at*/) noexcept { return false; }

  void byte(unsigned value) { bytes_.push_back(static_cast<std::uint8_t>(value)); }
  void dword(std::uint32_t value) {
    for (unsigned i = 0; i < 4; ++i) byte((value >> (8U * i)) & 0xFFU);
  }
  void qword(std::uint64_t value) {
    dword(static_cast<std::uint32_t>(value));
    dword(static_cast<std::uint32_t>(value >> 32U));
  }
  Jump far() {
    dword(0);
    return {here(), false};
  }
  Jump near() {
    byte(0);
    return {here(), true};
  }

  /// Prefixes. `reg`: the register, or the number that goes with the opcode.
  void begin(Width width, unsigned reg, const Mem& at, bool force_rex = false) {
    if (width == Width::k16) byte(0x66);
    const unsigned rex = (width == Width::k64 ? 8U : 0U) | (reg >> 3U << 2U) |
                         (number(at.index) >> 3U << 1U) | (number(at.base) >> 3U);
    if (rex != 0 || force_rex) byte(0x40 | rex);
  }
  void opcode(unsigned code) {
    if (code > 0xFF) byte(code >> 8U);
    byte(code & 0xFFU);
  }
  void encode(Width width, unsigned code, unsigned reg, Reg rm, bool force_rex = false) {
    begin(width, reg, Mem{rm}, force_rex);
    opcode(code);
    byte(0xC0 | ((reg & 7U) << 3U) | (number(rm) & 7U));
  }
  /// The base is neither register 4 or 12, which need a SIB byte, nor 5 or 13, which need a
  /// displacement.
  void encode(Width width, unsigned code, unsigned reg, const Mem& rm, bool force_rex = false) {
    begin(width, reg, rm, force_rex);
    opcode(code);
    const unsigned mode = rm.displacement == 0 ? 0 : is_small(rm.displacement) ? 1 : 2;
    const bool has_index = rm.index != Reg::kSp;
    byte((mode << 6U) | ((reg & 7U) << 3U) | (has_index ? 4U : number(rm.base) & 7U));
    if (has_index) {
      byte((rm.scale << 6U) | ((number(rm.index) & 7U) << 3U) | (number(rm.base) & 7U));
    }
    if (mode == 1) byte(static_cast<std::uint8_t>(rm.displacement));
    if (mode == 2) dword(static_cast<std::uint32_t>(rm.displacement));
  }

  std::vector<std::uint8_t> bytes_;
};

}  // namespace fastrl::envs::atari::x86_64
