// The environment pool: N copies of a game, stepped by a few threads (any_pool.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <random>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "csrc/core/env.h"
#include "csrc/core/rng.h"
#include "csrc/pool/any_pool.h"
#include "csrc/pool/batch.h"
#include "csrc/pool/queue.h"

namespace fastrl {

/// The pool of one game.
template <PoolableEnv E>
class Pool final : public AnyPool {
 public:
  /// Every environment starts as a copy of `prototype`, which carries the game's options.
  Pool(PoolConfig config, const E& prototype)
      : AnyPool(std::move(config), E::kObsSize), slots_(index(this->config().num_envs)) {
    std::random_device entropy;
    const std::uint64_t first = (std::uint64_t{entropy()} << 32U) | entropy();
    for (std::size_t env = 0; env < slots_.size(); ++env) {
      slots_[env].game = prototype;
      slots_[env].rng = Rng(first + env);
    }
    start_workers();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() override { close(); }

  [[nodiscard]] int num_actions() const noexcept override { return E::kNumActions; }
  [[nodiscard]] int obs_high() const noexcept override { return fastrl::obs_high<E>(); }
  [[nodiscard]] std::vector<int> obs_shape() const override {
    return {E::kObsShape.begin(), E::kObsShape.end()};
  }

 protected:
  void run_chunk(std::span<const Task> tasks) override {
    if (tasks.front().batch != nullptr) {
      for (const Task& task : tasks) {
        const auto slot = index(task.slot);
        write(task.env, advance(task.env, task.action), *task.batch, slot);
      }
      complete(*tasks.front().batch, tasks.size());
      return;
    }
    // Asynchronous: step first, then take the next free slots, so that a slow environment delays
    // no batch but the one it ends up in.
    thread_local std::vector<Transition> results;
    results.clear();
    for (const Task& task : tasks) results.push_back(advance(task.env, task.action));
    for (std::size_t i = 0; i < tasks.size();) {
      const Claim slots = claim(tasks.size() - i);
      for (std::size_t k = 0; k < slots.count; ++k, ++i) {
        write(tasks[i].env, results[i], *slots.batch, slots.first + k);
      }
      complete(*slots.batch, slots.count);
    }
  }

  void run_range(std::size_t first, std::size_t last, std::span<const std::int32_t> actions,
                 Batch& batch) override {
    for (std::size_t env = first; env < last; ++env) {
      const int id = static_cast<int>(env);
      write(id, advance(id, actions[env]), batch, env);
    }
  }

  [[nodiscard]] bool ended(int env) const noexcept override { return slots_[index(env)].ended; }
  void seed(int env, std::uint64_t seed) noexcept override { slots_[index(env)].rng = Rng(seed); }
  [[nodiscard]] std::size_t slot_size() const noexcept override { return sizeof(Slot); }
  void save_slot(int env, std::byte* to) const noexcept override {
    Slot slot = slots_[index(env)];
#if __has_builtin(__builtin_clear_padding)
    __builtin_clear_padding(&slot);  // Equal states are equal bytes.
#endif
    std::memcpy(to, &slot, sizeof(Slot));
  }
  void load_slot(int env, const std::byte* from) noexcept override {
    std::memcpy(&slots_[index(env)], from, sizeof(Slot));
  }

 private:
  /// All that one environment is: a copy is a snapshot.
  struct Slot {
    E game;
    Rng rng;
    Episode episode;
    bool ended = false;  ///< The episode is over: reset before the next step.
  };
  static_assert(std::is_trivially_copyable_v<Slot>);

  static void start(Slot& slot) {
    slot.game.reset(slot.rng);
    slot.episode = {};
    slot.ended = false;
  }

  /// Steps or resets, short of reporting it. A game that throws has ended its episode.
  Transition advance(int env, int action) noexcept {
    Slot& slot = slots_[index(env)];
    try {
      if (action == Task::kObserve) return {};
      if (action == Task::kReset || (slot.ended && config().autoreset == Autoreset::kNextStep)) {
        start(slot);
        return {};
      }
      Transition result = slot.game.step(action, slot.rng);
      slot.episode.total_reward += static_cast<double>(result.reward);
      ++slot.episode.length;
      if (slot.episode.length == config().max_episode_steps && !result.terminated) {
        result.truncated = true;
      }
      if (result.terminated || result.truncated) slot.ended = true;
      return result;
    } catch (...) {
      slot.ended = true;
      fail(std::current_exception());
      return {};
    }
  }

  void write(int env, const Transition& result, Batch& batch, std::size_t at) noexcept {
    Slot& slot = slots_[index(env)];
    const bool over = result.terminated || result.truncated;
    try {
      if (config().autoreset == Autoreset::kSameStep) {
        batch.ended[at] = static_cast<std::uint8_t>(over);
        if (over) {
          slot.game.observe(observation(batch.final_obs.data(), at));
          batch.final_return[at] = slot.episode.total_reward;
          batch.final_length[at] = slot.episode.length;
          batch.num_ended.fetch_add(1, std::memory_order_relaxed);
          start(slot);
        }
      }
      slot.game.observe(observation(batch.to.obs, at));
    } catch (...) {
      slot.ended = true;
      fail(std::current_exception());
    }
    batch.to.reward[at] = result.reward;
    batch.to.terminated[at] = static_cast<std::uint8_t>(result.terminated);
    batch.to.truncated[at] = static_cast<std::uint8_t>(result.truncated);
    batch.env_id[at] = env;
    batch.raw_reward[at] = result.reward;
    batch.game_over[at] = static_cast<std::uint8_t>(over);
    batch.episode_return[at] = slot.episode.total_reward;
    batch.episode_length[at] = slot.episode.length;
  }

  static std::span<std::uint8_t, E::kObsSize> observation(std::uint8_t* obs, std::size_t at) {
    return std::span<std::uint8_t, E::kObsSize>(obs + at * E::kObsSize, E::kObsSize);
  }

  std::vector<Slot> slots_;
};

}  // namespace fastrl
