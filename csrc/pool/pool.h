// The environment pool: N copies of a game, stepped by a few threads (any_pool.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "csrc/core/env.h"
#include "csrc/pool/any_pool.h"
#include "csrc/pool/batch.h"
#include "csrc/pool/plain.h"
#include "csrc/pool/queue.h"

namespace fastrl {

/// The pool of a game: a `PoolableEnv` or a `HostedEnv`.
template <typename E>
class Pool final : public AnyPool {
  using Game = Hosted<E>;
  static_assert(HostedEnv<Game>);

 public:
  using Shared = typename Game::Shared;

  /// `shared`: what all environments have in common; for a `PoolableEnv` the state that each starts
  /// as, which carries the game's options.
  Pool(PoolConfig config, Shared shared)
      : AnyPool(std::move(config), volume(shared.obs_shape()), Game::kInfo.size()),
        shared_(std::move(shared)),
        obs_size_(volume(shared_.obs_shape())),
        memory_stride_((shared_.memory_size() + kCacheLine - 1) / kCacheLine * kCacheLine),
        memory_(memory_stride_ * index(this->config().num_envs)) {
    std::random_device entropy;
    const std::uint64_t first = (std::uint64_t{entropy()} << 32U) | entropy();
    slots_.reserve(index(this->config().num_envs));
    for (int env = 0; env < this->config().num_envs; ++env) {
      slots_.push_back({.game = Game(shared_, env, first + index(env))});
    }
    start_workers();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() override { close(); }

  [[nodiscard]] int num_actions() const noexcept override { return shared_.num_actions(); }
  [[nodiscard]] int obs_high() const noexcept override { return shared_.obs_high(); }
  [[nodiscard]] std::vector<int> obs_shape() const override { return shared_.obs_shape(); }
  [[nodiscard]] std::vector<std::string> info_names() const override {
    return {Game::kInfo.begin(), Game::kInfo.end()};
  }
  [[nodiscard]] std::uint64_t max_seed() const noexcept override { return Game::kMaxSeed; }
  [[nodiscard]] std::vector<std::array<float, 2>> action_bounds() const override {
    if constexpr (requires { shared_.action_bounds(); }) return shared_.action_bounds();
    return {};
  }
  [[nodiscard]] Action action_of(std::span<const float> values) const noexcept override {
    if constexpr (requires { shared_.action_of(values); }) return shared_.action_of(values);
    return {};
  }
  [[nodiscard]] bool can_render() const noexcept override { return kHasScreen; }

 protected:
  void run_chunk(std::span<const Task> tasks) override {
    if (tasks.front().batch != nullptr) {
      for (const Task& task : tasks) {
        const auto slot = index(task.slot);
        write(task.env, advance(task.env, action_in(task)), *task.batch, slot);
      }
      complete(*tasks.front().batch, tasks.size());
      return;
    }
    // Asynchronous: step first, then take the next free slots, so that a slow environment delays
    // no batch but the one it ends up in.
    thread_local std::vector<GameTransition> results;
    results.clear();
    for (const Task& task : tasks) results.push_back(advance(task.env, action_in(task)));
    for (std::size_t i = 0; i < tasks.size();) {
      const Claim slots = claim(tasks.size() - i);
      for (std::size_t k = 0; k < slots.count; ++k, ++i) {
        write(tasks[i].env, results[i], *slots.batch, slots.first + k);
      }
      complete(*slots.batch, slots.count);
    }
  }

  void run_range(std::size_t first, std::size_t last, std::span<const Action> actions,
                 Batch& batch) override {
    for (std::size_t env = first; env < last; ++env) {
      const int id = static_cast<int>(env);
      write(id, advance(id, actions[env]), batch, env);
    }
  }

  [[nodiscard]] bool ended(int env) const noexcept override { return slots_[index(env)].ended; }
  void seed(int env, std::uint64_t seed) noexcept override { slots_[index(env)].game.seed(seed); }
  [[nodiscard]] std::size_t slot_size() const noexcept override {
    return sizeof(Slot) + shared_.memory_size();
  }
  void save_slot(int env, std::byte* to) const noexcept override {
    // With its padding: GCC 12's __builtin_clear_padding also clears data behind an array of
    // arrays.
    std::memcpy(to, &slots_[index(env)], sizeof(Slot));
    if (shared_.memory_size() != 0) {
      std::memcpy(to + sizeof(Slot), memory_.data() + memory_stride_ * index(env),
                  shared_.memory_size());
    }
  }
  [[nodiscard]] bool fits_slot(int env, const std::byte* from) const noexcept override {
    if constexpr (requires(const Game& game) { game.kind(); }) {
      Slot slot = slots_[index(env)];
      std::memcpy(&slot, from, sizeof(Slot));
      return slot.game.kind() == slots_[index(env)].game.kind();
    }
    return true;
  }
  void load_slot(int env, const std::byte* from) noexcept override {
    std::memcpy(&slots_[index(env)], from, sizeof(Slot));
    if (shared_.memory_size() != 0) {
      std::memcpy(memory_.data() + memory_stride_ * index(env), from + sizeof(Slot),
                  shared_.memory_size());
    }
  }
  [[nodiscard]] Frame draw(int env) override {
    Frame frame;
    if constexpr (kHasScreen) {
      Game& game = slots_[index(env)].game;
      frame.height = game.frame_height(lend(env));
      frame.width = Game::kFrameWidth;
      frame.rgb.resize(3 * index(frame.height) * index(frame.width));
      game.render(lend(env), frame.rgb);
    }
    return frame;
  }

 private:
  static constexpr std::size_t kCacheLine = 64;
  static constexpr bool kHasScreen = requires { Game::kFrameWidth; };

  /// All that one environment is, but for its memory: a copy of both is a snapshot.
  struct Slot {
    Game game;
    Episode episode{};
    bool ended = false;  ///< The game is over: reset before the next step.
  };
  static_assert(std::is_trivially_copyable_v<Slot>);

  static std::size_t volume(const std::vector<int>& shape) {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1},
                           [](std::size_t product, int n) { return product * index(n); });
  }

