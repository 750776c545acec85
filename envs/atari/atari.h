// One Atari game: a console, somebody who holds the controllers, and the rules that read the score.
// The same reset sequence, sticky actions, generator and order of draws as ale_py.ALEInterface.
//
// Document: console_spec.md 7 (actions), 9 (load, reset, act); rules: games.json.
// Oracle:   tests/oracle/test_atari.py, every game in lockstep with ale-py.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "envs/atari/console.h"
#ifndef __CUDACC__
#include "envs/atari/fast_console.h"
#endif
#include "envs/atari/games_generated.h"
#include "envs/atari/mt19937.h"
#include "envs/atari/rom.h"
#include "envs/atari/rules.h"

namespace fastrl::envs::atari {

/// Actions 0 to 17, in the order of ALE. RESET is a switch on the console and not an agent's.
namespace actions {

inline constexpr int kNoop = 0;
inline constexpr int kNumActions = 18;
inline constexpr int kReset = 40;

constexpr bool is_in(int action, std::uint32_t set) noexcept {
  return action < kNumActions && ((set >> static_cast<unsigned>(action)) & 1U) != 0;
}

inline constexpr std::uint32_t kFire = 0x3FC02;
inline constexpr std::uint32_t kUp = 0x0C4C4;
inline constexpr std::uint32_t kRight = 0x14948;
inline constexpr std::uint32_t kLeft = 0x29290;
inline constexpr std::uint32_t kDown = 0x32320;

}  // namespace actions

struct AtariOptions {
  std::uint32_t seed = 0;
  float repeat_action_probability = 0.25F;
  int frame_skip = 1;
  int max_num_frames_per_episode = 0;  ///< 0: no limit.
  bool truncate_on_loss_of_life = false;
  std::int32_t reward_min = std::numeric_limits<std::int32_t>::min();
  std::int32_t reward_max = std::numeric_limits<std::int32_t>::max();
};

/// The frames that all resets of a cartridge have in common, played once: nobody does anything,
/// RESET is pressed, and after the mode was chosen it is pressed again. Most games clear their
/// memory first, so soon a console is where this one was, and does what this one did.
struct Rehearsal {
  static constexpr int kWait = 60;
  static constexpr int kChoice = kWait + 4;  ///< Before this frame the mode is chosen.
  static constexpr int kFrames = kChoice + 4;
  static constexpr std::array kPlaces{1, 2, 4, kChoice, kFrames};

  static constexpr int action(int frame) noexcept {
    return frame < kWait ? actions::kNoop : actions::kReset;
  }

  /// What the rules see of a frame. What they remember of the game before may matter to them.
  struct Memory {
    std::array<std::uint8_t, 128> riot;
    std::array<std::uint8_t, 128> cart;
  };

  std::array<Console, kPlaces.size()> consoles;  ///< Before these frames.
  std::array<Memory, kFrames> memory;            ///< After these.

  /// The console before a frame, if that is one of kPlaces.
  [[nodiscard]] const Console* before(int frame) const noexcept {
    for (std::size_t i = 0; i < kPlaces.size(); ++i) {
      if (kPlaces[i] == frame) return &consoles[i];
    }
    return nullptr;
  }
};

/// The state of one game, flat, under 100 KB of which 94 are two frames. The cartridge stays
/// outside: every call is given it.
///
/// `Machine` is a console: the plain one of console.h or the fast one of fast_console.h.
template <typename Machine>
struct BasicAtari {
  static constexpr std::int32_t kPaddleMin = 27450;
  static constexpr int kPaddleSpeed = 23000;  ///< A frame.

  Machine console;
  Mt19937 random;  ///< Decides when an action sticks.
  AtariOptions options;
  Game game = Game::kPong;
  int mode = 0;        ///< Takes effect at the next reset.
  int difficulty = 0;  ///< Takes effect at the next frame. Bit 0: left switch at A, bit 1: right.
  RuleState rules{};
  Outcome outcome;
  std::int32_t initial_lives = 0;
  int total_frames = 0;
  int episode_frames = 0;
  bool mode_not_found = false;  ///< The last reset gave up looking for the mode.
  int num_rehearsed = 0;        ///< Frames that the last reset took from a rehearsal.

  /// Inserts the cartridge, powers the console on and resets the game.
  void load(const Rom& rom, Game the_game, const AtariOptions& the_options,
            const Rehearsal* rehearsal = nullptr) noexcept {
    game = the_game;
    options = the_options;
    console.power_on(rom);
    rules = facts().on_reset;
    outcome = outcome_of(game, rules);
    initial_lives = outcome.lives;
    random = Mt19937(options.seed);
    mode = facts().modes.front();
    difficulty = 0;
    remembered_ = {};
    total_frames = 0;
    reset(rom, rehearsal);
  }

