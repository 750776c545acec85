// The translator: x86-64 machine code for every address of a cartridge, made once, in milliseconds.
//
// What an instruction does is defined by its handler in threaded.h; here it is done without looking
// anything up. What is rare keeps its handler: the machine code leaves before it has changed
// anything, as one handler leaves to the next, and where the handler goes on it is entered again.
// So the two share one state and one calling convention.
//
// Nearly all writes to the TIA come from here, so the time is kept as an access has it, above 14
// bits of register and value, and the end of the log in a register. Nobody asks at a write whether
// the frame should have ended before it: that is asked of the last write, where the machine code is
// left, and then the frame is given up.
//
// Every address is an entry, whether or not it is known to hold code. A chain of instructions is
// emitted from an address that has no machine code to one that has, or to where code cannot follow.
//
// Document: x86_64.h; System V ABI for AMD64, 3.2.3 (registers of arguments).
// Oracle:   threaded.h, m6507.h and ale-py (tests/oracle/test_atari.py, test_translation.py).
#pragma once

#include <memory>

#include "envs/atari/code.h"
#include "envs/atari/threaded.h"
#include "envs/atari/translation.h"

#if defined(__x86_64__) && defined(__linux__)

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "envs/atari/live_flags.h"
#include "envs/atari/rom.h"
#include "envs/atari/tia.h"
#include "envs/atari/x86_64.h"

namespace fastrl::envs::atari {

template <typename Host>
class Translator {
 public:
  explicit Translator(const Code& code) : code_(code), flags_(code), known_(code.size(), false) {
    made_.instructions.assign(code.instructions(0), code.instructions(0) + code.size());
    made_.entries.assign(code.size(), {kNowhere, 0});
  }

  /// Null if the system does not allow it.
  [[nodiscard]] std::unique_ptr<const Translation> translate() {
    emit_entrance();
    for (std::size_t bank = 0; bank < code_.size(); bank += Code::kBankSize) {
      const std::uint8_t* vector = code_.bytes(bank + 0xFFC);
      if (const auto start = code_.index_of(bank, vector[0] | (vector[1] << 8))) emit_from(*start);
    }
    for (std::size_t i = 0; i < code_.size(); ++i) emit_from(i);
    emit_exits();
    for (const auto& [jump, target] : jumps_) asm_.aim(jump, made_.entries[target].offset);
    made_.machine_code = ExecutableMemory(asm_.code());
    if (made_.machine_code.empty()) return nullptr;
    return std::make_unique<const Translation>(std::move(made_));
  }

 private:
  using Processor = Threaded<Host>;
  using Reg = x86_64::Reg;
  using Mem = x86_64::Mem;
  using Alu = x86_64::Alu;
  using Shift = x86_64::Shift;
  using If = x86_64::If;
  using Width = x86_64::Width;
  using Jump = x86_64::Assembler::Jump;
  static_assert(std::is_standard_layout_v<Processor>);
  static_assert(sizeof(Instruction) == 8 && sizeof(Translation::Entry) == 8);

  // The arguments of a handler are where the ABI puts them; all other registers are free.
  static constexpr Reg kState = Reg::kDi;
  static constexpr Reg kAt = Reg::kSi;    ///< An argument; free otherwise.
  static constexpr Reg kTime = Reg::kDx;  ///< TiaAccess: the cycle.
  static constexpr Reg kA = Reg::kCx;
  static constexpr Reg kX = Reg::k8;
  static constexpr Reg kY = Reg::k9;
  static constexpr Reg kNz = Reg::k10;     ///< As Threaded::nz.
  static constexpr Reg kCarry = Reg::k11;  ///< Byte: as Threaded::carry.
  static constexpr Reg kFree = Reg::kAx;
  static constexpr Reg kFree2 = Reg::kSi;
  // The caller's; the machine code puts them back.
  static constexpr Reg kLog = Reg::kBx;      ///< As Threaded::next_access.
  static constexpr Reg kTouched = Reg::kBp;  ///< As Threaded::touched.
  static constexpr Reg kLineEnd = Reg::k12;  ///< As Threaded::line_end.
  static constexpr std::array kCallers{kLog, kTouched, kLineEnd};

  static constexpr std::uint32_t kNowhere = 0;  ///< Where the entrance is, and no instruction.

  /// Of the processor's state.
  struct Field {
    static constexpr Mem bytes{kState, offsetof(Processor, bytes)};
    static constexpr Mem carry{kState, offsetof(Processor, carry)};
    static constexpr Mem decimal{kState, offsetof(Processor, decimal)};
    static constexpr Mem differs0{kState, offsetof(Processor, differs0)};
    static constexpr Mem differs1{kState, offsetof(Processor, differs1)};
    static constexpr Mem high_from{kState, offsetof(Processor, high_from)};
    static constexpr Mem entries{kState, offsetof(Processor, entries)};
    static constexpr Mem interrupt_disable{kState, offsetof(Processor, interrupt_disable)};
    static constexpr Mem kept{kState, offsetof(Processor, kept)};
    static constexpr Mem bits{kState, offsetof(Processor, bits)};
    static constexpr Mem too_late{kState, offsetof(Processor, too_late)};
    static constexpr Mem line_end{kState, offsetof(Processor, line_end)};
    static constexpr Mem next_access{kState, offsetof(Processor, next_access)};
    static constexpr Mem cleared{kState, offsetof(Processor, cleared)};
    static constexpr Mem nz{kState, offsetof(Processor, nz)};
    static constexpr Mem overflow{kState, offsetof(Processor, overflow)};
    static constexpr Mem page{kState, offsetof(Processor, page)};
    static constexpr Mem ram{kState, offsetof(Processor, riot.ram)};
    static constexpr Mem sp{kState, offsetof(Processor, sp)};
    static constexpr Mem expired_read{kState, offsetof(Processor, riot.expired_read)};
    static constexpr Mem shift{kState, offsetof(Processor, riot.shift)};
    static constexpr Mem timer{kState, offsetof(Processor, riot.timer)};
    static constexpr Mem written_at{kState, offsetof(Processor, riot.written_at)};
    static constexpr Mem stop{kState, offsetof(Processor, stop)};
    static constexpr Mem swacnt{kState, offsetof(Processor, riot.swacnt)};
    static constexpr Mem swcha{kState, offsetof(Processor, swcha)};
    static constexpr Mem swchb{kState, offsetof(Processor, swchb)};
    static constexpr Mem touched{kState, offsetof(Processor, touched)};
  };

  static Mem part_of(Mem array, int bytes) {
    array.displacement += bytes;
    return array;
  }
  static Mem part_of(Mem array, Reg index, unsigned scale = 0) {
    array.index = index;
    array.scale = scale;
    return array;
  }
  static Mem ram(int address) { return part_of(Field::ram, address & 0x7F); }
  /// Of a register that holds an address of which bit 7 is set, and 8 and up are not.
  static Mem ram(Reg address) { return part_of(part_of(Field::ram, -0x80), address); }
  /// Of a pin from 8 on.
  static Mem high_from(int pin) { return part_of(Field::high_from, 4 * (pin - 8)); }
  static Mem kept(int reg) { return part_of(Field::kept, 2 * reg); }
  static Mem slice(int address) {
    return part_of(Field::bytes, 8 * static_cast<int>(Processor::segment_of(address)));
  }

