// The translator for tests/oracle/test_translation.py: machine code against the interpreter, one
// instruction at a time, in cartridges of every scheme and any state of the processor.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "envs/atari/code.h"
#include "envs/atari/threaded.h"
#include "envs/atari/translate.h"

namespace py = pybind11;
using namespace fastrl::envs::atari;

namespace {

struct Source {
  std::mt19937 bits;

  int below(int n) { return static_cast<int>(bits() % static_cast<unsigned>(n)); }
  bool chance(int percent) { return below(100) < percent; }
  std::uint8_t byte() { return static_cast<std::uint8_t>(bits()); }
  int one_of(std::initializer_list<int> all) {
    return all.begin()[below(static_cast<int>(all.size()))];
  }
};

/// Answers reads of latches with something that depends on all that is asked.
struct Answers {
  std::uint8_t read_latches(Threaded<Answers>& /*processor*/, int pin, std::uint32_t now) noexcept {
    return static_cast<std::uint8_t>(((static_cast<std::uint32_t>(pin) * 7) + (now * 31)) & 0xC0);
  }
};

using Processor = Threaded<Answers>;

constexpr int kSlot = 32;  ///< Bytes of a bank for each opcode: half of them have one.

/// Somewhere in the address space, and often where it matters.
int address(Source& source) {
  switch (source.below(6)) {
    case 0:
      return source.below(0x100);
    case 1:
      return source.below(0x40);
    case 2:
      return 0x280 + source.below(0x20);
    case 3:
      return 0x1000 + source.below(0x1000) + (source.below(8) << 13);
    case 4:
      return 0xFF00 + source.below(0x100);
    default:
      return source.below(0x10000);
  }
}

/// An instruction that sets flags, so that those of the one before are dead.
std::array<std::uint8_t, 2> flag_setter(Source& source) {
  constexpr int kCld = 0xD8, kClv = 0xB8, kClc = 0x18;
  const int opcode = source.one_of({0xA9, 0xC9, 0xC9, 0xC9, 0x69, 0xE9, 0x24, kCld, kClv, kClc});
  const bool implied = opcode == kCld || opcode == kClv || opcode == kClc;
  return {static_cast<std::uint8_t>(opcode),
          implied ? std::uint8_t{0xEA} : static_cast<std::uint8_t>(0x80 | source.below(0x80))};
}

/// A loop that the translator skips: DEX or DEY, or a read of the timer, and a branch back to it.
std::vector<std::uint8_t> loop(Source& source) {
  const auto any = [&](std::initializer_list<int> all) {
    return static_cast<std::uint8_t>(source.one_of(all));
  };
  const std::uint8_t branch = any({0x10, 0x30, 0xD0, 0xF0});
  if (source.chance(50)) return {any({0xCA, 0x88, 0xE8, 0xC8}), branch, 0xFD};
  return {any({0xAD, 0xAE, 0xAC, 0x2C}), any({0x84, 0x85}), 0x02, branch, 0xFB};
}

/// A bank with half of all opcodes, perhaps between two that set flags, before a few writes to the
/// TIA. Wherever they lead is STA VSYNC, which ends the frame at once or when it is late.
void fill(std::span<std::uint8_t> bank, Source& source) {
  constexpr std::array<std::uint8_t, 2> kEnd{0x85, 0x00};
  for (std::size_t i = 0; i < bank.size(); ++i) bank[i] = kEnd[i % 2];
  std::array<std::uint8_t, 256> opcodes{};
  std::iota(opcodes.begin(), opcodes.end(), std::uint8_t{0});
  std::ranges::shuffle(opcodes, source.bits);
  for (std::size_t slot = 0; slot < bank.size() / kSlot; ++slot) {
    auto at = bank.begin() + static_cast<std::ptrdiff_t>(slot * kSlot) + source.below(2);
    const auto append = [&at](std::span<const std::uint8_t> code) {
      at = std::ranges::copy(code, at).out;
    };
    const std::uint8_t opcode = opcodes[slot % opcodes.size()];
    const Form form = kOpcodes[opcode].form;
    const bool jumps = form == Form::kAbsoluteJump || form == Form::kCall;
    const int to_end = 0xF000 | (source.below(0x1000) & ~1);
    const int hotspot = source.chance(50) ? 0xFFF6 + source.below(4) : 0xFFE0 + source.below(24);
    const int operand = jumps && source.chance(80)                     ? to_end
                        : form == Form::kAbsolute && source.chance(40) ? hotspot
                                                                       : address(source);
    const std::array<std::uint8_t, 3> code{opcode, static_cast<std::uint8_t>(operand),
                                           static_cast<std::uint8_t>(operand >> 8)};
    if (source.chance(50)) append(flag_setter(source));
    if (source.chance(10)) {
      append(loop(source));
    } else {
      append(std::span(code).first(static_cast<std::size_t>(length_of(form))));
    }
    if (source.chance(50)) append(flag_setter(source));
    for (int i = source.below(4); i > 0; --i) {
      append(std::array{static_cast<std::uint8_t>(source.one_of({0x84, 0x85, 0x86})),
                        static_cast<std::uint8_t>(source.one_of(
                            {Tia::GRP0, Tia::GRP0, Tia::GRP1, Tia::GRP1, Tia::ENABL, Tia::PF0,
                             Tia::HMP0, Tia::HMCLR, Tia::RESP0, Tia::VBLANK, Tia::WSYNC}))});
    }
    constexpr std::uint8_t kPha = 0x48;
    if (source.chance(30)) append(std::array{kPha, kPha});
    append(kEnd);
  }
}

struct Cartridge {
  std::vector<std::uint8_t> image;
  Code code;
  std::unique_ptr<const Translation> translation;
  Properties properties;