  /// With a rehearsal of this cartridge it ends where it ends without one, but sooner.
  void reset(const Rom& rom, const Rehearsal* rehearsal = nullptr) noexcept {
    episode_frames = 0;
    paddles_.fill((kPaddleMin + facts().paddle_max) / 2);
    console.reset(rom);
    num_rehearsed = 0;
    play_opening(rom, rehearsal, 0, Rehearsal::kChoice);
    remembered_ = {};
    for (std::size_t v = 0; v < rules.size(); ++v) {
      if (((facts().touched_by_reset >> v) & 1U) != 0) rules[v] = facts().on_reset[v];
    }
    outcome = outcome_of(game, rules);
    Player player{*this, rom};
    mode_not_found = !choose_mode(game, player, rules);
    play_opening(rom, rehearsal, Rehearsal::kChoice, Rehearsal::kFrames);
    remembered_ = {};
    for (const StartAction& start : facts().start_actions) {
      for (int i = 0; i < start.frames; ++i) play_frame(rom, start.action, 1.0F);
    }
  }

  /// Plays the rehearsal of this cartridge, of the difficulty that is set.
  void rehearse(const Rom& rom, Rehearsal& rehearsal) noexcept {
    paddles_.fill((kPaddleMin + facts().paddle_max) / 2);
    console.reset(rom);
    int frame = 0;
    for (std::size_t i = 0; i < Rehearsal::kPlaces.size(); ++i) {
      for (; frame < Rehearsal::kPlaces[i]; ++frame) {
        play_frame(rom, Rehearsal::action(frame), 0.0F);
        rehearsal.memory[static_cast<std::size_t>(frame)] = {console.riot.ram, console.cart.ram};
      }
      rehearsal.consoles[i] = console.settled();
    }
  }

  /// Plays `options.frame_skip` frames. `strength` is how far the paddle is turned, at most 1.
  /// `seen`: somebody will look at the screen after this; it may be looked at anyhow.
  std::int32_t act(const Rom& rom, int action, float strength = 1.0F, bool seen = true) noexcept {
    std::int64_t reward = 0;
    for (int i = 0; i < options.frame_skip; ++i) {
      if (!sticks()) remembered_ = {action, strength};
      static_cast<void>(sticks());  // Player B's draw. Nobody is there.
      if (terminal() || truncated()) continue;
      const bool legal = actions::is_in(remembered_.action, facts().legal_actions);
      play_frame(rom, legal ? remembered_.action : actions::kNoop, remembered_.strength, seen);
      ++total_frames;
      ++episode_frames;
      reward += outcome.reward;
    }
    return static_cast<std::int32_t>(
        std::clamp<std::int64_t>(reward, options.reward_min, options.reward_max));
  }

  [[nodiscard]] bool terminal() const noexcept { return outcome.terminal; }
  [[nodiscard]] bool truncated() const noexcept {
    const int limit = options.max_num_frames_per_episode;
    return (limit > 0 && episode_frames >= limit) ||
           (options.truncate_on_loss_of_life && lives() < initial_lives);
  }
  [[nodiscard]] std::int32_t lives() const noexcept { return outcome.lives; }
  [[nodiscard]] std::span<const std::uint8_t, 128> ram() const noexcept { return console.riot.ram; }

  /// height() rows of 160 palette indices.
  [[nodiscard]] const std::uint8_t* screen() noexcept { return console.screen(); }
  [[nodiscard]] const std::uint8_t* older_screen() noexcept { return console.older_screen(); }
  [[nodiscard]] Console::Screens grey_screens(const Rom& rom) noexcept {
    return console.grey_screens(rom);
  }
  [[nodiscard]] Rows changed_rows() noexcept { return console.changed_rows(); }
  [[nodiscard]] int height() const noexcept { return console.tia.window_height; }
  [[nodiscard]] const GameFacts& facts() const noexcept {
    return kGames[static_cast<std::size_t>(game)];
  }

 private:
  struct Held {
    int action = actions::kNoop;
    float strength = 0.0F;
  };

  /// What the rules may look at.
  struct Memory {
    const std::array<std::uint8_t, 128>& riot;
    const std::array<std::uint8_t, 128>& cart;

    [[nodiscard]] Int ram(Int address) const noexcept {
      return std::int32_t{riot[address.bits() & 0x7FU]};
    }
    /// Klax: the memory in the cartridge.
    [[nodiscard]] Int peek(Int address) const noexcept {
      return std::int32_t{cart[address.bits() & 0x7FU]};
    }
  };
  [[nodiscard]] Memory memory() const noexcept { return {console.riot.ram, console.cart.ram}; }