  [[nodiscard]] const Instruction& at(std::size_t i) const { return *code_.instructions(i); }

  // ---- ways in and out --------------------------------------------------------------------------
  /// Called like a handler, with an address in the machine code in place of an instruction.
  void emit_entrance() {
    for (const Reg reg : kCallers) asm_.push(reg);
    asm_.load32(kNz, Field::nz);
    asm_.load8(kCarry, Field::carry);
    asm_.load64(kLog, Field::next_access);
    asm_.load32(kTouched, Field::touched);
    asm_.load32(kLineEnd, Field::line_end);
    asm_.jump_to(kAt);
  }

  void put_back_registers() {
    for (auto reg = kCallers.rbegin(); reg != kCallers.rend(); ++reg) asm_.pop(*reg);
  }

  /// Leaves to the handler of instruction i, which has changed nothing yet, if the condition holds.
  void leave_if(If condition) { exits_.push_back({asm_.jump(condition), i_, ahead_}); }
  /// Always; then whoever comes from a handler need not come here.
  void leave() {
    made_.instructions[i_] = at(i_);
    exits_.push_back({asm_.jump(), i_, ahead_});
  }
  void leave_to_wait() { exits_.push_back({asm_.jump(), i_, ahead_, true}); }
  /// kTime is less than nothing where the code is further ahead than the frame is old.
  void give_up_if_late() {
    asm_.alu(Width::k32, Alu::kCmp, kTime,
             time(static_cast<std::int32_t>(Processor::kDeadline) - ahead_));
    give_ups_.push_back(asm_.jump(If::kNotLess));
  }

  void emit_exits() {
    // kFree: the number of the instruction.
    const auto begin = [&] {
      const std::size_t here = asm_.here();
      asm_.alu(Width::k32, Alu::kCmp, kTouched, Field::too_late);
      give_ups_.push_back(asm_.jump(If::kNotBelow));
      asm_.shift(Width::k32, Shift::kShr, kTime, TiaAccess::kCycleShift);
      asm_.store64(Field::next_access, kLog);
      asm_.store32(Field::touched, kTouched);
      asm_.store32(Field::line_end, kLineEnd);
      put_back_registers();
      asm_.store32(Field::nz, kNz);
      asm_.store8(Field::carry, kCarry);
      asm_.mov_address(kAt, code_.instructions(0));
      asm_.load16(Reg::k10, {kAt, offsetof(Instruction, handler), kFree, 3});
      asm_.mov_address(kAt, made_.instructions.data());
      asm_.lea(kAt, {kAt, 0, kFree, 3}, Width::k64);
      return here;
    };
    const std::size_t to_handler = begin();
    asm_.mov_address(kFree, Processor::kHandlers.data());
    asm_.jump_to(Mem{kFree, 0, Reg::k10, 3});
    const std::size_t to_wait = begin();
    asm_.mov_address(kFree, reinterpret_cast<const void*>(&Processor::wait_for_timer));
    asm_.jump_to(kFree);

    std::size_t last = code_.size();
    std::size_t exit = 0;
    for (const Exit& each : exits_) {
      if (each.i != last) {
        last = each.i;
        exit = asm_.here();
        count(each.ahead);
        asm_.mov(kFree, static_cast<std::uint32_t>(each.i));
        asm_.aim(asm_.jump(), each.waits ? to_wait : to_handler);
      }
      asm_.aim(each.jump, exit);
    }

    for (const Jump jump : give_ups_) asm_.aim_here(jump);
    put_back_registers();
    asm_.store8(Field::stop, static_cast<std::uint8_t>(Stop::kGaveUp));
    asm_.ret();
  }

  /// Cycles, as kTime has them.
  static constexpr std::int32_t time(std::int32_t cycles) {
    return cycles * (1 << TiaAccess::kCycleShift);
  }
  void count(std::int32_t cycles) {
    if (cycles != 0) asm_.alu(Width::k32, Alu::kAdd, kTime, time(cycles));
  }
  void count() { count(std::exchange(ahead_, 0)); }

  // ---- chains -----------------------------------------------------------------------------------
  void emit_from(std::size_t i) {
    waiting_.push_back(i);
    while (!waiting_.empty()) {
      i = waiting_.back();
      waiting_.pop_back();
      if (made_.entries[i].offset == kNowhere) emit_chain(i);
    }
  }

  void emit_chain(std::size_t first) {
    ahead_ = ahead_at(first);
    for (std::optional<std::size_t> next = first; next; next = emit(*next)) {
      meet(*next);
      std::uint32_t& offset = made_.entries[*next].offset;
      if (offset != kNowhere) return asm_.aim(asm_.jump(), offset);
      offset = static_cast<std::uint32_t>(asm_.here());
    }
  }

  [[nodiscard]] std::int32_t ahead_at(std::size_t i) const {
    return made_.entries[i].ahead / time(1);
  }

  /// Who comes to an address first decides how far ahead its code is; others count.
  void meet(std::size_t i) {
    if (!known_[i]) {
      known_[i] = true;
      made_.entries[i].ahead = time(ahead_);
    }
    count(ahead_ - ahead_at(i));
    ahead_ = ahead_at(i);
  }

  /// Emits instruction i. Returns where its code falls through to.
  std::optional<std::size_t> emit(std::size_t i) {
    const Instruction& it = at(i);
    const Form form = opcode_of(it).form;
    i_ = i;
    live_ = flags_.after(i);
    made_.instructions[i].handler = handler_of(Place::kTranslated, it.handler & 0xFFU);
    if (place_of(it) == Place::kUnknown) {
      leave();
      return std::nullopt;
    }
    const std::size_t next = i + static_cast<std::size_t>(length_of(form));
    if (Processor::timer_loop(&it)) {
      leave_to_wait();
      waiting_.push_back(next);
      return std::nullopt;
    }
    if (counts_down(&it)) return emit_countdown(&it);
    switch (form) {
      case Form::kRelative:
        return emit_branch(it, next);
      case Form::kAbsoluteJump:
        return emit_jump(it);
      case Form::kCall:
        waiting_.push_back(next);
        return emit_call(it);
      case Form::kReturn:
        emit_return(it);
        return std::nullopt;
      case Form::kIndirectJump:
        emit_indirect_jump(it);
        return std::nullopt;
      default:
        break;
    }
    if (!emit_plain(it)) {
      leave();
      waiting_.push_back(next);
      return std::nullopt;
    }
    return next;
  }