  Cartridge(Scheme scheme, Source& source)
      : image(made(scheme, source)),
        code(image, scheme),
        translation(translate<Answers>(code)),
        properties{.scheme = scheme} {}

  static std::vector<std::uint8_t> made(Scheme scheme, Source& source) {
    std::vector<std::uint8_t> image(size_of(scheme));
    const std::size_t bank = scheme == Scheme::k2K ? 2048 : 4096;
    for (std::size_t at = 0; at < image.size(); at += bank) {
      fill(std::span(image).subspan(at, std::min(bank, image.size() - at)), source);
    }
    return image;
  }

  [[nodiscard]] Rom rom(bool translated) const {
    return {image, properties, &code, translated ? translation.get() : nullptr};
  }
};

/// Any state, and often one of which an edge is near.
void scramble(Processor& p, Scheme scheme, Source& source) {
  for (std::uint8_t& byte : p.riot.ram) byte = source.byte();
  p.riot.swacnt = source.byte();
  p.riot.timer = source.byte();
  p.riot.shift = static_cast<std::uint8_t>(source.one_of({0, 3, 6, 10}));
  p.riot.expired_read = source.chance(30);
  p.riot.expired_at = static_cast<std::uint32_t>(source.below(1000));
  p.cycle = static_cast<std::uint32_t>(source.one_of({0, 5, 1000, 19000}) + source.below(80));
  p.riot.written_at = p.cycle - static_cast<std::uint32_t>(source.below(3000));
  p.swcha = source.byte();
  p.swchb = source.byte();
  p.bus = source.byte();
  p.frame_start = -source.below(Tia::kLineClocks);
  // Machine code gives up if it writes later than this: then there is nothing to compare.
  p.last_cycle =
      p.cycle + static_cast<std::uint32_t>(source.one_of({0, 24, 120}) + source.below(24));
  p.vsync_end = clock_of(p.cycle) + (source.chance(50) ? 0 : source.below(100));
  p.vblank = source.byte();
  p.differs0 = source.chance(50);
  p.differs1 = source.chance(50);
  p.dumping = source.chance(50);
  p.touched.bits = source.chance(50) ? TiaAccess::make(p.cycle, TiaAccess::kRead, 7).bits : 0;
  for (std::int32_t& resistance : p.paddles) {
    resistance = source.one_of({0, Port::kOpen, 1000, 100000, source.below(1000000)});
  }
  p.dump_ended = static_cast<std::int32_t>(p.cycle) - source.below(20000);
  p.high_from[4].bits = source.chance(50) ? 0 : Processor::kNever.bits;
  p.high_from[5].bits = source.chance(50) ? 0 : Processor::kNever.bits;
  const auto index = [&] {
    return static_cast<std::uint8_t>(source.chance(30) ? source.one_of({0, 1, 2, 0x7F, 0x80, 0xFF})
                                                       : source.below(256));
  };
  p.cpu.a = index();
  p.cpu.x = index();
  p.cpu.y = index();
  p.cpu.p = static_cast<std::uint8_t>(source.byte() & ~flags::kUnused);
  p.cpu.sp = static_cast<std::uint8_t>(
      source.chance(50) ? source.one_of({0, 0x1C, 0x1D, 0x1E, 0x1F, 0x20, 0x7D, 0x7E, 0x7F, 0x80,
                                         0x81, 0x82, 0xFC, 0xFD, 0xFE, 0xFF})
                        : source.below(256));
  if (source.chance(50)) {  // For RTS: an odd address of the cartridge is on the stack.
    p.riot.ram[(p.cpu.sp + 1) & 0x7F] |= 1;
    p.riot.ram[(p.cpu.sp + 2) & 0x7F] |= 0xF0;
  }
  p.cart.bank = static_cast<std::uint8_t>(
      source.below(static_cast<int>(std::max(size_of(scheme) / 4096, std::size_t{1}))));
  if (scheme == Scheme::kDPC) p.cart.bank &= 1;
  for (std::uint8_t& slice : p.cart.slices) slice = static_cast<std::uint8_t>(source.below(8));
  for (std::uint8_t& byte : p.cart.ram) byte = source.byte();
}

/// All that a run leaves behind.
auto outcome(const Processor& p) {
  std::vector<std::uint32_t> log;
  for (std::size_t i = 0; i < p.num_accesses(); ++i) log.push_back(p.accesses[i].bits);
  return std::tuple(p.cpu.pc, p.cpu.a, p.cpu.x, p.cpu.y, p.cpu.sp, p.cpu.p, p.cycle, p.riot.ram,
                    p.riot.swacnt, p.riot.timer, p.riot.shift, p.riot.written_at,
                    p.riot.expired_read, p.riot.expired_at, p.bus, p.last_was_read, p.vblank,
                    p.dumping, p.dump_ended, p.vsync_end, p.kept, p.differs0, p.differs1,
                    p.touched.bits, p.num_cleared(), p.cart.bank, p.cart.slices, p.cart.ram, log);
}

std::string text(const Processor& p) {
  std::array<char, 96> line{};
  std::snprintf(line.data(), line.size(), "PC %04x A %02x X %02x Y %02x SP %02x P %02x cycle %u",
                p.cpu.pc, p.cpu.a, p.cpu.x, p.cpu.y, p.cpu.sp, p.cpu.p, p.cycle);
  return line.data();
}

/// Runs every opcode of a cartridge from `num_states` states. Returns the first difference, or
/// nothing; and how many runs both finished.
std::tuple<std::string, int> where_parts(int number, int num_states, std::uint32_t seed) {
  const auto scheme = static_cast<Scheme>(number);
  Source source{std::mt19937(seed)};
  const Cartridge cartridge(scheme, source);
  if (cartridge.translation == nullptr) return {"nothing was translated", 0};
  const std::array<Rom, 2> roms{cartridge.rom(false), cartridge.rom(true)};
  Answers host;
  int num_finished = 0;
  for (int state = 0; state < num_states * (Code::kBankSize / kSlot); ++state) {
    const int slot = state % (Code::kBankSize / kSlot);
    const auto begin = std::make_unique<Processor>();
    scramble(*begin, scheme, source);
    begin->cpu.pc = static_cast<std::uint16_t>((source.one_of({1, 3, 13, 15}) << 12) |
                                               (slot * kSlot + source.below(3)));
    std::array<std::unique_ptr<Processor>, 2> ended;
    std::array<Stop, 2> stops{};
    for (std::size_t i = 0; i < ended.size(); ++i) {
      ended[i] = std::make_unique<Processor>(*begin);
      ended[i]->host = &host;
      ended[i]->rom = &roms[i];
      stops[i] = ended[i]->run();
    }
    if (stops[0] == Stop::kGaveUp || stops[1] == Stop::kGaveUp) continue;
    ++num_finished;
    const Processor &interpreted = *ended[0], &translated = *ended[1];
    if (outcome(interpreted) != outcome(translated)) {
      return {"scheme " + std::to_string(number) + ", from " + text(*begin) + ": interpreted " +
                  text(interpreted) + ", translated " + text(translated),
              num_finished};
    }
  }
  return {"", num_finished};
}

/// What the machine code of a cartridge that repeats `pattern` comes to: whether it gave up, and
/// how much it wrote down.
std::tuple<bool, std::uint32_t> run_of(const std::vector<std::uint8_t>& pattern) {
  std::vector<std::uint8_t> image(size_of(Scheme::k4K));
  for (std::size_t i = 0; i < image.size(); ++i) image[i] = pattern[i % pattern.size()];
  const Code code(image, Scheme::k4K);
  const auto translation = translate<Answers>(code);
  const Properties properties{.scheme = Scheme::k4K};
  const Rom rom{image, properties, &code, translation.get()};
  Answers host;
  const auto processor = std::make_unique<Processor>();
  processor->host = &host;
  processor->rom = &rom;
  processor->last_cycle = 5000;
  processor->cpu.pc = 0xF000;
  return {processor->run() == Stop::kGaveUp, processor->num_accesses()};
}

}  // namespace

PYBIND11_MODULE(atari_translation, module) {
  module.def("where_parts", &where_parts, py::arg("scheme"), py::arg("num_states"),
             py::arg("seed"));
  module.def("run_of", &run_of, py::arg("pattern"));
  module.attr("max_accesses") = Processor::kMaxAccesses;
  module.attr("num_schemes") = static_cast<int>(Scheme::kDPC) + 1;
}
