// The pool without Python, so that the sanitizers see all of it: `make native` builds and runs this
// under ASan+UBSan and under TSan.
#include "csrc/pool/pool.h"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "csrc/core/hash.h"
#include "envs/atari/atari_env.h"
#include "envs/catch/catch.h"
#include "envs/minatar/asterix.h"
#include "envs/minatar/breakout.h"
#include "envs/minatar/freeway.h"
#include "envs/minatar/minimal_actions.h"
#include "envs/minatar/seaquest.h"
#include "envs/minatar/space_invaders.h"

namespace fastrl {
namespace {

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) {                                                           \
      std::fprintf(stderr, "%s:%d: CHECK(%s)\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                               \
    }                                                                             \
  } while (false)

template <typename Error>
std::string raised(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  std::fprintf(stderr, "nothing was raised\n");
  std::abort();
}

const AnyPool::Interrupt kNever = [] {};

/// Counts its steps; action 1 throws, action 2 takes 50 ms, action 3 ends the episode.
struct Awkward {
  static constexpr int kNumActions = 4;
  static constexpr std::array<int, 1> kObsShape{1};
  static constexpr std::size_t kObsSize = 1;
  int steps = 0;

  void reset(Rng& /*rng*/) { steps = 0; }
  Transition step(int action, Rng& /*rng*/) {
    ++steps;
    if (action == 1) throw std::runtime_error("the game broke");
    if (action == 2) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return {.reward = 1.0F, .terminated = action == 3};
  }
  void observe(std::span<std::uint8_t, kObsSize> obs) const {
    obs[0] = static_cast<std::uint8_t>(steps);
  }
};

/// Has bytes behind an array of arrays, some of them padding. Action 0 fills the others, action 1
/// leaves them; what is seen is the least.
struct Ragged {
  static constexpr int kNumActions = 2;
  static constexpr std::array<int, 1> kObsShape{1};
  static constexpr std::size_t kObsSize = 1;
  std::array<std::array<std::uint8_t, 60>, 2> rows{};
  std::uint8_t behind = 0;
  struct Padded {
    int number = 0;
    char letter = 0;
  };
  std::array<Padded, 8> padded{};

  void reset(Rng& /*rng*/) { *this = {}; }
  Transition step(int action, Rng& /*rng*/) {
    if (action == 1) return {};
    for (auto& row : rows) row.fill(7);
    behind = 7;
    padded.fill({7, 7});
    return {};
  }
  void observe(std::span<std::uint8_t, kObsSize> obs) const {
    obs[0] = behind;
    for (const auto& row : rows) obs[0] = std::min(obs[0], std::ranges::min(row));
    for (const auto& [number, letter] : padded) {
      obs[0] =
          std::min({obs[0], static_cast<std::uint8_t>(number), static_cast<std::uint8_t>(letter)});
    }
  }
};

/// Counts, up to a limit that all share, the strength of its actions; keeps what it counted in its
/// memory. Every third step loses a life. Environments begin with their index.
struct Counter {
  struct Shared {
    int depth = 4;  ///< Counts that are remembered.
    int limit = 200;

    [[nodiscard]] int num_actions() const noexcept { return 2; }
    [[nodiscard]] int obs_high() const noexcept { return 255; }
    [[nodiscard]] std::vector<int> obs_shape() const { return {depth}; }
    [[nodiscard]] std::size_t memory_size() const noexcept {
      return static_cast<std::size_t>(depth);
    }
    [[nodiscard]] std::size_t scratch_size() const noexcept { return 1; }
    [[nodiscard]] std::vector<std::array<float, 2>> action_bounds() const { return {{0.0F, 9.0F}}; }
    [[nodiscard]] Action action_of(std::span<const float> values) const noexcept {
      return {.number = 1, .strength = values[0]};
    }
  };
  static constexpr std::array<const char*, 2> kInfo{"count", "resets"};
  static constexpr std::uint64_t kMaxSeed = 100;
  static constexpr int kFrameWidth = 2;

  int count = 0;
  int steps = 0;
  int resets = 0;
  int next_start = 0;

  Counter(const Shared& /*shared*/, int index, std::uint64_t /*seed*/) noexcept
      : next_start(index) {}

  void seed(std::uint64_t value) noexcept { next_start = static_cast<int>(value); }
  void reset(const Lent<Shared>& lent) noexcept {
    count = next_start;
    steps = 0;
    ++resets;
    std::ranges::fill(lent.memory, std::uint8_t{0});
  }
  GameTransition step(const Lent<Shared>& lent, Action action) noexcept {
    lent.scratch[0] = action.number == 0 ? 1.0F : action.strength;
    count += static_cast<int>(lent.scratch[0]);
    lent.memory[static_cast<std::size_t>(steps % lent.shared.depth)] =
        static_cast<std::uint8_t>(count);
    const bool lost_life = ++steps % 3 == 0;
    const bool over = count >= lent.shared.limit;
    return {.told = {.reward = 1.0F, .terminated = over || lost_life},
            .raw_reward = lent.scratch[0],
            .game_over = over};
  }
  void observe(const Lent<Shared>& lent, std::span<std::uint8_t> obs) const noexcept {
    std::ranges::copy(lent.memory, obs.begin());
  }
  [[nodiscard]] std::array<std::int32_t, 2> info() const noexcept { return {count, resets}; }
  [[nodiscard]] int frame_height(const Lent<Shared>& lent) const noexcept {
    return lent.shared.depth;
  }
  void render(const Lent<Shared>& /*lent*/, std::span<std::uint8_t> rgb) const noexcept {
    std::ranges::fill(rgb, static_cast<std::uint8_t>(count));
  }
};
static_assert(HostedEnv<Counter> && !PoolableEnv<Counter> && !HostedEnv<envs::Catch>);

PoolConfig config(int num_envs, int batch_size, int num_threads,
                  Autoreset autoreset = Autoreset::kNextStep) {
  PoolConfig made;
  made.id = made.identity = "test";
  made.num_envs = num_envs;
  made.batch_size = batch_size;
  made.num_threads = num_threads;
  made.num_cpus = 16;  // All threads run, also on a small machine.
  made.autoreset = autoreset;
  return made;
}

std::vector<Action> same(int count, std::int64_t number) {
  return std::vector<Action>(static_cast<std::size_t>(count), Action{.number = number});
}

std::vector<std::int64_t> ids_of(const Batch& batch) {
  return {batch.env_id.begin(), batch.env_id.end()};
}

std::vector<std::uint64_t> seeds(int count) {
  std::vector<std::uint64_t> made(static_cast<std::size_t>(count));
  std::iota(made.begin(), made.end(), 7U);
  return made;
}

/// The action of environment `env` at its step `t`: the same for every pool.
std::int64_t policy(std::int64_t env, int t) { return (env * 31 + t * 17) % 3; }

/// Every environment's history (observation hash, reward), stepped in the way the config says.
std::vector<std::vector<std::uint64_t>> play(const PoolConfig& how, int num_steps) {
  Pool<envs::Catch> pool(how, {});
  const int n = how.num_envs;
  std::vector<std::vector<std::uint64_t>> history(static_cast<std::size_t>(n));
  std::vector<int> steps(static_cast<std::size_t>(n));
  const auto record = [&](const Batch& batch) {
    for (std::size_t i = 0; i < batch.size; ++i) {
      const auto env = static_cast<std::size_t>(batch.env_id[i]);
      const std::span obs(batch.to.obs + i * batch.obs_size, batch.obs_size);
      history[env].push_back(hash_bytes(std::as_bytes(obs)) +
                             static_cast<std::uint64_t>(batch.to.reward[i] + 1.0F));
    }
  };
  if (pool.synchronous()) {
    record(*pool.reset(seeds(n), {}, {}, kNever));
    for (int t = 0; t < num_steps; ++t) {
      std::vector<Action> actions;
      for (int env = 0; env < n; ++env) actions.push_back({.number = policy(env, t)});
      record(*pool.step(actions, {}, kNever));
    }
    return history;
  }
  pool.async_reset(seeds(n), kNever);
  for (bool busy = true; busy;) {
    const BatchPtr batch = pool.recv(30.0, kNever);
    record(*batch);
    std::vector<Action> actions;
    for (const std::int64_t env : ids_of(*batch)) {
      actions.push_back({.number = policy(env, steps[static_cast<std::size_t>(env)]++)});
    }
    pool.send(actions, ids_of(*batch), {});
    busy = false;
    for (const auto& one : history)
      busy = busy || one.size() <= static_cast<std::size_t>(num_steps);
  }
  for (auto& one : history) one.resize(static_cast<std::size_t>(num_steps) + 1);
  return history;
}

void results_do_not_depend_on_threads_or_batch_size() {
  const auto expected = play(config(13, 0, 1), 60);
  for (const int threads : {1, 2, 3, 8, 13}) {
    for (const int batch : {0, 1, 5, 12}) CHECK(play(config(13, batch, threads), 60) == expected);
  }
}

/// A queue for eight environments and two threads in which a task is a chunk of its own.
struct SmallQueue {
  TaskQueue queue{8, 2};
  std::vector<Task> chunk;

  SmallQueue() {
    queue.report_cost(1, 1e9);
    queue.push(8, 0, [](std::size_t i) { return Task{.env = static_cast<std::int32_t>(i)}; });
  }
  std::int32_t take(std::size_t own) {
    CHECK(queue.take(own, chunk) && chunk.size() == 1);
    return chunk.front().env;
  }
};

void a_thread_takes_the_environments_of_its_own_lane_first() {
  SmallQueue small;
  for (const std::int32_t env : {4, 5}) CHECK(small.take(1) == env);
  for (const std::int32_t env : {0, 1, 2}) CHECK(small.take(0) == env);
  for (const std::int32_t env : {6, 7, 3}) CHECK(small.take(1) == env);
}

void threads_spread_over_the_lanes() {
  TaskQueue queue(8, 2);
  for (const std::size_t lane : {0U, 1U, 0U, 1U, 0U}) CHECK(queue.join() == lane);
}

void no_environment_falls_behind_in_another_lane() {
  SmallQueue small;
  std::array<int, 8> taken{};
  for (int i = 0; i < 600; ++i) {
    const std::int32_t env = small.take(1);
    ++taken[static_cast<std::size_t>(env)];
    small.queue.push(1, 0, [&](std::size_t /*i*/) { return Task{.env = env}; });
    const auto [least, most] = std::ranges::minmax(taken);
    CHECK(most <= 3 * (least + 1));
  }
}

void a_throwing_env_raises_in_step() {
  Pool<Awkward> pool(config(8, 0, 4), {});
  static_cast<void>(pool.reset({}, {}, {}, kNever));
  std::vector<Action> actions = same(8, 0);
  actions[5].number = 1;
  for (int i = 0; i < 50; ++i) {
    CHECK(raised<std::runtime_error>([&] { static_cast<void>(pool.step(actions, {}, kNever)); }) ==
          "the game broke");
    // The pool lives on, and NextStep resets the one that broke.
    CHECK(pool.step(same(8, 0), {}, kNever)->to.obs[5] == 0);
  }
}

void a_throwing_env_raises_in_recv() {
  for (const int batch_size : {0, 1, 3}) {
    Pool<Awkward> pool(config(8, batch_size, 4), {});
    pool.async_reset({}, kNever);
    const BatchPtr batch = pool.recv(30.0, kNever);
    pool.send(same(static_cast<int>(batch->size), 1), ids_of(*batch), {});
    CHECK(raised<std::runtime_error>([&] {
            for (int i = 0; i < 8; ++i) static_cast<void>(pool.recv(30.0, kNever));
          }) == "the game broke");
    CHECK(pool.reset({}, {}, {}, kNever)->size == 8);
  }
}

void recv_times_out_and_loses_nothing() {
  Pool<Awkward> pool(config(4, 0, 2), {});
  static_cast<void>(pool.reset({}, {}, {}, kNever));
  const std::vector<std::int64_t> all{0, 1, 2, 3};
  pool.send(same(4, 2), all, {});
  static_cast<void>(raised<TimeoutError>([&] { static_cast<void>(pool.recv(0.001, kNever)); }));
  const BatchPtr batch = pool.recv(30.0, kNever);
  for (const auto steps : std::span(batch->to.obs, 4)) CHECK(steps == 1);
}

void recv_refuses_to_wait_for_ever() {
  Pool<Awkward> pool(config(4, 2, 2), {});
  static_cast<void>(pool.reset({}, {}, {}, kNever));
  CHECK(raised<std::runtime_error>([&] {
          static_cast<void>(pool.recv(std::nullopt, kNever));
        }).find("in flight") != std::string::npos);
}

void an_interrupt_stops_recv_and_loses_nothing() {
  Pool<Awkward> pool(config(4, 0, 1), {});
  static_cast<void>(pool.reset({}, {}, {}, kNever));
  const std::vector<std::int64_t> all{0, 1, 2, 3};
  pool.send(same(4, 2), all, {});  // 200 ms on one thread; an interrupt is looked for each 100.
  const AnyPool::Interrupt stop = [] { throw std::logic_error("ctrl-c"); };
  CHECK(raised<std::logic_error>([&] { static_cast<void>(pool.recv(30.0, stop)); }) == "ctrl-c");
  CHECK(pool.recv(30.0, kNever)->to.obs[3] == 1);
}

void an_interrupt_of_step_waits_for_the_workers() {
  Pool<Awkward> pool(config(8, 0, 2), {});
  static_cast<void>(pool.reset({}, {}, {}, kNever));
  const std::vector<Action> actions = same(8, 2);
  const AnyPool::Interrupt stop = [] { throw std::logic_error("ctrl-c"); };
  try {
    static_cast<void>(pool.step(actions, {}, stop));
  } catch (const std::logic_error&) {  // Only when the other thread was the later one.
  }
  CHECK(pool.step(same(8, 0), {}, kNever)->to.obs[7] == 2);
}

void close_wakes_a_waiting_recv() {
  for (int i = 0; i < 20; ++i) {
    Pool<Awkward> pool(config(2, 0, 2), {});
    static_cast<void>(pool.reset({}, {}, {}, kNever));
    const std::vector<std::int64_t> both{0, 1};
    pool.send(same(2, 2), both, {});
    std::thread closer([&] { pool.close(); });
    try {
      static_cast<void>(pool.recv(30.0, kNever));
    } catch (const std::runtime_error&) {  // Closed while, or before, it waited.
    }
    closer.join();
    pool.close();
    CHECK(raised<std::runtime_error>([&] {
            static_cast<void>(pool.recv(1.0, kNever));
          }).find("closed") != std::string::npos);
  }
}

void pools_come_and_go() {
  for (int i = 0; i < 1000; ++i) {
    Pool<envs::Catch> pool(config(1 + i % 9, i % 3 == 0 ? 1 : 0, 1 + i % 5), {});
    if (i % 4 == 0) continue;
    pool.async_reset({}, kNever);
    if (i % 4 == 1) continue;  // Dropped with work in flight.
    static_cast<void>(pool.recv(30.0, kNever));
  }
}

void a_batch_outlives_its_pool_and_is_not_reused_while_held() {
  BatchPtr kept;
  {
    Pool<Awkward> pool(config(3, 0, 2), {});
    static_cast<void>(pool.reset({}, {}, {}, kNever));
    kept = pool.step(same(3, 0), {}, kNever);
    for (int i = 0; i < 5; ++i) CHECK(pool.step(same(3, 0), {}, kNever)->to.obs != kept->to.obs);
  }
  for (const auto steps : std::span(kept->to.obs, 3)) CHECK(steps == 1);
}

void the_callers_memory_is_written() {
  Pool<Awkward> pool(config(3, 0, 2), {});
  static_cast<void>(pool.reset({}, {}, {}, kNever));
  std::array<std::uint8_t, 3> obs{};
  std::array<float, 3> reward{};
  static_cast<void>(pool.step(same(3, 0), {.obs = obs.data(), .reward = reward.data()}, kNever));
  for (std::size_t i = 0; i < 3; ++i) CHECK(obs[i] == 1 && reward[i] == 1.0F);
}

void every_mode_resets_as_it_says() {
  {
    Pool<Awkward> pool(config(2, 0, 1, Autoreset::kNextStep), {});
    static_cast<void>(pool.reset({}, {}, {}, kNever));
    BatchPtr end = pool.step(same(2, 3), {}, kNever);
    CHECK(end->to.obs[0] == 1 && end->to.terminated[0] == 1 && end->episode_length[0] == 1);
    BatchPtr start = pool.step(same(2, 3), {}, kNever);
    CHECK(start->to.obs[0] == 0 && start->to.terminated[0] == 0 && start->to.reward[0] == 0.0F);
  }
  {
    Pool<Awkward> pool(config(2, 0, 1, Autoreset::kSameStep), {});
    static_cast<void>(pool.reset({}, {}, {}, kNever));
    BatchPtr end = pool.step(same(2, 3), {}, kNever);
    CHECK(end->to.obs[0] == 0 && end->to.terminated[0] == 1 && end->num_ended == 2);
    CHECK(end->final_obs[0] == 1 && end->final_length[0] == 1 && end->episode_length[0] == 0);
  }
  {
    Pool<Awkward> pool(config(2, 0, 1, Autoreset::kDisabled), {});
    static_cast<void>(pool.reset({}, {}, {}, kNever));
    static_cast<void>(pool.step(same(2, 3), {}, kNever));
    static_cast<void>(raised<std::invalid_argument>(
        [&] { static_cast<void>(pool.step(same(2, 0), {}, kNever)); }));
    const std::vector<std::uint8_t> second{0, 1};
    BatchPtr batch = pool.reset({}, second, {}, kNever);
    CHECK(batch->to.obs[0] == 1 && batch->to.obs[1] == 0);
  }
}

void a_snapshot_replays() {
  Pool<envs::Catch> pool(config(6, 0, 3), {});
  static_cast<void>(pool.reset(seeds(6), {}, {}, kNever));
  const std::vector<std::byte> state = pool.get_state({});
  std::vector<std::uint8_t> first;
  std::vector<std::uint8_t> second;
  for (std::vector<std::uint8_t>* played : {&first, &second}) {
    pool.set_state(state, {});
    for (int t = 0; t < 40; ++t) {
      const BatchPtr batch = pool.step(same(6, t % 3), {}, kNever);
      played->insert(played->end(), batch->obs.begin(), batch->obs.end());
    }
  }
  CHECK(first == second);
}

void a_snapshot_loses_no_byte() {
  Pool<Ragged> pool(config(2, 0, 1), {});
  static_cast<void>(pool.reset(seeds(2), {}, {}, kNever));
  static_cast<void>(pool.step(same(2, 0), {}, kNever));
  pool.set_state(pool.get_state({}), {});
  CHECK(pool.step(same(2, 1), {}, kNever)->obs == std::vector<std::uint8_t>(2, 7));
}

void a_damaged_snapshot_is_refused() {
  Pool<envs::Catch> pool(config(2, 0, 1), {});
  static_cast<void>(pool.reset(seeds(2), {}, {}, kNever));
  const std::vector<std::byte> state = pool.get_state({});
  for (std::size_t at = 0; at < state.size(); ++at) {
    std::vector<std::byte> damaged = state;
    damaged[at] ^= std::byte{0x40};
    static_cast<void>(raised<std::invalid_argument>([&] { pool.set_state(damaged, {}); }));
    damaged.resize(at);
    static_cast<void>(raised<std::invalid_argument>([&] { pool.set_state(damaged, {}); }));
  }
  CHECK(pool.get_state({}) == state);
}

void a_hosted_game_has_shapes_memory_and_infos_of_its_own() {
  Pool<Counter> pool(config(3, 0, 2), {.depth = 7});
  CHECK(pool.obs_shape() == std::vector<int>{7} && pool.max_seed() == 100);
  CHECK((pool.info_names() == std::vector<std::string>{"count", "resets"}));
  static_cast<void>(pool.reset({}, {}, {}, kNever));
  const BatchPtr batch = pool.step(same(3, 0), {}, kNever);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(batch->to.obs[7 * i] == i + 1 && batch->to.obs[7 * i + 1] == 0);
    CHECK(batch->columns[i] == static_cast<int>(i) + 1 && batch->columns[3 + i] == 1);
  }
  const std::vector<Frame> frames = pool.render();
  CHECK(frames.size() == 3 && frames[2].height == 7 && frames[2].width == 2);
  CHECK(frames[2].rgb == std::vector<std::uint8_t>(7 * 2 * 3, 3));
}

void strength_reaches_the_game_in_every_mode() {
  for (const int batch_size : {0, 1}) {
    Pool<Counter> pool(config(2, batch_size, 2), {});
    pool.async_reset({}, kNever);
    for (int t = 0; t < 9; ++t) {
      const BatchPtr batch = pool.recv(30.0, kNever);
      std::vector<Action> actions;
      for (std::size_t i = 0; i < batch->size; ++i) {
        const std::array<float, 1> values{static_cast<float>(batch->env_id[i]) + 2.0F};
        actions.push_back(pool.action_of(values));
        if (batch->episode_length[i] != 0) CHECK(batch->raw_reward[i] == values[0]);
      }
      pool.send(actions, ids_of(*batch), {});
    }
  }
}

void a_lost_life_ends_no_game() {
  for (const Autoreset mode : {Autoreset::kNextStep, Autoreset::kSameStep, Autoreset::kDisabled}) {
    Pool<Counter> pool(config(1, 0, 1, mode), {.depth = 2, .limit = 5});
    static_cast<void>(pool.reset(std::vector<std::uint64_t>{0}, {}, {}, kNever));
    for (int t = 1; t <= 5; ++t) {
      const BatchPtr batch = pool.step(same(1, 0), {}, kNever);
      const bool over = t == 5;
      CHECK(batch->to.terminated[0] == (over || t == 3 ? 1 : 0) && batch->game_over[0] == over);
      const bool ended_here = mode == Autoreset::kSameStep && over;
      CHECK(batch->episode_length[0] == (ended_here ? 0 : t));
      if (mode == Autoreset::kSameStep) {
        CHECK(batch->num_ended == (over || t == 3 ? 1 : 0));
        if (t >= 3 && t != 4) CHECK(batch->final_length[0] == t && batch->final_columns[0] == t);
        CHECK(batch->columns[1] == (over ? 2 : 1));
      }
    }
  }
}

void memory_is_part_of_a_snapshot() {
  Pool<Counter> pool(config(3, 0, 2), {});
  static_cast<void>(pool.reset({}, {}, {}, kNever));
  static_cast<void>(pool.step(same(3, 0), {}, kNever));
  const std::vector<std::byte> state = pool.get_state(std::vector<std::int64_t>{2});
  Pool<Counter> other(config(3, 0, 2), {});
  static_cast<void>(other.reset({}, {}, {}, kNever));
  other.set_state(state, {});
  const BatchPtr batch = other.step(same(3, 0), {}, kNever);
  for (std::size_t i = 0; i < 3; ++i) CHECK(batch->obs[4 * i] == 3 && batch->obs[4 * i + 1] == 4);
}

template <Env Game>
void play_at_random() {
  Pool<Game> pool(config(16, 0, 2, Autoreset::kSameStep), Game{});
  static_cast<void>(pool.reset(seeds(16), {}, {}, kNever));
  Rng rng(1);
  std::size_t num_ended = 0;
  for (int t = 0; t < 3000; ++t) {
    std::vector<Action> actions = same(16, 0);
    for (Action& action : actions) action.number = rng.below(Game::kNumActions);
    num_ended += pool.step(actions, {}, kNever)->num_ended;
  }
  CHECK(num_ended > 0);
}

void every_game_is_clean_under_the_sanitizers() {
  using namespace envs::minatar;
  play_at_random<Asterix>();
  play_at_random<Breakout>();
  play_at_random<Freeway>();
  play_at_random<Seaquest>();
  play_at_random<SpaceInvaders>();
  play_at_random<MinimalActions<Breakout>>();
}

/// A cartridge of our own: bars of colour that roll, a new picture every frame.
envs::atari::Cartridge rolling_bars() {
  constexpr std::array<std::uint8_t, 31> kProgram{
      0x18, 0xA9, 0x02, 0x85, 0x00, 0x85, 0x02, 0x85, 0x02, 0x85,
      0x02, 0xA9, 0x00, 0x85, 0x00, 0xA4, 0x80, 0xA2, 0xE6,  // After VSYNC: LDY $80, LDX #230
      0x85, 0x02, 0x84, 0x09, 0xC8, 0xCA, 0xD0, 0xF8,        // WSYNC, STY COLUBK, INY, DEX, BNE
      0xE6, 0x80, 0x90, 0xE1};                               // INC $80, BCC the start
  std::vector<std::uint8_t> image(4096);
  std::ranges::copy(kProgram, image.begin());
  image[0xFFC] = 0x00;
  image[0xFFD] = 0xF0;
  return {.game = envs::atari::Game::kAmidar, .image = std::move(image)};
}

void an_atari_game_is_clean_under_the_sanitizers() {
  using namespace envs::atari;
  const auto history = [](int num_threads) {
    const AtariEnvOptions options{.max_num_frames_per_episode = 14, .noop_max = 2};
    std::vector<Cartridge> cartridges{rolling_bars(), rolling_bars()};
    Pool<AtariEnv<PlainAtari>> pool(
        config(3, 0, num_threads, Autoreset::kSameStep),
        AtariShared<PlainAtari>(options, {0, 1, 2}, std::move(cartridges)));
    static_cast<void>(pool.reset(seeds(3), {}, {}, kNever));
    const std::vector<std::byte> state = pool.get_state({});
    std::vector<std::uint8_t> first;
    std::vector<std::uint8_t> second;
    for (std::vector<std::uint8_t>* played : {&first, &second}) {
      pool.set_state(state, {});
      for (int t = 0; t < 5; ++t) {
        const BatchPtr batch = pool.step(same(3, t % 3), {}, kNever);
        played->insert(played->end(), batch->obs.begin(), batch->obs.end());
      }
    }
    CHECK(first == second && pool.render().size() == 3);
    CHECK(std::ranges::count(first, first.front()) < static_cast<std::ptrdiff_t>(first.size()));
    return first;
  };
  CHECK(history(1) == history(3));
}

void a_fork_leaves_the_child_a_pool_it_can_only_drop() {
  auto pool = std::make_unique<Pool<envs::Catch>>(config(4, 0, 3), envs::Catch{});
  static_cast<void>(pool->reset({}, {}, {}, kNever));
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // The workers sleep.
  const pid_t child = fork();
  if (child == 0) {
    const bool refused = raised<std::runtime_error>([&] {
                           static_cast<void>(pool->step(same(4, 0), {}, kNever));
                         }).find("after the fork") != std::string::npos;
    pool.reset();
    _exit(refused ? 0 : 1);
  }
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  static_cast<void>(pool->step(same(4, 0), {}, kNever));
}

}  // namespace
}  // namespace fastrl