  // ---- jumps ------------------------------------------------------------------------------------
  std::optional<std::size_t> emit_branch(const Instruction& it, std::size_t next) {
    using enum Operation;
    const std::size_t target = i_ + static_cast<std::size_t>(it.jump);
    const int cycles = opcode_of(it).cycles;
    ahead_ += cycles + it.operand;
    meet(target);
    if (target <= i_) give_up_if_late();
    const auto taken_if = [&](If condition) { jumps_.emplace_back(asm_.jump(condition), target); };
    switch (opcode_of(it).operation) {
      case BCC:
      case BCS:
        asm_.test8(kCarry, kCarry);
        taken_if(opcode_of(it).operation == BCC ? If::kEqual : If::kNotEqual);
        break;
      case BNE:
      case BEQ:
        asm_.test8(kNz, kNz);
        taken_if(opcode_of(it).operation == BEQ ? If::kEqual : If::kNotEqual);
        break;
      case BPL:
      case BMI:
        asm_.test32(kNz, 0x8080);
        taken_if(opcode_of(it).operation == BPL ? If::kEqual : If::kNotEqual);
        break;
      default:
        asm_.alu(Width::k8, Alu::kCmp, Field::overflow, 0);
        taken_if(opcode_of(it).operation == BVC ? If::kEqual : If::kNotEqual);
        break;
    }
    ahead_ -= it.operand;
    waiting_.push_back(target);
    return next;
  }

  /// Whether this is the loop DEX or DEY, then BNE or BPL back to it.
  static bool counts_down(const Instruction* it) {
    using enum Operation;
    const Operation counts = opcode_of(it[0]).operation;
    if ((counts != DEX && counts != DEY) || it[1].jump != -1) return false;
    const Operation branch = opcode_of(it[1]).operation;
    return branch == BNE || branch == BPL;
  }

  /// All turns at once. The last one takes no branch.
  std::optional<std::size_t> emit_countdown(const Instruction* it) {
    const Reg counter = opcode_of(it[0]).operation == Operation::DEX ? kX : kY;
    const int turn = opcode_of(it[0]).cycles + opcode_of(it[1]).cycles;
    // kFree: the turns before the last.
    if (opcode_of(it[1]).operation == Operation::BNE) {
      asm_.dec8(counter);
      asm_.mov(kFree, counter);
      asm_.mov(counter, 0U);
    } else {
      asm_.mov(kFree, 0U);
      asm_.dec8(counter);
      const Jump done = asm_.skip(If::kNegative);
      asm_.lea(kFree, {counter, 1});
      asm_.mov(counter, 0xFFU);
      asm_.aim_here(done);
    }
    asm_.mul(Width::k32, kFree, kFree, time(turn + it[1].operand));
    asm_.alu(Width::k32, Alu::kAdd, kTime, kFree);
    ahead_ += turn;
    give_up_if_late();
    live_ = flags_.after(i_ + 1);
    keep_nz(counter);
    return i_ + 3;
  }

  std::optional<std::size_t> emit_jump(const Instruction& it) {
    if (!address::is_cart(it.operand)) {
      leave();
      return std::nullopt;
    }
    ahead_ += opcode_of(it).cycles;
    return jump(it.operand);
  }

  std::optional<std::size_t> emit_call(const Instruction& it) {
    const int last = (it.next - 1) & 0xFFF;
    asm_.load8(kFree, Field::sp);
    asm_.lea(kFree2, {kFree, -0x81});
    asm_.alu(Width::k32, Alu::kCmp, kFree2, 0xFF - 0x81);
    leave_if(If::kAbove);
    asm_.load32(kFree2, Field::page);
    asm_.alu(Width::k32, Alu::kOr, kFree2, last);
    asm_.store16(part_of(ram(kFree), -1), kFree2);
    asm_.alu(Width::k8, Alu::kSub, Field::sp, 2);
    ahead_ += opcode_of(it).cycles;
    return jump(it.operand);
  }

  void emit_return(const Instruction& it) {
    const PlainRange plain = code_.plain();
    asm_.load8(kFree2, Field::sp);
    asm_.alu(Width::k32, Alu::kSub, kFree2, 0x80);
    asm_.alu(Width::k32, Alu::kCmp, kFree2, 0xFD - 0x80);
    leave_if(If::kAbove);
    asm_.load16(kFree, part_of(ram(1), kFree2));
    leave_unless_cart(kFree);
    // The byte there and the next one are read.
    asm_.mov(kFree2, kFree);
    asm_.alu(Width::k32, Alu::kAnd, kFree2, 0xFFF);
    if (plain.first != 0) asm_.alu(Width::k32, Alu::kSub, kFree2, plain.first);
    asm_.alu(Width::k32, Alu::kCmp, kFree2, plain.end - 2 - plain.first);
    leave_if(If::kAbove);
    asm_.alu(Width::k8, Alu::kAdd, Field::sp, 2);
    asm_.alu(Width::k32, Alu::kAdd, kFree, 1);
    ahead_ += opcode_of(it).cycles;
    jump_to_address();
  }

  void emit_indirect_jump(const Instruction& it) {
    load_pointer(kFree, ram(it.operand));
    leave_unless_cart(kFree);
    ahead_ += opcode_of(it).cycles;
    jump_to_address();
  }

  void leave_unless_cart(Reg address) {
    asm_.test32(address, 0x1000);
    leave_if(If::kEqual);
  }

  /// Returns where to, if that is known. Only forward jumps in a bank, of which there are no more
  /// than it has bytes, do without a look at the clock.
  std::optional<std::size_t> jump(int pc) {
    const auto target = code_.index_of(i_, pc);
    if (!target) {
      asm_.mov(kFree, static_cast<std::uint32_t>(pc));
      jump_to_address();
      return std::nullopt;
    }
    if (*target <= i_ || *target / Code::kBankSize != i_ / Code::kBankSize) give_up_if_late();
    asm_.store32(Field::page, static_cast<std::uint32_t>(pc & 0xF000));
    return target;
  }

  /// Jumps to the address in the cartridge that is in kFree.
  void jump_to_address() {
    count();
    give_up_if_late();
    asm_.mov(kFree2, kFree);
    asm_.alu(Width::k32, Alu::kAnd, kFree2, 0xF000);
    asm_.store32(Field::page, kFree2);
    if (is_in_slices()) {
      find_slice(Field::entries);
    } else {
      asm_.alu(Width::k32, Alu::kAnd, kFree, 0xFFF);
      asm_.mov_address(kFree2, made_.entries.data() + i_ - (i_ % Code::kBankSize));
    }
    asm_.alu(Width::k32, Alu::kSub, kTime,
             Mem{kFree2, offsetof(Translation::Entry, ahead), kFree, 3});
    asm_.load32(kFree, {kFree2, offsetof(Translation::Entry, offset), kFree, 3});
    asm_.lea_code(kFree2, 0);
    asm_.lea(kFree, {kFree, 0, kFree2}, Width::k64);
    asm_.jump_to(kFree);
  }

  /// Whether an address of the cartridge may be in another bank than the instruction.
  [[nodiscard]] bool is_in_slices() const {
    return code_.scheme() == Scheme::kE0 || code_.scheme() == Scheme::kFE;
  }

