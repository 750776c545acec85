// The native Atari 2600 for tests/oracle: the processor alone, on a memory that logs its accesses,
// and whole games.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "envs/atari/atari.h"
#include "envs/atari/code.h"
#include "envs/atari/m6507.h"
#include "envs/atari/translate.h"

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

using Bytes = py::array_t<std::uint8_t, py::array::c_style>;

/// What ALEInterface says besides memory and screen: lives, terminal, truncated, frame number,
/// episode frame number.
using Counts = std::tuple<int, bool, bool, int, int>;

/// The fast console, whose processor is translated.
struct TranslatedAtari : FastAtari {};

/// A game and its cartridge, on one of the consoles.
template <typename Machine>
struct Session {
  std::vector<std::uint8_t> image;
  std::optional<Code> code;
  std::unique_ptr<const Translation> translation;
  Rom rom;
  std::unique_ptr<Rehearsal> rehearsal;  ///< Of the fast consoles.
  Machine atari;

  /// `known`: the image is the one that games.json has facts for.
  Session(const std::string& name, const py::bytes& bytes, bool known,
          const AtariOptions& options) {
    const auto* facts = std::ranges::find(kGames, name, &GameFacts::name);
    if (facts == kGames.end()) throw std::invalid_argument("no game is called " + name);
    const std::string_view view = bytes;
    image.assign(view.begin(), view.end());
    rom = {image, known ? facts->properties : Properties{}};
    if (image.size() < size_of(rom.properties.scheme)) throw std::invalid_argument("too short");
    code.emplace(image, rom.properties.scheme);
    rom.code = &*code;
    if constexpr (std::is_same_v<Machine, TranslatedAtari>) {
      translation = translate<FastConsole>(*code);
      rom.translation = translation.get();
    }
    vectors = std::is_same_v<Machine, TranslatedAtari> ? best_vectors() : Vectors::kNone;
    const auto title = static_cast<Game>(facts - kGames.begin());
    if constexpr (std::is_base_of_v<FastAtari, Machine>) {
      rehearsal = std::make_unique<Rehearsal>();
      atari.load(rom, title, options);
      atari.rehearse(rom, *rehearsal);
    }
    atari.load(rom, title, options, rehearsal.get());
  }
  Session(const Session&) = delete;

  int act(int action, float strength, bool seen) { return atari.act(rom, action, strength, seen); }
  void reset() {
    atari.reset(rom, rehearsal.get());
    if (atari.mode_not_found) throw std::runtime_error("the mode was not found");
  }

  [[nodiscard]] std::span<const std::uint8_t> screen() {
    return {atari.screen(), static_cast<std::size_t>(atari.height()) * Tia::kWidth};
  }
  [[nodiscard]] Counts counts() const {
    return {atari.lives(), atari.terminal(), atari.truncated(), atari.total_frames,
            atari.episode_frames};
  }

  /// Where this console and the reference part: nothing, or one line.
  [[nodiscard]] std::string difference(const Bytes& ram, const Bytes& picture,
                                       const Counts& expected) {
    const auto same = [](const Bytes& theirs, std::span<const std::uint8_t> ours) {
      return std::ranges::mismatch(
          std::span(theirs.data(), static_cast<std::size_t>(theirs.size())), ours);
    };
    const std::span<const std::uint8_t> memory = atari.ram();
    if (const auto [theirs, ours] = same(ram, memory); ours != memory.end()) {
      return "RAM at " + std::to_string(128 + (ours - memory.begin())) + " is " +
             std::to_string(*ours) + ", not " + std::to_string(*theirs);
    }
    const std::span<const std::uint8_t> shown = screen();
    if (picture.ndim() != 2 || picture.shape(1) != Tia::kWidth ||
        picture.shape(0) != atari.height()) {
      return "the screen is " + std::to_string(atari.height()) + " rows high";
    }
    if (const auto [theirs, ours] = same(picture, shown); ours != shown.end()) {
      const auto at = ours - shown.begin();
      return "the screen at row " + std::to_string(at / Tia::kWidth) + ", column " +
             std::to_string(at % Tia::kWidth) + " is " + std::to_string(*ours) + ", not " +
             std::to_string(*theirs);
    }
    if (counts() != expected) {
      return "lives, terminal, truncated, frame, episode frame are " + text(counts()) + ", not " +
             text(expected);
    }
    return "";
  }

 private:
  static std::string text(const Counts& counts) { return py::str(py::cast(counts)); }
};

/// A palette in which all colours differ.
constexpr std::array<std::uint8_t, 256> kGreys = [] {
  std::array<std::uint8_t, 256> table{};
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::uint8_t>(i * 167);
  return table;
}();

/// Where the screens in greys, if there are any, are not those of the plain console.
template <typename Machine>
std::string where_greys_part(Session<PlainAtari>& plain, Session<Machine>& fast) {
  const Console::Screens greys = fast.atari.grey_screens(fast.rom);
  if (greys.newest == nullptr) return "";
  const std::span newest = plain.screen();
  const std::uint8_t* const older = plain.atari.older_screen();
  for (std::size_t at = 0; at < newest.size(); ++at) {
    const bool is_newest = greys.newest[at] != kGreys[newest[at]];
    if (!is_newest && greys.older[at] == kGreys[older[at]]) continue;
    return (is_newest ? "greys at row " : "older greys at row ") +
           std::to_string(at / Tia::kWidth) + ", column " + std::to_string(at % Tia::kWidth);
  }
  return "";
}

