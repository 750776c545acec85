// Random cartridges, random memory under the rules, random states: nothing may crash, hang, or
// leave its arrays, and the fast console, interpreted and translated, must stay the plain one.
// Built with ASan and UBSan.
//
//     atari_fuzz_asan [images] [first]    default: 150 images, the first one being number 0
//
// An image is made from its number, so that `atari_fuzz_asan 1 <number>` repeats a failure.
#include <sanitizer/common_interface_defs.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "envs/atari/atari.h"
#include "envs/atari/translate.h"

using namespace fastrl::envs::atari;

namespace {

constexpr int kNumSchemes = 9;
constexpr int kSecondsAnImage = 60;  ///< Of processor time. An image takes less than one.

/// A palette in which all colours differ.
constexpr auto kGreys = [] {
  std::array<std::uint8_t, 256> table{};
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::uint8_t>(i * 167);
  return table;
}();

/// Where the random things come from.
struct Source {
  std::mt19937_64 bits;

  explicit Source(std::uint64_t seed) : bits(seed) {}

  int below(int n) { return static_cast<int>(bits() % static_cast<std::uint64_t>(n)); }
  bool chance(int percent) { return below(100) < percent; }
  std::uint8_t byte() { return static_cast<std::uint8_t>(bits()); }
  std::uint32_t word() { return static_cast<std::uint32_t>(bits()); }
  std::int32_t number() { return static_cast<std::int32_t>(word()); }
  void fill(std::span<std::uint8_t> bytes) {
    for (std::uint8_t& b : bytes) b = byte();
  }
  template <typename T>
  T one_of(std::initializer_list<T> all) {
    return all.begin()[below(static_cast<int>(all.size()))];
  }
};

std::string doing;  ///< For the report of a failure.

void expect(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

/// Kills the process if the next thing takes too long.
void start_clock() {
  const itimerval limit{.it_interval = {}, .it_value = {.tv_sec = kSecondsAnImage, .tv_usec = 0}};
  setitimer(ITIMER_VIRTUAL, &limit, nullptr);
}

// Cartridges.

/// Machine code that mostly does not jam: a frame loop, as games have, full of anything.
std::vector<std::uint8_t> frame_loop(Source& source) {
  std::vector<std::uint8_t> code;
  const auto emit = [&code](std::initializer_list<int> bytes) {
    for (const int b : bytes) code.push_back(static_cast<std::uint8_t>(b));
  };
  const auto store = [&emit](int value, int address) { emit({0xA9, value, 0x85, address}); };
  const auto anything = [&] {
    switch (source.below(8)) {
      case 0:
      case 1:
      case 2:  // Something for the TIA.
        store(source.byte(), source.below(0x2D));
        break;
      case 3:  // Ports and timer, both ways.
        emit({source.one_of({0xAD, 0x8D}), 0x80 + source.below(0x20), 0x02});
        break;
      case 4:  // Hotspots, then anything in the cartridge.
        emit({source.one_of({0xAD, 0x8D}), 0xE0 + source.below(0x20), source.one_of({0x1F, 0xFF})});
        emit({source.one_of({0xAD, 0x8D, 0xBD, 0x9D}), source.byte(),
              source.one_of({0x10, 0x14, 0x1C, 0xF0, 0xF5, 0xFB, 0xFF, 0xD0, 0xD9})});
        break;
      case 5:  // Calls: the FE scheme watches them, and so does WSYNC.
        emit({source.one_of({0x20, 0x60, 0x00, 0x40, 0x6C, 0x4C}), source.byte(),
              source.one_of({0xF0, 0xD0})});
        break;
      default:
        emit({source.byte(), source.byte()});
        break;
    }
  };
  emit({0xA2, source.byte(), 0x9A});
  store(2, 0x00);
  emit({0x85, 0x02, 0x85, 0x02, 0x85, 0x02});
  store(0, 0x00);
  store(source.one_of({0, 0, 2, 0x80}), 0x01);
  for (int section = source.below(4); section >= 0; --section) {
    store(20 + source.below(80), 0xF8);
    const auto loop = static_cast<int>(code.size());
    for (int i = source.below(12); i >= 0; --i) anything();
    if (source.chance(80)) emit({0x85, 0x02});
    emit({0xC6, 0xF8, 0xF0, 0x03, 0x4C, loop & 0xFF, 0xF0 | (loop >> 8)});
  }
  emit({0x4C, 0x00, 0xF0});
  return code;
}

/// The image of a scheme: noise, or code in every bank with the vectors that start it.
std::vector<std::uint8_t> image_of(Scheme scheme, Source& source) {
  std::vector<std::uint8_t> image(size_of(scheme));
  source.fill(image);
  if (source.chance(30)) return image;
  const std::size_t bank_size = scheme == Scheme::k2K ? 2048 : scheme == Scheme::kE0 ? 1024 : 4096;
  const std::vector<std::uint8_t> same = frame_loop(source);
  for (std::size_t at = 0; at + bank_size <= image.size(); at += bank_size) {
    const std::vector<std::uint8_t> code = source.chance(80) ? same : frame_loop(source);
    const std::span bank = std::span(image).subspan(at, bank_size);
    std::ranges::copy(std::span(code).first(std::min(code.size(), bank_size)), bank.begin());
    for (const std::size_t vector : {bank_size - 4, bank_size - 2}) {
      bank[vector] = source.chance(95) ? std::uint8_t{0} : source.byte();
      bank[vector + 1] = source.one_of<std::uint8_t>({0xF0, 0xF0, 0xD0, 0x10});
    }
  }
  return image;
}

Properties properties_of(Scheme scheme, int number, Source& source) {
  Properties properties{.scheme = scheme};
  if (source.chance(60)) {
    properties.window_height = 1 + source.below(Tia::kMaxHeight - 1);
    if (properties.window_height == 210) properties.window_height = 209;  // May become 250.
    properties.window_top = source.below(Tia::kMaxHeight - properties.window_height);
  }
  const unsigned switches = static_cast<unsigned>(number / kNumSchemes);
  properties.hmove_blanks = (switches & 1U) != 0;
  properties.left_paddles = (switches & 2U) != 0;
  properties.right_paddles = (switches & 4U) != 0;
  properties.swap_paddles = (switches & 8U) != 0;
  properties.swap_ports = (switches & 16U) != 0;
  properties.left_difficulty_a = (switches & 32U) != 0;
  properties.right_difficulty_a = (switches & 64U) != 0;
  return properties;
}

/// A mode program waits for what only its own game does, up to 10,000 presses of SELECT. Programs
/// are tried in `rules_survive`; a random cartridge is played as a game that has none.
const std::vector<Game>& games_without_program() {
  struct Impatient {
    bool pressed = false;
    [[nodiscard]] Int mode() const noexcept { return 0; }
    [[nodiscard]] Int ram(Int /*address*/) const noexcept { return 0; }
    [[nodiscard]] Int peek(Int /*address*/) const noexcept { return 0; }
    Int rng() noexcept { return 0; }
    void press_select(int /*frames*/) noexcept { pressed = true; }
    void press_reset() noexcept { pressed = true; }
    void act(int /*action*/) noexcept { pressed = true; }
  };
  static const std::vector<Game> games = [] {
    std::vector<Game> found;
    for (std::size_t game = 0; game < kGames.size(); ++game) {
      Impatient player;
      RuleState state{};
      choose_mode(static_cast<Game>(game), player, state);
      if (!player.pressed) found.push_back(static_cast<Game>(game));
    }
    return found;
  }();
  return games;
}

// States: what may be in a console that somebody saved. Within what the rules of each chip can
// reach, anything. What the fast console has beside these chips, logs of frames, stays as it is.

void scramble(M6507& cpu, Source& source) {
  cpu.pc = static_cast<std::uint16_t>(source.word());
  cpu.a = source.byte();
  cpu.x = source.byte();
  cpu.y = source.byte();
  cpu.sp = source.byte();
  cpu.p = static_cast<std::uint8_t>(source.byte() & ~flags::kUnused);
  cpu.jammed = source.chance(2);
}

void scramble(Riot& riot, Source& source) {
  source.fill(riot.ram);
  riot.swacnt = source.byte();
  riot.timer = source.byte();
  riot.shift = source.one_of<std::uint8_t>({0, 3, 6, 10});
  riot.written_at = source.word();
  riot.expired_at = source.word();
  riot.expired_read = source.chance(50);
}

void scramble(Cart& cart, Scheme scheme, Source& source) {
  const auto banks = static_cast<int>(std::max(size_of(scheme) / 4096, std::size_t{1}));
  cart.bank = static_cast<std::uint8_t>(source.below(banks));
  for (std::uint8_t& slice : cart.slices) slice = static_cast<std::uint8_t>(source.below(8));
  source.fill(cart.ram);
  Dpc& dpc = cart.dpc;
  source.fill(dpc.top);
  source.fill(dpc.bottom);
  source.fill(dpc.flag);
  for (std::uint16_t& counter : dpc.counter) {
    counter = static_cast<std::uint16_t>(source.below(2048));
  }
  for (bool& music : dpc.music) music = source.chance(50);
  dpc.random = source.byte();
  dpc.music_cycle = source.word();
  dpc.music_fraction = source.below(1000) / 1000.0;
}

void scramble(Tia& tia, Source& source) {
  const bool after_reset = source.chance(20);
  tia.frame_start = -source.below(Tia::kLineClocks);
  const int first = after_reset ? 0 : tia.window_top;
  const int lines = tia.window_top + tia.window_height - first;
  const int done = source.below((Tia::kLineClocks * lines) + 1);
  tia.drawn = tia.frame_start + (Tia::kLineClocks * first) + done;
  const int into = done % Tia::kLineClocks;
  const bool line_open = into == 0 && done > 0 && source.chance(50);
  tia.line_left = line_open ? 0 : Tia::kLineClocks - into;
  tia.pen = static_cast<std::size_t>((done / Tia::kLineClocks * Tia::kWidth) +
                                     std::max(into - Tia::kBlankClocks, 0));
  tia.vsync_end = source.chance(50) ? Tia::kNever : source.number();
  tia.current_lines = source.word();
  tia.previous_lines = source.word();
  tia.frame_open = source.chance(80);
  tia.greyed = source.chance(50);
  tia.vblank = source.byte();
  tia.ctrlpf = source.byte();
  source.fill(tia.nusiz);
  source.fill(tia.colours);
  tia.playfield = source.word() & 0xFFFFFU;
  tia.mirror_right_half = source.chance(50);
  for (Tia::Player& player : tia.players) {
    player = {.graphics = source.byte(),
              .delayed = source.byte(),
              .delay = source.chance(50),
              .reflect = source.chance(50),
              .first_copy_hidden = source.chance(50)};
  }
  for (Tia::Missile& missile : tia.missiles) {
    missile = {.enabled = source.chance(50), .locked_to_player = source.chance(50)};
  }
  tia.ball = {
      .enabled = source.chance(50), .delayed = source.chance(50), .delay = source.chance(50)};
  for (std::int16_t& at : tia.positions) at = static_cast<std::int16_t>(source.below(Tia::kWidth));
  for (std::uint8_t& motion : tia.motions) motion = static_cast<std::uint8_t>(source.below(16));
  tia.collisions = static_cast<std::uint16_t>(source.below(1 << 15));
  tia.comb_pending = source.chance(50);
  tia.last_hmove = source.number();
  tia.missile0 = static_cast<Tia::Missile0>(source.below(3));
  tia.stars_on = source.chance(50);
  tia.star_count = static_cast<std::uint16_t>(source.below(4));
  tia.dumping = source.chance(50);
  tia.dump_ended = source.number();
}

template <typename Machine>
void scramble(Machine& machine, const Rom& rom, Source& source) {
  scramble(machine.console.cpu, source);
  scramble(machine.console.riot, source);
  scramble(machine.console.cart, rom.properties.scheme, source);
  scramble(machine.console.tia, source);
  machine.console.cycle = source.chance(80) ? source.word() % 300'000 : source.word();
  machine.console.bus = source.byte();
  machine.console.last_was_read = source.chance(50);
  machine.console.switches.swchb = source.byte();
  for (std::int32_t& value : machine.rules) value = source.number();
  machine.difficulty = source.below(4);
}

// The tests.

void check(const Tia& tia) {
  expect(tia.pen <= Frame{}.size(), "the pen left the picture");
  expect(tia.line_left >= 0 && tia.line_left <= Tia::kLineClocks, "a line of another length");
  for (const int position : tia.positions) {
    expect(position >= 0 && position < Tia::kWidth, "an object left the line");
  }
}

/// All consoles with one cartridge.
struct Consoles {
  Rom rom;             ///< Translated.
  Rom not_translated;  ///< The same.
  PlainAtari plain;
  FastAtari fast;
  FastAtari translated;

  void load(Game game, const AtariOptions& options) {
    plain.load(not_translated, game, options);
    fast.load(not_translated, game, options);
    translated.load(rom, game, options);
  }
  void reset() {
    plain.reset(not_translated);
    fast.reset(not_translated);
    translated.reset(rom);
  }

  void scramble(Source& source) {
    Source same = source;
    Source again = source;
    // Who has met before is in the state, not still to be found out.
    for (FastAtari* each : {&fast, &translated}) each->console.settle(Tia::kAllLatches);
    ::scramble(plain, rom, source);
    ::scramble(fast, rom, same);
    ::scramble(translated, rom, again);
  }

  /// The best ones, but in every fourth frame those of older processors.
  static Vectors vectors_of(int frame) {
    const Vectors best = best_vectors();
    return frame % 4 == 0 ? std::min(best, Vectors::kAvx2) : best;
  }

  void play(int frames, Source& source) {
    for (int frame = 0; frame < frames; ++frame) {
      const int action = source.below(actions::kNumActions);
      const float strength = static_cast<float>(source.below(101)) / 100.0F;
      const std::int32_t reward = plain.act(not_translated, action, strength);
      check(plain.console.tia);
      const bool is_compared = source.chance(70);
      for (FastAtari* each : {&fast, &translated}) {
        const Rom& its = each == &fast ? not_translated : rom;
        vectors = each == &fast ? Vectors::kNone : vectors_of(frame);
        expect(reward == each->act(its, action, strength, source.chance(50)), "another reward");
        check(each->console.tia);
        expect(std::ranges::equal(plain.ram(), each->ram()), "the consoles' memories differ");
        expect(plain.console.cpu.p == each->console.cpu.p &&
                   plain.console.cycle == each->console.cycle,
               "the consoles' flags or clocks differ");
        if (!is_compared) continue;
        const std::uint8_t* screen = plain.screen();
        const std::uint8_t* end = screen + std::ptrdiff_t{plain.height()} * Tia::kWidth;
        if (const auto greys = each->grey_screens(its); greys.newest != nullptr) {
          const auto same = [](std::uint8_t colour, std::uint8_t grey) {
            return kGreys[colour] == grey;
          };
          expect(std::equal(screen, end, greys.newest, same), "the consoles' greys differ");
        }
        expect(std::equal(screen, end, each->screen()), "the consoles' pictures differ");
      }
    }
  }
};

/// Loads cartridge `number`, plays it, resets it, and goes on from random states.
void image_survives(int number) {
  Source source(static_cast<std::uint64_t>(number));
  doing = "image " + std::to_string(number);
  start_clock();
  const auto scheme = static_cast<Scheme>(number % kNumSchemes);
  // A vector of its own, of the exact size: ASan sees a read behind it.
  const std::vector<std::uint8_t> image = image_of(scheme, source);
  const Code code(image, scheme);
  const auto translation = translate<FastConsole>(code);
  const Properties properties = properties_of(scheme, number, source);
  const std::vector<Game>& games = games_without_program();
  const Game game = games[static_cast<std::size_t>(source.below(static_cast<int>(games.size())))];
  AtariOptions options;
  options.seed = source.word();
  options.frame_skip = 1 + source.below(3);
  options.max_num_frames_per_episode = source.below(20);
  options.truncate_on_loss_of_life = source.chance(30);
  const auto consoles = std::make_unique<Consoles>();
  consoles->rom = {image, properties, &code, translation.get(), kGreys.data()};
  consoles->not_translated = {image, properties, &code};
  consoles->load(game, options);
  consoles->play(3, source);
  if (source.chance(20)) consoles->reset();
  for (int state = 0; state < 4; ++state) {
    doing = "image " + std::to_string(number) + ", state " + std::to_string(state);
    consoles->scramble(source);
    consoles->play(2, source);
  }
}

/// Every game's rules and mode programs on any memory at all.
void rules_survive(Source& source) {
  struct Memory {
    std::array<std::uint8_t, 128> bytes{};
    [[nodiscard]] Int ram(Int address) const noexcept {
      return std::int32_t{bytes[address.bits() & 0x7FU]};
    }
    [[nodiscard]] Int peek(Int address) const noexcept { return ram(address); }
  };
  struct Player : Memory {
    Source* source = nullptr;
    int wanted = 0;
    [[nodiscard]] Int mode() const noexcept { return wanted; }
    Int rng() noexcept { return source->number() & 0x7FFFFFFF; }
    void press_select(int frames) noexcept {
      expect(frames >= 0, "SELECT is held for less than no frames");
      change();
    }
    void press_reset() noexcept { change(); }
    void act(int /*action*/) noexcept { change(); }
    void change() noexcept { bytes[static_cast<std::size_t>(source->below(128))] = source->byte(); }
  };
  for (std::size_t i = 0; i < kGames.size(); ++i) {
    const auto game = static_cast<Game>(i);
    doing = "rules of " + std::string(kGames[i].name);
    start_clock();
    Memory memory;
    RuleState state = kGames[i].on_reset;
    for (int round = 0; round < 2000; ++round) {
      if (round < 3) {
        memory.bytes.fill(source.one_of<std::uint8_t>({0, 0x80, 0xFF}));
      } else {
        source.fill(memory.bytes);
      }
      if (source.chance(20)) {
        for (std::int32_t& value : state) value = source.number();
      }
      update_rules(game, memory, state);
      static_cast<void>(outcome_of(game, state));
    }
    for (const std::int16_t mode : kGames[i].modes) {
      Player player;
      player.source = &source;
      player.wanted = mode;
      source.fill(player.bytes);
      static_cast<void>(choose_mode(game, player, state));
    }
  }
}

void say_what_died() { std::fprintf(stderr, "while doing %s\n", doing.c_str()); }

/// SIGABRT: an assertion of ours or of the library. SIGVTALRM: the clock.
void say_and_die(int signal) {
  std::fprintf(stderr, "signal %d, %s\n", signal, signal == SIGVTALRM ? "too slow" : "aborted");
  say_what_died();
  std::_Exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  const int images = argc > 1 ? std::atoi(argv[1]) : 150;
  const int first = argc > 2 ? std::atoi(argv[2]) : 0;
  __sanitizer_set_death_callback(say_what_died);
  std::signal(SIGABRT, say_and_die);
  std::signal(SIGVTALRM, say_and_die);
  const auto start = std::chrono::steady_clock::now();
  Source source(1);
  rules_survive(source);
  for (int number = first; number < first + images; ++number) image_survives(number);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%zu games' rules, %d images, %d states: no complaint, %.0f s\n", kGames.size(),
              images, 4 * images, seconds.count());
}