  /// kFree2 = what an array has for the segment of the address in kFree, as Threaded::segment_of
  /// numbers them; kFree = the address in the segment.
  void find_slice(Mem array) {
    asm_.mov(kFree2, kFree);
    asm_.shift(Width::k32, Shift::kShr, kFree2, 10);
    asm_.alu(Width::k32, Alu::kAnd, kFree2, 3);
    if (code_.scheme() == Scheme::kFE) {  // Elsewhere both halves of the array are the same.
      asm_.bit_test(kFree, 13);
      const Jump clear = asm_.skip(If::kNotBelow);
      asm_.alu(Width::k32, Alu::kOr, kFree2, 4);
      asm_.aim_here(clear);
    }
    asm_.load64(kFree2, part_of(array, kFree2, 3));
    asm_.alu(Width::k32, Alu::kAnd, kFree, 0x3FF);
  }

  // ---- all other instructions -------------------------------------------------------------------
  /// Emits what falls through; false if it is left to the handler every time.
  bool emit_plain(const Instruction& it) {
    const auto [operation, form, cycles] = opcode_of(it);
    if (form == Form::kBreak || form == Form::kReturnInterrupt) return false;
    if (operation == Operation::ADC || operation == Operation::SBC) {
      asm_.alu(Width::k8, Alu::kCmp, Field::decimal, 0);
      leave_if(If::kNotEqual);
    }
    switch (form) {
      case Form::kImplied:
        emit_implied(operation);
        break;
      case Form::kAccumulator:
        emit_shift(operation, kA);
        keep_nz(kA);
        break;
      case Form::kImmediate:
        emit_read(operation, static_cast<std::int32_t>(it.operand));
        break;
      case Form::kPush:
        emit_push(operation, cycles);
        return true;
      case Form::kPull:
        if (operation == Operation::PLP) return false;
        emit_pull(cycles);
        break;
      default:
        return emit_access(it);
    }
    ahead_ += cycles;
    return true;
  }

  /// To memory or, as games do that draw missiles and ball with a few PHP, to their registers.
  void emit_push(Operation operation, int cycles) {
    const bool pushes_status = operation == Operation::PHP;
    const Reg value = pushes_status ? kFree : kA;
    count(ahead_ + cycles);
    ahead_ = -cycles;  // For who leaves.
    asm_.load8(kFree2, Field::sp);
    asm_.test8(kFree2, kFree2);
    const Jump to_tia = asm_.skip(If::kNotNegative);
    if (pushes_status) {
      load_status();
      asm_.load8(kFree2, Field::sp);
    }
    asm_.store8(ram(kFree2), value);
    const Jump stored = asm_.skip();

    asm_.aim_here(to_tia);
    asm_.alu(Width::k8, Alu::kCmp, kFree2, Tia::ENAM0);
    leave_if(If::kBelow);
    asm_.alu(Width::k8, Alu::kCmp, kFree2, Tia::ENABL);
    leave_if(If::kAbove);
    if (pushes_status) {  // Of which these registers have a bit for the zero flag.
      asm_.mov(kFree, 0U);
      asm_.test8(kNz, kNz);
      asm_.set(If::kEqual, kFree);
      asm_.shift(Width::k32, Shift::kShl, kFree, 1);
    }
    emit_keep(value);
    asm_.aim_here(stored);
    asm_.dec8(Field::sp);
    ahead_ = 0;
  }

  /// From memory or, as games do that move the stack back to where it was, from pins of the TIA.
  void emit_pull(int cycles) {
    constexpr int kOpcode = 0x68;  // On the bus at the first of two reads, which leaves six bits.
    asm_.load8(kFree2, Field::sp);
    asm_.lea(kFree, {kFree2, -0x80});
    asm_.alu(Width::k32, Alu::kCmp, kFree, 0xFE - 0x80);
    const Jump elsewhere = asm_.skip(If::kAbove);
    asm_.load8(kFree, part_of(ram(kFree2), 1));
    const Jump pulled = asm_.skip();
    asm_.aim_here(elsewhere);
    asm_.test8(kFree2, kFree2);
    leave_if(If::kNegative);
    asm_.alu(Width::k32, Alu::kAnd, kFree2, 15);
    asm_.alu(Width::k32, Alu::kSub, kFree2, 8);
    asm_.alu(Width::k32, Alu::kCmp, kFree2, 14 - 8);
    leave_if(If::kAbove);
    load_pin(part_of(high_from(9), kFree2, 2), kOpcode, cycles);
    asm_.aim_here(pulled);
    asm_.inc8(Field::sp);
    transfer(kA, kFree);
  }

  /// kFree = what a pin of the TIA reads as, from which there is a time: the byte `before` is on
  /// the bus.
  void load_pin(Mem high_from, int before, int cycles) {
    touch(TiaAccess::kNothing, cycles);
    asm_.alu(Width::k32, Alu::kCmp, kTouched, high_from);
    asm_.alu(Width::k32, Alu::kSbb, kFree, kFree);
    asm_.alu(Width::k32, Alu::kAnd, kFree, 0x80);
    asm_.alu(Width::k32, Alu::kXor, kFree, 0x80 | (before & 0x3F));
  }

  /// Whether nobody asks what the instruction has read.
  [[nodiscard]] bool reads_in_vain(Operation operation) const {
    using enum Operation;
    switch (operation) {
      case CMP:
      case CPX:
      case CPY:
        return (live_ & (LiveFlags::kNz | LiveFlags::kCarry)) == 0;
      case BIT:
        return (live_ & (LiveFlags::kNz | LiveFlags::kOverflow)) == 0;
      default:
        return false;
    }
  }

  /// Latches are left to the handler, but as time that passes.
  bool emit_read_tia(Operation operation, Form form, int address, int cycles) {
    const int pin = address & 15;
    const int before = form == Form::kZeroPage ? address : address >> 8;
    if (access_of(operation) == Access::kModify) {
      const int reg = address & 0x3F;
      if (pin < 8 || reg <= Tia::CXCLR) return false;
      load_pin(high_from(pin), before, cycles);
      emit_shift(operation, kFree);
      touch(reg, cycles);
      keep_nz(kFree);
    } else if (reads_in_vain(operation)) {
      touch(TiaAccess::kNothing, cycles);
    } else {
      if (pin < 8) return false;
      load_pin(high_from(pin), before, cycles);
      emit_read(operation, kFree);
    }
    return true;
  }

  /// A read of a pin of the TIA that an index chooses, from `address` on. Returns the jump behind
  /// it; elsewhere it falls through.
  std::optional<Jump> emit_read_of_pins(Operation operation, Reg index, int address, int before,
                                        int cycles) {
    const int pin = address & 15;
    if (access_of(operation) != Access::kRead || pin < 8) return std::nullopt;
    asm_.alu(Width::k8, Alu::kCmp, index, 15 - pin);
    const Jump elsewhere = asm_.jump(If::kAbove);
    load_pin(part_of(high_from(pin), index, 2), before, cycles);
    emit_read(operation, kFree);
    const Jump read = asm_.jump();
    asm_.aim_here(elsewhere);
    return read;
  }