/// All but pictures, latches and what only the plain console keeps between frames.
auto state(const Console& c) {
  return std::tuple(c.cycle, c.bus, c.last_was_read, c.cpu.pc, c.cpu.a, c.cpu.x, c.cpu.y, c.cpu.sp,
                    c.cpu.p, c.cpu.jammed, c.cart.bank, c.cart.slices, c.cart.ram, c.tia.positions,
                    c.tia.drawn, c.tia.frame_open, c.tia.current_lines, c.tia.dumping,
                    c.ports.have_paddles() ? c.tia.dump_ended : 0, c.riot.timer, c.riot.written_at);
}

/// Plays held random actions on both consoles and says where they part, if they do: after every
/// frame in memory, registers, clock and latches, and on the frames that somebody looks at in the
/// picture. The fast console is told at random which frames will be seen, and not the truth, and
/// which vector instructions to use. With every second seed it paints in greys.
template <typename Machine>
std::string part(const std::string& game, const py::bytes& image, bool known, int num_frames,
                 std::uint32_t seed) {
  AtariOptions options;
  options.seed = seed;
  const auto plain = std::make_unique<Session<PlainAtari>>(game, image, known, options);
  const auto fast = std::make_unique<Session<Machine>>(game, image, known, options);
  const Console& expected = plain->atari.console;
  auto& found = fast->atari.console;
  if (seed % 2 == 0) fast->rom.greys = kGreys.data();
  std::mt19937 draws(seed);
  int action = 0;
  for (int frame = 0; frame < num_frames; ++frame) {
    if (draws() % 8 == 0) action = static_cast<int>(draws() % actions::kNumActions);
    vectors = static_cast<Vectors>(draws() % (static_cast<unsigned>(best_vectors()) + 1));
    const std::string where = "frame " + std::to_string(frame) + ": ";
    if (plain->act(action, 1.0F, true) != fast->act(action, 1.0F, draws() % 2 == 0)) {
      return where + "reward";
    }
    if (plain->counts() != fast->counts()) return where + "counts";
    if (expected.riot.ram != found.riot.ram) return where + "RAM";
    if (state(expected) != state(found)) return where + "registers";
    if (draws() % 4 == 0) {  // Latches are found when they are asked for, in the frames before too.
      const auto latches = static_cast<std::uint16_t>(draws() & Tia::kAllLatches);
      if constexpr (requires { found.settle(latches); }) found.settle(latches);
      if (((expected.tia.collisions ^ found.tia.collisions) & latches) != 0) {
        return where + "collisions";
      }
    }
    if (draws() % 3 != 0) {
      const auto [wanted, drawn] = std::ranges::mismatch(plain->screen(), fast->screen());
      if (wanted != plain->screen().end()) {
        const auto at = wanted - plain->screen().begin();
        return where + "screen at row " + std::to_string(at / Tia::kWidth) + ", column " +
               std::to_string(at % Tia::kWidth) + " is " + std::to_string(*drawn) + ", not " +
               std::to_string(*wanted);
      }
    } else if (draws() % 2 == 0) {
      if (const std::string what = where_greys_part(*plain, *fast); !what.empty()) {
        return where + what;
      }
    }
    if (plain->atari.terminal() || draws() % 500 == 0) {
      plain->reset();
      fast->reset();
    }
  }
  return "";
}

/// Where a fast console that is made to look parts from the plain one.
template <typename Machine>
std::string where_all_parts(Session<PlainAtari>& plain, Session<Machine>& fast) {
  const Console& expected = plain.atari.console;
  const auto looked_at = std::make_unique<FastConsole>(fast.atari.console);  // It stays grey.
  const Console& found = looked_at->settled();
  if (expected.riot.ram != found.riot.ram) return "RAM";
  if (state(expected) != state(found)) return "registers";
  if (expected.tia.collisions != found.tia.collisions) return "latches";
  if (expected.frames[expected.current] != found.frames[found.current]) return "screen";
  if (expected.frames[1 - expected.current] != found.frames[1 - found.current]) return "older";
  if (plain.counts() != fast.counts()) return "counts";
  if (plain.atari.rules != fast.atari.rules) return "rules";
  if (plain.atari.random.next() != fast.atari.random.next()) return "draws";
  return "";
}