  /// Who runs the mode program.
  struct Player {
    BasicAtari& atari;
    const Rom& rom;

    [[nodiscard]] Int mode() const noexcept { return atari.mode; }
    [[nodiscard]] Int ram(Int address) const noexcept { return atari.memory().ram(address); }
    [[nodiscard]] Int peek(Int address) const noexcept { return atari.memory().peek(address); }
    /// A draw without its highest bit: the only use is modulo 256.
    Int rng() noexcept { return Int::wrap(atari.random.next() & 0x7FFFFFFFU); }
    void press_select(int frames) noexcept { atari.press_select(rom, frames); }
    void press_reset() noexcept { atari.press_reset(rom); }
    void act(int action) noexcept { static_cast<void>(atari.act(rom, action)); }
  };

  [[nodiscard]] bool sticks() noexcept {
    const double draw = random.next() / 4294967296.0;
    return draw < static_cast<double>(options.repeat_action_probability);
  }

  [[nodiscard]] Input idle_input() const noexcept {
    Input input;
    input.difficulty = {(difficulty & 1) != 0 ? Difficulty::kA : Difficulty::kB,
                        (difficulty & 2) != 0 ? Difficulty::kA : Difficulty::kB};
    input.paddles[0].resistance = paddles_[0];
    input.paddles[1].resistance = paddles_[1];
    return input;
  }

  void apply(const Rom& rom, int action, float strength) noexcept {
    using namespace actions;
    if (facts().paddles) {
      const auto turn = static_cast<int>(
          kPaddleSpeed * static_cast<double>(strength < 0.0F ? -strength : strength));
      const int delta = is_in(action, kRight) ? -turn : is_in(action, kLeft) ? turn : 0;
      paddles_[0] = std::clamp(paddles_[0] + delta, kPaddleMin, facts().paddle_max);
    }
    Input input = idle_input();
    input.reset = action == kReset;
    input.paddles[0].fire = is_in(action, kFire);
    input.joysticks[0] = {.up = is_in(action, kUp),
                          .down = is_in(action, kDown),
                          .left = is_in(action, kLeft),
                          .right = is_in(action, kRight),
                          .fire = is_in(action, kFire)};
    console.set_input(rom, input);
  }

  /// One frame, after which the rules look at memory.
  void play_frame(const Rom& rom, int action, float strength, bool seen = false) noexcept {
    apply(rom, action, strength);
    console.update(rom, seen);
    update_rules(game, memory(), rules);
    outcome = outcome_of(game, rules);
    console.bus = ram().back();  // The reference reads memory over the bus, upwards.
  }

  /// Plays these frames, or takes over what came of them.
  void play_opening(const Rom& rom, const Rehearsal* rehearsal, int frame, int end) noexcept {
    for (; frame < end; ++frame) {
      const Console* const other = rehearsal != nullptr ? rehearsal->before(frame) : nullptr;
      if (other != nullptr && console.is_at(rom, *other)) return follow(*rehearsal, frame, end);
      play_frame(rom, Rehearsal::action(frame), 0.0F);
    }
  }
  void follow(const Rehearsal& rehearsal, int frame, int end) noexcept {
    console.go_on_from(*rehearsal.before(end));
    for (; frame < end; ++frame, ++num_rehearsed) {
      const auto& [riot, cart] = rehearsal.memory[static_cast<std::size_t>(frame)];
      update_rules(game, Memory{riot, cart}, rules);
    }
    outcome = outcome_of(game, rules);
  }

  void press_reset(const Rom& rom) noexcept {
    for (int i = 0; i < 4; ++i) play_frame(rom, actions::kReset, 0.0F);
    remembered_ = {};
  }

  /// The rules do not see the frames while SELECT is down.
  void press_select(const Rom& rom, int frames) noexcept {
    Input input = idle_input();
    input.select = true;
    console.set_input(rom, input);
    for (int i = 0; i < frames; ++i) console.update(rom, false);
    play_frame(rom, actions::kNoop, 0.0F);
    ++total_frames;
    ++episode_frames;
  }

  Held remembered_;
  std::array<std::int32_t, 2> paddles_{};
};

using PlainAtari = BasicAtari<Console>;
static_assert(std::is_trivially_copyable_v<PlainAtari>);
static_assert(sizeof(PlainAtari) < 100 * 1024);

#ifndef __CUDACC__  // The fast console is made for a CPU: handlers behind pointers.
using FastAtari = BasicAtari<FastConsole>;
static_assert(std::is_trivially_copyable_v<FastAtari>);
static_assert(sizeof(FastAtari) < 160 * 1024);
#endif

}  // namespace fastrl::envs::atari
