// The native Atari 2600 for tests/oracle: the processor alone, on a memory that logs its accesses.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <vector>

#include "envs/atari/m6507.h"

namespace py = pybind11;
using namespace fastrl::envs::atari;

namespace {

/// 64 KB of memory. Writes down what it is asked: cycle, address, value, write or not.
struct LoggedMemory {
  std::array<std::uint8_t, 0x10000> bytes{};
  int cycle = 0;
  std::vector<std::tuple<int, int, int, bool>> log;

  std::uint8_t read(std::uint16_t address) noexcept {
    log.emplace_back(cycle, address, bytes[address], false);
    return bytes[address];
  }
  void write(std::uint16_t address, std::uint8_t value) noexcept {
    log.emplace_back(cycle, address, value, true);
    bytes[address] = value;
  }
  void wait(int cycles) noexcept { cycle += cycles; }
};

static_assert(Bus<LoggedMemory>);

struct Processor {
  M6507 cpu;
  LoggedMemory memory;

  void load(const py::bytes& image) {
    const std::string_view bytes = image;
    if (bytes.size() != memory.bytes.size()) throw std::invalid_argument("64 KB, please");
    std::ranges::copy(bytes, memory.bytes.begin());
  }

  void poke(int address, int value) {
    memory.bytes.at(static_cast<std::size_t>(address)) = static_cast<std::uint8_t>(value);
  }

  std::vector<std::tuple<int, int, int, bool>> step() {
    memory.cycle = 0;
    memory.log.clear();
    cpu.step(memory);
    return memory.log;
  }
};

void bind_processor(py::module_& module) {
  py::class_<Processor>(module, "Processor")
      .def(py::init<>())
      .def("load", &Processor::load)
      .def("poke", &Processor::poke)
      .def("reset", [](Processor& self) { self.cpu.reset(self.memory); })
      .def("step", &Processor::step)
      .def_property_readonly("cycles", [](const Processor& self) { return self.memory.cycle; })
      .def_property(
          "registers",
          [](const Processor& self) {
            const M6507& cpu = self.cpu;
            return std::tuple(int{cpu.pc}, int{cpu.a}, int{cpu.x}, int{cpu.y}, int{cpu.sp},
                              int{cpu.p}, cpu.jammed);
          },
          [](Processor& self, const std::tuple<int, int, int, int, int, int, bool>& registers) {
            const auto [pc, a, x, y, sp, p, jammed] = registers;
            self.cpu = M6507{.pc = static_cast<std::uint16_t>(pc),
                             .a = static_cast<std::uint8_t>(a),
                             .x = static_cast<std::uint8_t>(x),
                             .y = static_cast<std::uint8_t>(y),
                             .sp = static_cast<std::uint8_t>(sp),
                             .p = static_cast<std::uint8_t>(p),
                             .jammed = jammed};
          });
}

}  // namespace

PYBIND11_MODULE(atari_replay, module) { bind_processor(module); }