  static Action action_in(const Task& task) noexcept {
    return {.number = task.action, .strength = task.strength};
  }

  [[nodiscard]] Lent<Shared> lend(int env) {
    return {.shared = shared_,
            .memory = {memory_.data() + memory_stride_ * index(env), shared_.memory_size()},
            .scratch = scratch(shared_.scratch_size())};
  }

  static std::span<float> scratch(std::size_t size) {
    if (size == 0) return {};
    thread_local std::vector<float> floats;
    if (floats.size() < size) floats.resize(size);
    return std::span(floats).first(size);
  }

  void start(int env) {
    Slot& slot = slots_[index(env)];
    slot.game.reset(lend(env));
    slot.episode = {};
    slot.ended = false;
  }

  /// Steps or resets, short of reporting it. A game that throws has ended its episode.
  GameTransition advance(int env, Action action) noexcept {
    Slot& slot = slots_[index(env)];
    try {
      if (action.number == Task::kObserve) return {};
      if (action.number == Task::kReset ||
          (slot.ended && config().autoreset == Autoreset::kNextStep)) {
        start(env);
        return {};
      }
      GameTransition result = slot.game.step(lend(env), action);
      slot.episode.total_reward += static_cast<double>(result.raw_reward);
      ++slot.episode.length;
      if (slot.episode.length == config().max_episode_steps && !result.told.terminated) {
        result.told.truncated = true;
        result.game_over = true;
      }
      if (result.game_over) slot.ended = true;
      return result;
    } catch (...) {
      slot.ended = true;
      fail(std::current_exception());
      return {};
    }
  }

  void write(int env, const GameTransition& result, Batch& batch, std::size_t at) noexcept {
    Slot& slot = slots_[index(env)];
    const Transition& told = result.told;
    try {
      if (config().autoreset == Autoreset::kSameStep) {
        const bool over = told.terminated || told.truncated;
        batch.ended[at] = static_cast<std::uint8_t>(over);
        if (over) {
          slot.game.observe(lend(env), observation(batch.final_obs.data(), at));
          batch.final_return[at] = slot.episode.total_reward;
          batch.final_length[at] = slot.episode.length;
          write_info(slot.game, batch.final_columns, batch.size, at);
          batch.num_ended.fetch_add(1, std::memory_order_relaxed);
        }
        if (result.game_over) start(env);
      }
      slot.game.observe(lend(env), observation(batch.to.obs, at));
    } catch (...) {
      slot.ended = true;
      fail(std::current_exception());
    }
    batch.to.reward[at] = told.reward;
    batch.to.terminated[at] = static_cast<std::uint8_t>(told.terminated);
    batch.to.truncated[at] = static_cast<std::uint8_t>(told.truncated);
    batch.env_id[at] = env;
    batch.raw_reward[at] = result.raw_reward;
    batch.game_over[at] = static_cast<std::uint8_t>(result.game_over);
    batch.episode_return[at] = slot.episode.total_reward;
    batch.episode_length[at] = slot.episode.length;
    write_info(slot.game, batch.columns, batch.size, at);
  }

  static void write_info(const Game& game, std::vector<std::int32_t>& columns, std::size_t size,
                         std::size_t at) noexcept {
    if constexpr (Game::kInfo.size() != 0) {
      const auto values = game.info();
      for (std::size_t c = 0; c < values.size(); ++c) columns[c * size + at] = values[c];
    }
  }

  [[nodiscard]] std::span<std::uint8_t> observation(std::uint8_t* obs, std::size_t at) const {
    return {obs + at * obs_size_, obs_size_};
  }

  const Shared shared_;
  const std::size_t obs_size_;
  const std::size_t memory_stride_;
  std::vector<std::uint8_t> memory_;  ///< (num_envs, memory_stride_)
  std::vector<Slot> slots_;
};

}  // namespace fastrl