/// Resets both, each time after fewer than `num_frames` frames of random actions. Returns how many
/// frames the resets took from the rehearsal, and where the consoles part.
template <typename Machine>
std::pair<int, std::string> part_after_resets(const std::string& game, const py::bytes& image,
                                              bool known, int num_resets, int num_frames,
                                              std::uint32_t seed) {
  AtariOptions options;
  options.seed = seed;
  const auto plain = std::make_unique<Session<PlainAtari>>(game, image, known, options);
  const auto fast = std::make_unique<Session<Machine>>(game, image, known, options);
  fast->rom.greys = kGreys.data();
  std::mt19937 draws(seed);
  int num_rehearsed = 0;
  for (int reset = 0; reset < num_resets; ++reset) {
    const std::string where = "reset " + std::to_string(reset) + ": ";
    int action = 0;
    for (int left = static_cast<int>(draws() % static_cast<unsigned>(num_frames)); left > 0;
         --left) {
      if (draws() % 8 == 0) action = static_cast<int>(draws() % actions::kNumActions);
      const int reward = plain->act(action, 1.0F, true);
      if (reward != fast->act(action, 1.0F, draws() % 2 == 0)) return {num_rehearsed, "reward"};
    }
    if (const std::string what = where_all_parts(*plain, *fast); !what.empty()) {
      return {num_rehearsed, "before " + where + what};
    }
    plain->reset();
    fast->reset();
    num_rehearsed += fast->atari.num_rehearsed;
    if (const std::string what = where_all_parts(*plain, *fast); !what.empty()) {
      return {num_rehearsed, where + what};
    }
  }
  return {num_rehearsed, ""};
}

std::vector<int> members(std::uint32_t set) {
  std::vector<int> all;
  for (int action = 0; action < actions::kNumActions; ++action) {
    if (actions::is_in(action, set)) all.push_back(action);
  }
  return all;
}

template <typename Machine>
void bind_machine(py::module_& module, const char* name) {
  using Played = Session<Machine>;
  py::class_<Played> type(module, name);
  type.def(py::init<const std::string&, const py::bytes&, bool, const AtariOptions&>())
      .def("act", &Played::act, py::arg("action"), py::arg("strength") = 1.0F,
           py::arg("seen") = true)
      .def("reset", &Played::reset)
      .def("ram",
           [](const Played& self) {
             const auto ram = self.atari.ram();
             return Bytes(static_cast<py::ssize_t>(ram.size()), ram.data());
           })
      .def("screen",
           [](Played& self) {
             return Bytes({self.atari.height(), Tia::kWidth}, self.atari.screen());
           })
      .def("counts", &Played::counts)
      .def("difference", &Played::difference, py::arg("ram").noconvert(),
           py::arg("screen").noconvert(), py::arg("counts"))
      .def("save",
           [](const Played& self) {
             return py::bytes(reinterpret_cast<const char*>(&self.atari), sizeof(Machine));
           })
      .def("restore",
           [](Played& self, const py::bytes& saved) {
             const std::string_view bytes = saved;
             if (bytes.size() != sizeof(Machine)) throw std::invalid_argument("another size");
             std::memcpy(&self.atari, bytes.data(), sizeof(Machine));
           })
      .def_static("part", &part<Machine>, py::arg("game"), py::arg("image"), py::arg("known"),
                  py::arg("num_frames"), py::arg("seed"), "Where it parts from the plain one.")
      .def_property(
          "mode", [](const Played& self) { return self.atari.mode; },
          [](Played& self, int mode) { self.atari.mode = mode; })
      .def_property(
          "difficulty", [](const Played& self) { return self.atari.difficulty; },
          [](Played& self, int difficulty) { self.atari.difficulty = difficulty; });
  if constexpr (std::is_base_of_v<FastAtari, Machine>) {
    type.def_static("part_after_resets", &part_after_resets<Machine>, py::arg("game"),
                    py::arg("image"), py::arg("known"), py::arg("num_resets"),
                    py::arg("num_frames"), py::arg("seed"));
  }
}

void bind_games(py::module_& module) {
  py::class_<AtariOptions>(module, "Options")
      .def(py::init<>())
      .def_readwrite("seed", &AtariOptions::seed)
      .def_readwrite("repeat_action_probability", &AtariOptions::repeat_action_probability)
      .def_readwrite("frame_skip", &AtariOptions::frame_skip)
      .def_readwrite("max_num_frames_per_episode", &AtariOptions::max_num_frames_per_episode)
      .def_readwrite("truncate_on_loss_of_life", &AtariOptions::truncate_on_loss_of_life)
      .def_readwrite("reward_min", &AtariOptions::reward_min)
      .def_readwrite("reward_max", &AtariOptions::reward_max);
  bind_machine<PlainAtari>(module, "plain");
  bind_machine<FastAtari>(module, "fast");
  bind_machine<TranslatedAtari>(module, "translated");
  py::dict games;
  for (const GameFacts& facts : kGames) {
    py::dict entry;
    entry["md5"] = std::string(facts.md5);
    entry["minimal_actions"] = members(facts.minimal_actions);
    entry["legal_actions"] = members(facts.legal_actions);
    entry["modes"] = std::vector<int>(facts.modes.begin(), facts.modes.end());
    entry["difficulties"] = std::vector<int>(facts.difficulties.begin(), facts.difficulties.end());
    entry["paddles"] = facts.paddles;
    games[py::str(std::string(facts.name))] = entry;
  }
  module.attr("games") = games;
}

}  // namespace

PYBIND11_MODULE(atari_replay, module) {
  bind_processor(module);
  bind_games(module);
}