  /// kFree = P, as PHP pushes it.
  void load_status() {
    asm_.load8(kFree, Field::overflow);
    asm_.shift(Width::k32, Shift::kShl, kFree, 3);
    asm_.alu(Width::k8, Alu::kOr, kFree, Field::decimal);
    asm_.shift(Width::k32, Shift::kShl, kFree, 1);
    asm_.alu(Width::k8, Alu::kOr, kFree, Field::interrupt_disable);
    asm_.shift(Width::k32, Shift::kShl, kFree, 2);
    asm_.alu(Width::k8, Alu::kOr, kFree, kCarry);
    asm_.alu(Width::k32, Alu::kOr, kFree, flags::kUnused);
    asm_.test8(kNz, kNz);
    asm_.set(If::kEqual, kFree2);
    asm_.load8(kFree2, kFree2);
    asm_.lea(kFree, {kFree, 0, kFree2, 1});
    asm_.test32(kNz, 0x8080);
    asm_.set(If::kNotEqual, kFree2);
    asm_.shift(Width::k32, Shift::kShl, kFree2, 7);
    asm_.alu(Width::k32, Alu::kOr, kFree, kFree2);
  }

  bool emit_access(const Instruction& it) {
    const auto [operation, form, cycles] = opcode_of(it);
    const Access access = access_of(operation);
    const bool reads = access == Access::kRead;
    switch (place_of(it)) {
      case Place::kRam:
        use(operation, ram(it.operand));
        break;
      case Place::kRom:
        emit_read_rom(operation, it.operand);
        break;
      case Place::kTable:
        emit_read_table(operation, form, it.operand);
        break;
      case Place::kPort:
        if (access == Access::kWrite) {
          emit_write_port(stored_by(operation), it.operand, cycles);
        } else if (!reads || !emit_read_port(operation, it.operand, cycles)) {
          return false;
        }
        break;
      case Place::kTia:
      case Place::kKept:
      case Place::kWait:
      case Place::kGrp0:
      case Place::kGrp1:
        if (access == Access::kWrite) return emit_write_tia(operation, it.operand & 0x3F, cycles);
        if (!emit_read_tia(operation, form, it.operand, cycles)) return false;
        break;
      case Place::kCart:
        return false;
      default:
        if (!emit_indexed(operation, form, it.operand, cycles)) return false;
        break;
    }
    ahead_ += cycles;
    return true;
  }

  void emit_read_rom(Operation operation, int address) {
    if (const auto i = code_.index_of(i_, address)) {
      emit_read(operation, std::int32_t{*code_.bytes(*i)});
    } else {
      asm_.load64(kFree, slice(address));
      emit_read(operation, Mem{kFree, address & 0x3FF});
    }
  }

  void emit_read_table(Operation operation, Form form, int base) {
    const Reg index = form == Form::kAbsoluteX ? kX : kY;
    if (code_.scheme() == Scheme::kE0 && (base & 0x3FF) + 0xFF >= Code::kSliceSize) {
      asm_.lea(kFree2, {index, base});
      return emit_read(operation, find_in_cart(index));
    }
    if ((base & 0xFF) != 0) {
      asm_.lea(kFree, {index, base & 0xFF});
      asm_.alu(Width::k32, Alu::kAnd, kFree, 0x100);
      asm_.shift(Width::k32, Shift::kShl, kFree, TiaAccess::kCycleShift - 8);
      asm_.alu(Width::k32, Alu::kAdd, kTime, kFree);
    }
    if (const auto begin = code_.index_of(i_, base)) {
      asm_.mov_address(kFree, code_.bytes(*begin));
      emit_read(operation, Mem{kFree, 0, index});
    } else {
      asm_.load64(kFree, slice(base));
      emit_read(operation, Mem{kFree, base & 0x3FF, index});
    }
  }

  void emit_write_port(Reg value, int address, int cycles) {
    if ((address & 7) == 1) {
      asm_.store8(Field::swacnt, value);
    } else if (Riot::sets_timer(address)) {
      asm_.store8(Field::timer, value);
      asm_.store8(Field::shift, Riot::kShifts[static_cast<std::size_t>(address & 3)]);
      asm_.store8(Field::expired_read, 0);
      load_cycle(ahead_ + cycles);
      asm_.store32(Field::written_at, kFree);
    }
  }

  /// kFree = the number of a cycle from kTime on.
  void load_cycle(std::int32_t from) {
    asm_.lea(kFree, {kTime, time(from)});
    asm_.shift(Width::k32, Shift::kShr, kFree, TiaAccess::kCycleShift);
  }

  /// A timer that has run out is left to the handler.
  void emit_read_timer(Operation operation, int cycles) {
    load_cycle(ahead_ + cycles - 1);
    asm_.alu(Width::k32, Alu::kSub, kFree, Field::written_at);
    static_assert(kA == Reg::kCx);
    asm_.mov(kFree2, kA);
    asm_.load8(kA, Field::shift);
    asm_.shift32(Shift::kShr, kFree);
    asm_.mov(kA, kFree2);
    asm_.load8(kFree2, Field::timer);
    asm_.alu(Width::k32, Alu::kSub, kFree2, kFree);
    leave_if(If::kNotAbove);
    asm_.lea(kFree, {kFree2, -1});
    emit_read(operation, kFree);
  }

  bool emit_read_port(Operation operation, int address, int cycles) {
    switch (address & 7) {
      case 0:
        emit_read(operation, Field::swcha);
        return true;
      case 1:
        emit_read(operation, Field::swacnt);
        return true;
      case 2:
        emit_read(operation, Field::swchb);
        return true;
      case 3:
        emit_read(operation, 0);
        return true;
      case 4:
      case 6:
        emit_read_timer(operation, cycles);
        return true;
      default:  // INSTAT
        return false;
    }
  }

  /// An access to memory or, if it reads, to the cartridge: where is known only now.
  bool emit_indexed(Operation operation, Form form, int operand, int cycles) {
    const bool reads = access_of(operation) == Access::kRead;
    switch (form) {
      case Form::kZeroPageX:
      case Form::kZeroPageY: {
        const Reg index = form == Form::kZeroPageX ? kX : kY;
        const std::optional<Jump> done =
            operand < 0x80 ? emit_access_to_tia(operation, index, operand, operand, cycles)
                           : std::nullopt;
        asm_.lea(kFree2, {index, operand});
        asm_.load8(kFree2, kFree2);
        asm_.test8(kFree2, kFree2);
        if (reads_in_vain(operation)) {
          const Jump memory = asm_.skip(If::kNegative);
          touch(TiaAccess::kNothing, cycles);
          asm_.aim_here(memory);
        } else {
          leave_if(If::kNotNegative);
          use(operation, ram(kFree2));
        }
        if (done) asm_.aim_here(*done);
        return true;
      }
      case Form::kAbsoluteX:
      case Form::kAbsoluteY: {
        const Reg index = form == Form::kAbsoluteX ? kX : kY;
        if (address::is_cart(operand) && !reads) return false;
        const std::optional<Jump> done =
            address::is_tia(operand)
                ? emit_access_to_tia(operation, index, operand, operand >> 8, cycles)
                : std::nullopt;
        asm_.lea(kFree2, {index, operand});
        if (address::is_cart(operand)) {
          leave_unless_cart(kFree2);
          emit_read(operation, find_in_cart(index));
        } else {
          use_ram(operation, index);
        }
        if (done) asm_.aim_here(*done);
        return true;
      }
      case Form::kIndirectX:
        asm_.lea(kFree2, {kX, operand});
        asm_.load8(kFree2, kFree2);
        asm_.alu(Width::k32, Alu::kSub, kFree2, 0x80);
        asm_.alu(Width::k32, Alu::kCmp, kFree2, 0xFE - 0x80);
        leave_if(If::kAbove);
        load_pointer(kFree, part_of(ram(0), kFree2));
        asm_.mov(kFree2, kFree);
        emit_pointed(operation, std::nullopt);
        return true;
      default:  // kIndirectY
        load_pointer(kFree2, ram(operand));
        asm_.alu(Width::k32, Alu::kAdd, kFree2, kY);
        emit_pointed(operation, kY);
        return true;
    }
  }