int main() {
  using namespace fastrl;
  const std::vector<std::pair<const char*, void (*)()>> tests{
#define TEST(name) {#name, name}
      TEST(results_do_not_depend_on_threads_or_batch_size),
      TEST(a_thread_takes_the_environments_of_its_own_lane_first),
      TEST(threads_spread_over_the_lanes),
      TEST(no_environment_falls_behind_in_another_lane),
      TEST(a_throwing_env_raises_in_step),
      TEST(a_throwing_env_raises_in_recv),
      TEST(recv_times_out_and_loses_nothing),
      TEST(recv_refuses_to_wait_for_ever),
      TEST(an_interrupt_stops_recv_and_loses_nothing),
      TEST(an_interrupt_of_step_waits_for_the_workers),
      TEST(close_wakes_a_waiting_recv),
      TEST(pools_come_and_go),
      TEST(a_batch_outlives_its_pool_and_is_not_reused_while_held),
      TEST(the_callers_memory_is_written),
      TEST(every_mode_resets_as_it_says),
      TEST(a_snapshot_replays),
      TEST(a_snapshot_loses_no_byte),
      TEST(a_damaged_snapshot_is_refused),
      TEST(a_hosted_game_has_shapes_memory_and_infos_of_its_own),
      TEST(strength_reaches_the_game_in_every_mode),
      TEST(a_lost_life_ends_no_game),
      TEST(memory_is_part_of_a_snapshot),
      TEST(every_game_is_clean_under_the_sanitizers),
      TEST(an_atari_game_is_clean_under_the_sanitizers),
      TEST(a_fork_leaves_the_child_a_pool_it_can_only_drop),
  };
  for (const auto& [name, test] : tests) {
    test();
    std::printf("ok %s\n", name);
  }
  return 0;
}