  /// An access to a register or a pin of the TIA that an index chooses, from `address` on, if that
  /// is done here. Returns the jump behind it; elsewhere it falls through.
  std::optional<Jump> emit_access_to_tia(Operation operation, Reg index, int address, int before,
                                         int cycles) {
    if (access_of(operation) == Access::kWrite) {
      const int reg = address & 0x3F;
      if (kind_of(reg) == RegisterKind::kOther) return std::nullopt;
      return emit_store_to_kind(stored_by(operation), index, reg, cycles);
    }
    return emit_read_of_pins(operation, index, address, before, cycles);
  }

  /// A byte at a time, as programs store them: a load over two stores that are on their way waits
  /// for both. `to` is not part of `at`; the other free register may be.
  void load_pointer(Reg to, Mem at) {
    const Reg other = to == kFree ? kFree2 : kFree;
    asm_.load8(to, part_of(at, 1));
    asm_.load8(other, at);
    asm_.shift(Width::k32, Shift::kShl, to, 8);
    asm_.alu(Width::k32, Alu::kOr, to, other);
  }

  /// kFree2: the address, to which the index was added.
  void emit_pointed(Operation operation, std::optional<Reg> index) {
    if (access_of(operation) != Access::kRead) return use_ram(operation, index);
    asm_.test32(kFree2, 0x1000);
    const Jump elsewhere = asm_.skip(If::kEqual);
    const Mem byte = find_in_cart(index);
    const Jump found = asm_.skip();
    asm_.aim_here(elsewhere);
    leave_unless_ram(kFree2);
    count_crossing(index);
    asm_.load8(byte.index, kFree2);
    asm_.lea(byte.base, part_of(Field::ram, -0x80), Width::k64);
    asm_.aim_here(found);
    emit_read(operation, byte);
  }

  void use_ram(Operation operation, std::optional<Reg> index) {
    leave_unless_ram(kFree2);
    if (access_of(operation) == Access::kRead) count_crossing(index);
    asm_.load8(kFree2, kFree2);
    use(operation, ram(kFree2));
  }

  /// kFree2, a sum with the index, is an address in the cartridge. Returns where its byte is.
  Mem find_in_cart(std::optional<Reg> index) {
    const PlainRange plain = code_.plain();
    if (plain.first != 0 || plain.end != Code::kBankSize) {
      asm_.mov(kFree, kFree2);
      asm_.alu(Width::k32, Alu::kAnd, kFree, 0xFFF);
      asm_.alu(Width::k32, Alu::kSub, kFree, plain.first);
      asm_.alu(Width::k32, Alu::kCmp, kFree, plain.end - plain.first);
      leave_if(If::kNotBelow);
    }
    count_crossing(index);
    if (is_in_slices()) {
      asm_.mov(kFree, kFree2);
      find_slice(Field::bytes);
      return {kFree2, 0, kFree};
    }
    asm_.alu(Width::k32, Alu::kAnd, kFree2, 0xFFF);
    asm_.mov_address(kFree, code_.bytes(i_ - (i_ % Code::kBankSize)));
    return {kFree, 0, kFree2};
  }

  void leave_unless_ram(Reg address) {
    asm_.mov(kFree, address);
    asm_.alu(Width::k32, Alu::kAnd, kFree, 0x1280);
    asm_.alu(Width::k32, Alu::kCmp, kFree, 0x0080);
    leave_if(If::kNotEqual);
  }

  /// kFree2 is a sum with the index: a cycle more if its low byte has wrapped. Uses kFree.
  void count_crossing(std::optional<Reg> index) {
    if (!index) return;
    asm_.alu(Width::k8, Alu::kCmp, kFree2, *index);
    asm_.alu(Width::k32, Alu::kSbb, kFree, kFree);
    asm_.alu(Width::k32, Alu::kAnd, kFree, time(1));
    asm_.alu(Width::k32, Alu::kAdd, kTime, kFree);
  }

  // ---- operations -------------------------------------------------------------------------------
  void keep_nz(Reg from) {
    if ((live_ & LiveFlags::kNz) != 0) asm_.mov(kNz, from);
  }
  void keep_carry(If condition) {
    if ((live_ & LiveFlags::kCarry) != 0) asm_.set(condition, kCarry);
  }

  void emit_implied(Operation operation) {
    using enum Operation;
    switch (operation) {
      case CLC:
      case SEC:
        return asm_.mov(kCarry, operation == SEC ? 1U : 0U);
      case CLD:
      case SED:
        return asm_.store8(Field::decimal, operation == SED ? 1 : 0);
      case CLI:
      case SEI:
        return asm_.store8(Field::interrupt_disable, operation == SEI ? 1 : 0);
      case CLV:
        return asm_.store8(Field::overflow, 0);
      case DEX:
      case DEY:
        asm_.dec8(operation == DEX ? kX : kY);
        return keep_nz(operation == DEX ? kX : kY);
      case INX:
      case INY:
        asm_.inc8(operation == INX ? kX : kY);
        return keep_nz(operation == INX ? kX : kY);
      case TAX:
        return transfer(kX, kA);
      case TAY:
        return transfer(kY, kA);
      case TXA:
        return transfer(kA, kX);
      case TYA:
        return transfer(kA, kY);
      case TSX:
        return load(kX, Field::sp);
      case TXS:
        return asm_.store8(Field::sp, kX);
      default:  // NOP
        return;
    }
  }

  void transfer(Reg to, Reg from) {
    asm_.mov(to, from);
    keep_nz(to);
  }
  void load(Reg to, Mem from) {
    asm_.load8(to, from);
    keep_nz(to);
  }
  void load(Reg to, Reg from) { transfer(to, from); }
  void load(Reg to, std::int32_t value) {
    asm_.mov(to, static_cast<std::uint32_t>(value));
    keep_nz(to);
  }

  void use(Operation operation, Mem at) {
    switch (access_of(operation)) {
      case Access::kRead:
        return emit_read(operation, at);
      case Access::kWrite:
        return asm_.store8(at, stored_by(operation));
      case Access::kModify:
        asm_.load8(kFree, at);
        emit_shift(operation, kFree);
        asm_.store8(at, kFree);
        return keep_nz(kFree);
    }
  }

  static Reg stored_by(Operation operation) {
    return operation == Operation::STA ? kA : operation == Operation::STX ? kX : kY;
  }

  /// `From`: Mem, kFree, or a byte.
  template <typename From>
  void emit_read(Operation operation, From from) {
    using enum Operation;
    switch (operation) {
      case LDA:
        return load(kA, from);
      case LDX:
        return load(kX, from);
      case LDY:
        return load(kY, from);
      case LAX:
        load(kA, from);
        return asm_.mov(kX, kA);
      case AND:
        asm_.alu(Width::k8, Alu::kAnd, kA, from);
        return keep_nz(kA);
      case EOR:
        asm_.alu(Width::k8, Alu::kXor, kA, from);
        return keep_nz(kA);
      case ORA:
        asm_.alu(Width::k8, Alu::kOr, kA, from);
        return keep_nz(kA);
      case CMP:
        return compare(kA, from);
      case CPX:
        return compare(kX, from);
      case CPY:
        return compare(kY, from);
      case ADC:
      case SBC:
        return add(operation, from);
      case BIT:
        return test_bits(from);
      default:  // NOP
        return;
    }
  }

  template <typename From>
  void compare(Reg reg, From from) {
    if ((live_ & LiveFlags::kNz) != 0) {
      asm_.mov(kNz, reg);
      asm_.alu(Width::k8, Alu::kSub, kNz, from);
    } else {
      asm_.alu(Width::k8, Alu::kCmp, reg, from);
    }
    keep_carry(If::kNotBelow);
  }

  /// The borrow of x86 is the carry of the 6507, inverted.
  template <typename From>
  void add(Operation operation, From from) {
    const bool subtracts = operation == Operation::SBC;
    if (subtracts) {
      asm_.alu(Width::k8, Alu::kCmp, kCarry, 1);
    } else {
      asm_.bit_test(kCarry, 0);
    }
    asm_.alu(Width::k8, subtracts ? Alu::kSbb : Alu::kAdc, kA, from);
    keep_carry(subtracts ? If::kNotBelow : If::kBelow);
    if ((live_ & LiveFlags::kOverflow) != 0) asm_.set(If::kOverflow, Field::overflow);
    keep_nz(kA);
  }

  template <typename From>
  void test_bits(From from) {
    if constexpr (std::is_same_v<From, Mem>) {
      asm_.load8(kFree, from);
    } else if constexpr (!std::is_same_v<From, Reg>) {
      asm_.mov(kFree, static_cast<std::uint32_t>(from));
    }
    if ((live_ & LiveFlags::kOverflow) != 0) {
      asm_.test32(kFree, flags::kOverflow);
      asm_.set(If::kNotEqual, Field::overflow);
    }
    asm_.mov(kNz, kFree);
    asm_.alu(Width::k32, Alu::kAnd, kNz, flags::kNegative);
    asm_.shift(Width::k32, Shift::kShl, kNz, 8);
    asm_.alu(Width::k32, Alu::kAnd, kFree, kA);
    asm_.alu(Width::k32, Alu::kOr, kNz, kFree);
  }

  /// What shifts and counts do to a byte.
  void emit_shift(Operation operation, Reg at) {
    using enum Operation;
    switch (operation) {
      case ASL:
        asm_.shift8(Shift::kShl, at);
        return keep_carry(If::kBelow);
      case LSR:
        asm_.shift8(Shift::kShr, at);
        return keep_carry(If::kBelow);
      case ROL:
      case ROR:
        asm_.bit_test(kCarry, 0);
        asm_.shift8(operation == ROL ? Shift::kRcl : Shift::kRcr, at);
        return keep_carry(If::kBelow);
      case INC:
        return asm_.inc8(at);
      default:  // DEC
        return asm_.dec8(at);
    }
  }

  // ---- writes to the TIA ------------------------------------------------------------------------
  /// As Threaded::store_tia; a write that may end the frame is left to the handler.
  bool emit_write_tia(Operation operation, int reg, int cycles) {
    const Reg value = stored_by(operation);
    if (reg == Tia::VSYNC || reg == Tia::VBLANK) return false;
    ahead_ += cycles;
    switch (reg) {
      case Tia::WSYNC:
        emit_wait();
        return true;
      case Tia::HMCLR:
        emit_clear_motions();
        return true;
      case Tia::GRP0:
      case Tia::GRP1:
        emit_graphics(reg, value);
        return true;
      default:
        break;
    }
    touch(reg);
    if (acts_always(reg)) {
      emit_act(reg, value);
    } else if (is_kept(reg) || reg == Tia::ENABL) {
      const Reg next = emit_meant(reg, value);
      asm_.alu(Width::k16, Alu::kCmp, kept(reg), next);
      const Jump same = asm_.skip(If::kEqual);
      asm_.store16(kept(reg), next);
      if (reg == Tia::ENABL) asm_.store8(Field::differs0, 1);
      record(reg, next);
      asm_.aim_here(same);
    }
    return true;
  }

  void emit_act(int reg, Reg value) {
    if (reg == Tia::RESP0 || reg == Tia::RESP1) {
      asm_.store16(kept(reg - Tia::RESP0 + Tia::NUSIZ0), Processor::kUnkept);
    }
    if (Tia::kBits[static_cast<std::size_t>(reg)] == 0) {
      record(reg);
    } else {
      record(reg, emit_meant(reg, value));
    }
    if (reg == Tia::CXCLR) asm_.store64(Field::cleared, kLog);
  }

  /// The bits of a value that mean something; perhaps in kFree2.
  Reg emit_meant(int reg, Reg value) {
    const std::uint8_t bits = Tia::kBits[static_cast<std::size_t>(reg)];
    if (bits == 0xFF) return value;
    asm_.mov(kFree2, value);
    asm_.alu(Width::k32, Alu::kAnd, kFree2, bits);
    return kFree2;
  }
  /// The same in kFree, for the register in kFree2.
  void emit_meant_by_chosen(Reg value) {
    if (value != kFree) asm_.mov(kFree, value);
    asm_.alu(Width::k8, Alu::kAnd, kFree, part_of(Field::bits, kFree2));
  }

  /// Registers of the TIA that are written to in the same way.
  enum class RegisterKind : std::uint8_t { kOther, kKept, kGraphics, kAlways };
  static RegisterKind kind_of(int reg) {
    if (reg == Tia::GRP0 || reg == Tia::GRP1) return RegisterKind::kGraphics;
    if (is_kept(reg) || reg == Tia::ENABL) return RegisterKind::kKept;
    return acts_always(reg) && reg != Tia::CXCLR ? RegisterKind::kAlways : RegisterKind::kOther;
  }

  /// A store to register `first` + index, if that one is of the same kind: games count through a
  /// few. Returns the jump behind it; elsewhere it falls through.
  Jump emit_store_to_kind(Reg value, Reg index, int first, int cycles) {
    int last = first;
    while (kind_of(last + 1) == kind_of(first)) ++last;
    count(std::exchange(ahead_, 0) + cycles);
    asm_.alu(Width::k8, Alu::kCmp, index, last - first);
    const Jump elsewhere = asm_.jump(If::kAbove);
    switch (kind_of(first)) {
      case RegisterKind::kGraphics:
        emit_graphics_of(value, index, first);
        break;
      case RegisterKind::kKept:
        asm_.lea(kFree2, {index, first});
        emit_keep(value);
        break;
      default:
        asm_.lea(kFree2, {index, first});
        for (const int nusiz : {Tia::NUSIZ0, Tia::NUSIZ1}) {  // It may be a RESPx.
          asm_.store16(kept(nusiz), Processor::kUnkept);
        }
        emit_meant_by_chosen(value);
        touch_chosen();
        record_chosen();
        break;
    }
    const Jump stored = asm_.jump();
    asm_.aim_here(elsewhere);
    ahead_ = -cycles;  // For who leaves, and for the caller.
    return stored;
  }

  /// GRP0 + index; `first` is it or GRP1, and then the index is 0.
  void emit_graphics_of(Reg value, Reg index, int first) {
    std::optional<Jump> stored;
    if (first == Tia::GRP0) {
      asm_.test8(index, index);
      const Jump one = asm_.jump(If::kNotEqual);
      emit_graphics(Tia::GRP0, value);
      stored = asm_.jump();
      asm_.aim_here(one);
    }
    emit_graphics(Tia::GRP1, value);
    if (stored) asm_.aim_here(*stored);
  }

  /// A store to the kept register in kFree2, at kTime. The value may be in kFree.
  void emit_keep(Reg value) {
    const Mem old = part_of(Field::kept, kFree2, 1);
    emit_meant_by_chosen(value);
    touch_chosen();
    asm_.alu(Width::k16, Alu::kCmp, old, kFree);
    const Jump same = asm_.skip(If::kEqual);
    asm_.store16(old, kFree);
    asm_.alu(Width::k8, Alu::kCmp, kFree2, Tia::ENABL);
    const Jump no_ball = asm_.skip(If::kNotEqual);
    asm_.store8(Field::differs0, 1);
    asm_.aim_here(no_ball);
    record_chosen();
    asm_.aim_here(same);
  }

  void emit_clear_motions() {
    touch(Tia::HMCLR);
    std::array<Jump, 5> some{};
    for (int hm = 0; hm < 5; ++hm) {  // One by one: see load_pointer.
      asm_.alu(Width::k16, Alu::kCmp, kept(Tia::HMP0 + hm), 0);
      some[static_cast<std::size_t>(hm)] = asm_.skip(If::kNotEqual);
    }
    const Jump none = asm_.skip();
    for (const Jump jump : some) asm_.aim_here(jump);
    for (int hm = Tia::HMP0; hm <= Tia::HMBL; ++hm) asm_.store16(kept(hm), std::uint16_t{0});
    record(Tia::HMCLR);
    asm_.aim_here(none);
  }

  void emit_graphics(int reg, Reg value) {
    // The other player's register would copy this one; and this one the other.
    const auto [mine, theirs] = reg == Tia::GRP0 ? std::pair(Field::differs0, Field::differs1)
                                                 : std::pair(Field::differs1, Field::differs0);
    touch(reg);
    asm_.alu(Width::k16, Alu::kCmp, kept(reg), value);
    const Jump other = asm_.skip(If::kNotEqual);
    asm_.alu(Width::k8, Alu::kCmp, theirs, 0);
    const Jump copies = asm_.skip(If::kNotEqual);
    const Jump done = asm_.skip();
    asm_.aim_here(other);
    asm_.store8(mine, 1);
    asm_.store16(kept(reg), value);
    asm_.aim_here(copies);
    asm_.store8(theirs, 0);
    record(reg, value);
    asm_.aim_here(done);
  }

  /// To the end of the line: in most cases of the one after the last WSYNC.
  void emit_wait() {
    constexpr std::int32_t kLine = time(Tia::kLineCycles);
    touch(Tia::WSYNC);
    asm_.lea(kFree, {kTime, time(ahead_)});
    const std::size_t again = asm_.here();
    asm_.mov(kTime, kLineEnd);
    asm_.alu(Width::k32, Alu::kAdd, kLineEnd, kLine);
    asm_.alu(Width::k32, Alu::kCmp, kFree, kTime);
    asm_.jump_back(If::kGreater, again);
    ahead_ = 0;
    give_up_if_late();  // A bank of nothing else would take longer than there are bits for.
  }

  static std::int32_t access_bits(int reg, std::uint8_t value) {
    return static_cast<std::int32_t>(TiaAccess::make(0, reg, value).bits);
  }

  void touch(int reg, int cycles = 0) {
    asm_.lea(kTouched, {kTime, time(ahead_ + cycles) +
                                   access_bits(TiaAccess::kRead, static_cast<std::uint8_t>(reg))});
  }
  void record(int reg, Reg value) {
    asm_.lea(kFree, {kTime, time(ahead_) + access_bits(reg, 0), value});
    append_access();
  }
  /// Where no value means anything.
  void record(int reg) {
    asm_.lea(kFree, {kTime, time(ahead_) + access_bits(reg, 0)});
    append_access();
  }
  /// The register in kFree2, at kTime.
  void touch_chosen() { asm_.lea(kTouched, {kTime, access_bits(TiaAccess::kRead, 0), kFree2}); }
  /// The value in kFree to the register in kFree2, at kTime.
  void record_chosen() {
    asm_.shift(Width::k32, Shift::kShl, kFree2, 8);
    asm_.alu(Width::k32, Alu::kAdd, kFree, kFree2);
    asm_.alu(Width::k32, Alu::kAdd, kFree, kTime);
    append_access();
  }
  void append_access() {
    asm_.store32({kLog}, kFree);
    asm_.alu(Width::k64, Alu::kAdd, kLog, std::int32_t{sizeof(TiaAccess)});
  }

  struct Exit {
    Jump jump;
    std::size_t i;
    std::int32_t ahead;
    bool waits = false;  ///< To Threaded::wait_for_timer.
  };

  const Code& code_;
  const LiveFlags flags_;
  std::vector<bool> known_;  ///< How far ahead the code of an instruction is.
  Translation made_;
  x86_64::Assembler asm_;
  std::vector<std::size_t> waiting_;  ///< Where chains may begin.
  std::vector<std::pair<Jump, std::size_t>> jumps_;
  std::vector<Exit> exits_;  ///< In the order of instructions.
  std::vector<Jump> give_ups_;

  // Of the instruction that is being emitted.
  std::size_t i_ = 0;
  std::int32_t ahead_ = 0;                 ///< Cycles, of Translation::Entry::ahead.
  LiveFlags::Set live_ = LiveFlags::kAll;  ///< Flags that may be read after it.
};

/// Machine code of all banks; null where there can be none.
template <typename Host>
std::unique_ptr<const Translation> translate(const Code& code) {
  return Translator<Host>(code).translate();
}

}  // namespace fastrl::envs::atari

#else

namespace fastrl::envs::atari {

template <typename Host>
std::unique_ptr<const Translation> translate(const Code& /*code*/) {
  return nullptr;
}

}  // namespace fastrl::envs::atari

#endif
