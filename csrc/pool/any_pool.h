// The machinery of a pool: threads, batches, and who may be stepped when. pool.h adds one game.
//
// One thread calls; `close` may come from any.
//
// Who owns an environment's slot: the caller while it is idle, one worker from `TaskQueue::push`
// until the batch that holds its result is complete. The queue's lock orders the first hand-over,
// the batch's `remaining` counter the second.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "csrc/core/env.h"
#include "csrc/pool/batch.h"
#include "csrc/pool/queue.h"
#include "csrc/pool/shares.h"
#include "csrc/pool/snapshot.h"

namespace fastrl {

/// What happens after an episode's end; names and meaning are gymnasium's `AutoresetMode`.
enum class Autoreset : std::uint8_t { kNextStep, kSameStep, kDisabled };

struct PoolConfig {
  std::string id;        ///< What `make` was called with.
  std::string identity;  ///< Id and options: a snapshot fits pools whose identity is equal.
  int num_envs = 1;
  int batch_size = 0;         ///< 0: num_envs, that is synchronous.
  int num_threads = 0;        ///< 0: as many as num_cpus.
  int num_cpus = 1;           ///< CPUs this process may use; more threads than these are not woken.
  int max_episode_steps = 0;  ///< Truncates after so many agent steps; 0: never.
  Autoreset autoreset = Autoreset::kNextStep;
};

struct TimeoutError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Where the time went since the pool was made.
struct PoolStats {
  std::uint64_t steps = 0;    ///< Results delivered.
  std::uint64_t work_ns = 0;  ///< Inside games, summed over threads.
  std::uint64_t wall_ns = 0;  ///< Inside step, reset and recv on the caller's thread.
};

/// A picture.
struct Frame {
  int height = 0;
  int width = 0;
  std::vector<std::uint8_t> rgb;  ///< (height, width, 3)
};

class AnyPool {
 public:
  using Clock = std::chrono::steady_clock;
  /// Called while the caller waits, some ten times a second; may throw to stop waiting.
  using Interrupt = std::function<void()>;

  AnyPool(const AnyPool&) = delete;
  AnyPool& operator=(const AnyPool&) = delete;
  virtual ~AnyPool() = default;  // Pool<E> has joined the workers, which call its run_chunk.

  // ---- shape ------------------------------------------------------------------------------------
  [[nodiscard]] virtual int num_actions() const noexcept = 0;
  [[nodiscard]] virtual std::vector<int> obs_shape() const = 0;
  [[nodiscard]] virtual int obs_high() const noexcept = 0;
  /// Names of the values that the game adds to `info`, in the order of Batch::columns.
  [[nodiscard]] virtual std::vector<std::string> info_names() const = 0;
  [[nodiscard]] virtual std::uint64_t max_seed() const noexcept = 0;
  /// Lowest and highest value of each float of an action; empty: an action is a number.
  [[nodiscard]] virtual std::vector<std::array<float, 2>> action_bounds() const = 0;
  /// The action that these floats, within bounds, mean.
  [[nodiscard]] virtual Action action_of(std::span<const float> values) const noexcept = 0;
  [[nodiscard]] virtual bool can_render() const noexcept = 0;
  [[nodiscard]] const PoolConfig& config() const noexcept { return config_; }
  [[nodiscard]] bool synchronous() const noexcept { return config_.batch_size == config_.num_envs; }
  [[nodiscard]] PoolStats stats() const noexcept {
    return {
        .steps = steps_, .work_ns = work_ns_.load(std::memory_order_relaxed), .wall_ns = wall_ns_};
  }

  // ---- reset ------------------------------------------------------------------------------------
  /// Resets the environments whose `mask` is set (empty: all), seeding those first when `seeds` is
  /// not empty, and reports every environment in order. A full reset drops what is in flight.
  [[nodiscard]] BatchPtr reset(std::span<const std::uint64_t> seeds,
                               std::span<const std::uint8_t> mask, const Destination& out,
                               const Interrupt& interrupt) {
    const Entry entry(*this);
    const Stopwatch watch(wall_ns_);
    const bool all = mask.empty();
    if (all) {
      drain(interrupt);
    } else if (num_in_flight_ != 0) {
      throw std::invalid_argument(
          "reset_mask needs every environment idle: " + std::to_string(num_in_flight_) +
          " are in flight; recv them first, or reset all");
    } else {
      check_born();
    }
    BatchPtr batch = full_batches_->take(out);
    const auto chosen = [&](std::size_t env) { return all || mask[env] != 0; };
    for (std::size_t env = 0; env < seeds.size(); ++env) {
      if (chosen(env)) seed(static_cast<int>(env), seeds[env]);
    }
    born_ = true;
    for (std::size_t env = 0; env < actions_.size(); ++env) {
      actions_[env] = {.number = chosen(env) ? Task::kReset : Task::kObserve};
    }
    run_together(batch, interrupt);
    return batch;
  }

  /// Starts a reset of all environments; their first observations come through `recv`.
  void async_reset(std::span<const std::uint64_t> seeds, const Interrupt& interrupt) {
    const Entry entry(*this);
    drain(interrupt);
    born_ = true;
    for (std::size_t env = 0; env < seeds.size(); ++env) seed(static_cast<int>(env), seeds[env]);
    std::vector<int> all(index(config_.num_envs));
    std::iota(all.begin(), all.end(), 0);
    launch(all, {}, [](std::size_t) { return Action{.number = Task::kReset}; });
  }

  // ---- step -------------------------------------------------------------------------------------
  /// Steps all environments and waits for them. Synchronous pools only.
  [[nodiscard]] BatchPtr step(std::span<const Action> actions, const Destination& out,
                              const Interrupt& interrupt) {
    const Entry entry(*this);
    const Stopwatch watch(wall_ns_);
    if (!synchronous()) {
      throw std::invalid_argument("step needs batch_size == num_envs (here " +
                                  std::to_string(config_.batch_size) + " and " +
                                  std::to_string(config_.num_envs) + "): use send and recv");
    }
    if (num_in_flight_ != 0) {
      throw std::runtime_error("step while " + std::to_string(num_in_flight_) +
                               " environments are in flight: recv them first");
    }
    if (actions.size() != index(config_.num_envs)) {
      throw std::invalid_argument("step needs " + std::to_string(config_.num_envs) +
                                  " actions, got " + std::to_string(actions.size()));
    }
    check_born();
    check_actions(actions);
    if (config_.autoreset == Autoreset::kDisabled) {
      for (int env = 0; env < config_.num_envs; ++env) check_running(env);
    }
    BatchPtr batch = full_batches_->take(out);
    std::ranges::copy(actions, actions_.begin());
    run_together(batch, interrupt);
    return batch;
  }

  /// Starts a step of some idle environments. `out`: synchronous pools only, for the batch begun.
  void send(std::span<const Action> actions, std::span<const std::int64_t> env_ids,
            const Destination& out) {
    const Entry entry(*this);
    if (actions.size() != env_ids.size()) {
      throw std::invalid_argument("send needs as many actions as env_id, got " +
                                  std::to_string(actions.size()) + " and " +
                                  std::to_string(env_ids.size()));
    }
    check_born();
    check_actions(actions);
    const std::vector<int> ids = check_ids(env_ids);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (in_flight_[index(ids[i])] != 0) {
        throw std::invalid_argument("env_id " + std::to_string(ids[i]) +
                                    " is in flight already: recv its result first");
      }
      if (config_.autoreset == Autoreset::kDisabled) check_running(ids[i]);
    }
    launch(ids, out, [&](std::size_t i) { return actions[i]; });
  }

  /// Waits for the next batch_size results. `timeout` in seconds; none: without limit.
  ///
  /// Synchronous pools report in order of env_id, asynchronous ones in order of completion.
  [[nodiscard]] BatchPtr recv(std::optional<double> timeout, const Interrupt& interrupt) {
    const Entry entry(*this);
    const Stopwatch watch(wall_ns_);
    rethrow();
    if (num_in_flight_ < index(config_.batch_size)) {
      throw std::runtime_error("recv would wait for ever: it needs " +
                               std::to_string(config_.batch_size) +
                               " environments in flight, and " + std::to_string(num_in_flight_) +
                               " are: send actions or async_reset first");
    }
    const auto ready = [this]() -> BatchPtr {
      const std::lock_guard lock(claim_mutex_);
      if (pending_.empty() || !is_complete(*pending_.front())) return nullptr;
      return pending_.front();
    };
    BatchPtr batch = wait_for(ready, timeout, interrupt);
    if (!batch) {
      throw TimeoutError("recv waited " + std::to_string(*timeout) + " s for " +
                         std::to_string(config_.batch_size) + " environments");
    }
    rethrow();  // The batch stays for the next recv.
    {
      const std::lock_guard lock(claim_mutex_);
      pending_.pop_front();
    }
    for (const std::int32_t env : batch->env_id) in_flight_[index(env)] = 0;
    num_in_flight_ -= batch->size;
    steps_ += batch->size;
    return batch;
  }

  // ---- snapshots --------------------------------------------------------------------------------
  /// The chosen environments (empty: all) as bytes: game, random stream, episode statistics.
  [[nodiscard]] std::vector<std::byte> get_state(std::span<const std::int64_t> env_ids) {
    const Entry entry(*this);
    check_born();
    const std::vector<int> ids = idle_ids(env_ids, "get_state");
    return pack_snapshot(config_.identity, slot_size(), ids.size(),
                         [&](std::size_t i, std::byte* to) { save_slot(ids[i], to); });
  }

  /// Puts a snapshot back, into the same or other environments. A snapshot of one environment may
  /// go into many. Nothing changes when it does not fit.
  void set_state(std::span<const std::byte> state, std::span<const std::int64_t> env_ids) {
    const Entry entry(*this);
    const std::vector<int> ids = idle_ids(env_ids, "set_state");
    const std::span<const std::byte> slots =
        unpack_snapshot(state, config_.identity, slot_size(), ids.size());
    if (ids.size() != index(config_.num_envs)) check_born();
    const std::size_t stride = slots.size() == slot_size() ? 0 : slot_size();  // 0: one for all.
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (fits_slot(ids[i], slots.data() + i * stride)) continue;
      throw std::invalid_argument("state is of another game of this pool than environment " +
                                  std::to_string(ids[i]));
    }
    born_ = true;
    for (std::size_t i = 0; i < ids.size(); ++i) load_slot(ids[i], slots.data() + i * stride);
  }

  // ---- pictures ---------------------------------------------------------------------------------
  /// What each environment's screen shows. Games without a screen raise.
  [[nodiscard]] std::vector<Frame> render() {
    const Entry entry(*this);
    if (!can_render()) throw std::runtime_error("'" + config_.id + "' has no screen to render");
    check_born();
    std::vector<Frame> frames;
    for (const int env : idle_ids({}, "render")) frames.push_back(draw(env));
    return frames;
  }

  // ---- end --------------------------------------------------------------------------------------
  /// Stops the workers. Safe twice, and while another thread waits in recv, which then raises.
  void close() noexcept {
    if (getpid() != pid_) {
      static_cast<void>(threads_.release());
      return;
    }
    closed_.store(true, std::memory_order_release);  // pairs with the acquire in wait_for and Entry
    {
      const std::lock_guard lock(done_mutex_);
    }
    threads_->done.notify_all();
    // A recv on another thread raises now; a step or reset there ends first.
    while (inside_.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
    threads_->queue.close();
    for (std::thread& worker : threads_->workers) worker.join();
    threads_->workers.clear();
    inside_.store(false, std::memory_order_release);
  }

 protected:
  AnyPool(PoolConfig config, std::size_t obs_size, std::size_t num_columns)
      : config_(checked(std::move(config))),
        threads_(new Threads{.queue = TaskQueue(index(config_.num_envs), num_awake(config_)),
                             .done = {},
                             .workers = {}}),
        full_batches_(make_shelf(config_.num_envs, obs_size, num_columns)),
        part_batches_(synchronous() ? full_batches_
                                    : make_shelf(config_.batch_size, obs_size, num_columns)),
        shares_(num_awake(config_)),
        in_flight_(index(config_.num_envs)),
        actions_(index(config_.num_envs)) {}

  [[nodiscard]] std::shared_ptr<BatchShelf> make_shelf(int size, std::size_t obs_size,
                                                       std::size_t num_columns) const {
    return std::make_shared<BatchShelf>(
        BatchShape{.size = index(size),
                   .obs_size = obs_size,
                   .num_columns = num_columns,
                   .with_final = config_.autoreset == Autoreset::kSameStep});
  }

  /// Last act of the constructor of Pool<E>: workers call its virtual functions.
  void start_workers() {
    for (int i = 0; i < config_.num_threads; ++i) {
      threads_->workers.emplace_back([this] {
        std::size_t lane = threads_->queue.join();
        std::vector<Task> chunk;
        while (threads_->queue.take(lane, chunk)) run(chunk);
      });
    }
  }

  // ---- what one game adds -----------------------------------------------------------------------
  /// Runs the tasks and writes their results: into task.batch, or into slots from `claim`.
  virtual void run_chunk(std::span<const Task> tasks) = 0;
  /// Runs actions[env] for each env in [first, last), into the slots of the same numbers.
  virtual void run_range(std::size_t first, std::size_t last, std::span<const Action> actions,
                         Batch& batch) = 0;
  [[nodiscard]] virtual bool ended(int env) const noexcept = 0;
  virtual void seed(int env, std::uint64_t seed) noexcept = 0;
  [[nodiscard]] virtual std::size_t slot_size() const noexcept = 0;
  virtual void save_slot(int env, std::byte* to) const noexcept = 0;
  [[nodiscard]] virtual bool fits_slot(int env, const std::byte* from) const noexcept = 0;
  virtual void load_slot(int env, const std::byte* from) noexcept = 0;
  [[nodiscard]] virtual Frame draw(int env) = 0;

  // ---- for run_chunk, on a worker's thread ------------------------------------------------------
  /// Some free slots of one batch.
  struct Claim {
    Batch* batch;
    std::size_t first;
    std::size_t count;
  };

  /// At most `wanted` slots of the batch that is being filled.
  [[nodiscard]] Claim claim(std::size_t wanted) {
    const std::lock_guard lock(claim_mutex_);
    if (pending_.empty() || pending_.back()->claimed == pending_.back()->size) {
      pending_.push_back(part_batches_->take({}));
    }
    Batch& batch = *pending_.back();
    const std::size_t first = batch.claimed;
    const std::size_t count = std::min(wanted, batch.size - first);
    batch.claimed += count;
    return {&batch, first, count};
  }

  /// `count` slots of `batch` are written: the last one wakes the caller.
  void complete(Batch& batch, std::size_t count) noexcept {
    // release: pairs with the acquire in is_complete; acquire: joins the other workers' writes.
    if (batch.remaining.fetch_sub(count, std::memory_order_acq_rel) == count) {
      {
        const std::lock_guard lock(done_mutex_);
      }
      threads_->done.notify_all();
    }
  }

  /// Keeps the first exception of a game for the caller.
  void fail(std::exception_ptr error) noexcept {
    const std::lock_guard lock(done_mutex_);
    if (!error_) error_ = std::move(error);
    failed_.store(true, std::memory_order_release);  // pairs with the acquire in rethrow
  }

  static constexpr std::size_t index(std::int64_t i) noexcept {
    return static_cast<std::size_t>(i);
  }

 private:
  static constexpr Clock::duration kSpin = std::chrono::microseconds(50);
  static constexpr double kShareChunkNs = 5e3;  ///< Between two looks at who is done.
  static constexpr double kLeaveNs = 2e4;       ///< Not worth taking from another thread.
  static constexpr double kPartNs = 2e4;        ///< Less work than this is not worth a thread.

  /// Every public call begins with one: in the right process, not closed, one thread at a time.
  class Entry {
   public:
    explicit Entry(AnyPool& pool) : pool_(pool) {
      if (getpid() != pool.pid_) {
        throw std::runtime_error("this pool of '" + pool.config_.id + "' was made in process " +
                                 std::to_string(pool.pid_) + " and cannot be used in process " +
                                 std::to_string(getpid()) +
                                 ": threads do not survive a fork; make the pool after the fork");
      }
      if (pool.inside_.exchange(true, std::memory_order_acquire)) {
        throw std::runtime_error("another thread is inside this pool: one thread may call it");
      }
      if (pool.closed_.load(std::memory_order_acquire)) {
        pool.inside_.store(false, std::memory_order_release);
        throw std::runtime_error("this pool is closed");
      }
    }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry() { pool_.inside_.store(false, std::memory_order_release); }

   private:
    AnyPool& pool_;
  };

  class Stopwatch {
   public:
    explicit Stopwatch(std::uint64_t& sum) noexcept : sum_(sum), start_(Clock::now()) {}
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;
    ~Stopwatch() { sum_ += static_cast<std::uint64_t>((Clock::now() - start_).count()); }

   private:
    std::uint64_t& sum_;
    Clock::time_point start_;
  };

  static PoolConfig checked(PoolConfig config) {
    const auto check = [](const char* name, int value, int low, int high) {
      if (value < low || value > high) {
        throw std::invalid_argument(std::string(name) + " must be in [" + std::to_string(low) +
                                    ", " + std::to_string(high) + "], got " +
                                    std::to_string(value));
      }
    };
    check("num_envs", config.num_envs, 1, 1 << 22);
    check("num_threads", config.num_threads, 0, 1024);
    check("batch_size", config.batch_size, 0, config.num_envs);
    check("max_episode_steps", config.max_episode_steps, 0, 1 << 30);
    config.num_cpus = std::max(1, config.num_cpus);
    if (config.batch_size == 0) config.batch_size = config.num_envs;
    if (config.num_threads == 0) config.num_threads = config.num_cpus;
    config.num_threads = std::min(config.num_threads, config.num_envs);
    return config;
  }

  /// Threads that can run at once: more would only take turns.
  static std::size_t num_awake(const PoolConfig& config) noexcept {
    return index(std::min(config.num_threads, config.num_cpus));
  }

  /// Runs `size` tasks on whatever thread this is, and keeps the books.
  template <typename Run>
  void timed(std::size_t size, const Run& run) {
    const auto start = Clock::now();
    run();
    const auto ns = static_cast<std::uint64_t>((Clock::now() - start).count());
    work_ns_.fetch_add(ns, std::memory_order_relaxed);
    threads_->queue.report_cost(size, static_cast<double>(ns));
  }

  /// A worker's turn.
  void run(std::span<const Task> chunk) {
    if (chunk.front().action != Task::kShare) {
      timed(chunk.size(), [&] { run_chunk(chunk); });
      return;
    }
    run_share(index(chunk.front().env), kLeaveNs);
    // release: pairs with the acquire in run_together.
    num_helped_.fetch_add(1, std::memory_order_release);
    {
      const std::lock_guard lock(done_mutex_);
    }
    threads_->done.notify_all();
  }

  /// Works on the synchronous step, beginning with part `own`. Others are helped while they have
  /// more than `leave_ns` left to do: an environment that changes cores costs a few times its step.
  void run_share(std::size_t own, double leave_ns) {
    const double ns = std::max(threads_->queue.ns_per_task(), 1.0);
    const auto chunk = std::max<std::size_t>(1, static_cast<std::size_t>(kShareChunkNs / ns));
    shares_.work(own, chunk, static_cast<std::size_t>(leave_ns / ns),
                 [this](std::size_t first, std::size_t last) {
                   timed(last - first, [&] { run_range(first, last, actions_, *together_); });
                 });
  }

  /// Runs `actions_` into `batch`, with the workers' help where it pays, and waits for the end.
  void run_together(const BatchPtr& batch, const Interrupt& interrupt) {
    rethrow();
    const double ns = threads_->queue.ns_per_task() * static_cast<double>(batch->size);
    const std::size_t most = num_awake(config_);
    const std::size_t parts =
        ns == 0.0 ? most : std::clamp<std::size_t>(static_cast<std::size_t>(ns / kPartNs), 1, most);
    together_ = batch.get();
    num_helped_.store(0, std::memory_order_relaxed);
    shares_.begin(batch->size, parts);
    if (parts > 1) {
      threads_->queue.push(parts - 1, parts - 1, [](std::size_t i) {
        return Task{.env = static_cast<std::int32_t>(i) + 1, .action = Task::kShare};
      });
    }
    run_share(0, kLeaveNs);
    std::size_t helpers = 0;
    if (parts > 1) {
      const std::size_t untaken = threads_->queue.withdraw();
      helpers = parts - 1 - untaken;
      if (untaken != 0) run_share(0, 0.0);
    }
    const auto ready = [&]() -> BatchPtr {
      return num_helped_.load(std::memory_order_acquire) == helpers ? batch : nullptr;
    };
    static_cast<void>(wait_for(ready, std::nullopt, interrupt, batch));
    steps_ += batch->size;
    rethrow();
  }

  /// Hands tasks for `ids` to the workers and returns.
  template <typename Chosen>
  void launch(std::span<const int> ids, const Destination& out, const Chosen& chosen) {
    if (ids.empty()) return;
    Batch* batch = nullptr;
    if (synchronous()) {  // Slots are env_ids, so that arrays line up with environments.
      const std::lock_guard lock(claim_mutex_);
      if (num_in_flight_ == 0) pending_.push_back(part_batches_->take(out));
      batch = pending_.back().get();
    }
    for (const int env : ids) in_flight_[index(env)] = 1;
    num_in_flight_ += ids.size();
    threads_->queue.push(ids.size(), num_awake(config_), [&](std::size_t i) {
      const Action action = chosen(i);
      return Task{.env = ids[i],
                  .action = static_cast<std::int32_t>(action.number),
                  .batch = batch,
                  .slot = ids[i],
                  .strength = action.strength};
    });
  }

  /// Waits until nothing is in flight and drops the results.
  void drain(const Interrupt& interrupt) {
    if (num_in_flight_ != 0) {
      const auto ready = [this]() -> BatchPtr {
        const std::lock_guard lock(claim_mutex_);
        std::size_t written = 0;
        for (const BatchPtr& batch : pending_) {
          written += batch->size - batch->remaining.load(std::memory_order_acquire);
        }
        return written == num_in_flight_ ? pending_.front() : nullptr;
      };
      static_cast<void>(wait_for(ready, std::nullopt, interrupt));
    }
    const std::lock_guard lock(claim_mutex_);
    pending_.clear();
    std::ranges::fill(in_flight_, std::uint8_t{0});
    num_in_flight_ = 0;
    error_ = nullptr;
    failed_.store(false, std::memory_order_relaxed);
  }

  [[nodiscard]] static bool is_complete(const Batch& batch) noexcept {
    return batch.remaining.load(std::memory_order_acquire) == 0;
  }

  /// Polls `ready` until it returns a batch. Null: the time is over.
  ///
  /// `held` stays alive until the workers have left it, also when `interrupt` throws.
  template <typename Ready>
  BatchPtr wait_for(const Ready& ready, std::optional<double> timeout, const Interrupt& interrupt,
                    const BatchPtr& held = nullptr) {
    const auto start = Clock::now();
    if (num_awake(config_) > 1 && (held || may_spin())) {
      do {
        if (BatchPtr batch = ready()) return batch;
        for (int i = 0; i < 32; ++i) pause_cpu();
      } while (Clock::now() - start < kSpin);
    }
    std::exception_ptr interrupted;
    std::unique_lock lock(done_mutex_);
    for (;;) {
      if (BatchPtr batch = ready()) {
        if (interrupted) std::rethrow_exception(interrupted);
        return batch;
      }
      if (!held && closed_.load(std::memory_order_acquire)) {
        throw std::runtime_error("this pool was closed while a call waited for it");
      }
      auto slice = Clock::duration(std::chrono::milliseconds(100));
      if (timeout) {
        const std::chrono::duration<double> left =
            std::chrono::duration<double>(*timeout) - (Clock::now() - start);
        if (left.count() <= 0.0) return nullptr;
        slice =
            std::min(slice, std::chrono::duration_cast<Clock::duration>(left) + Clock::duration(1));
      }
      if (threads_->done.wait_for(lock, slice) == std::cv_status::timeout && interrupt &&
          !interrupted) {
        lock.unlock();
        try {
          interrupt();
        } catch (...) {
          if (!held) throw;
          interrupted = std::current_exception();  // The workers still write into `held`.
        }
        lock.lock();
      }
    }
  }

  /// Looking again and again for a batch takes a CPU. There is one to spare, or the batch takes no
  /// longer than waking up.
  [[nodiscard]] bool may_spin() const noexcept {
    return num_awake(config_) < index(config_.num_cpus) ||
           threads_->queue.ns_per_task() * config_.batch_size < kPartNs;
  }

  void rethrow() {
    if (!failed_.load(std::memory_order_acquire)) return;
    std::exception_ptr error;
    {
      const std::lock_guard lock(done_mutex_);
      error = std::exchange(error_, nullptr);
      failed_.store(false, std::memory_order_relaxed);
    }
    if (error) std::rethrow_exception(error);
  }

  void check_born() const {
    if (!born_) throw std::runtime_error("this pool was never reset: call reset first");
  }

  void check_actions(std::span<const Action> actions) const {
    const std::int64_t count = num_actions();
    for (std::size_t i = 0; i < actions.size(); ++i) {
      const std::int64_t number = actions[i].number;
      if (number >= 0 && number < count) continue;
      throw std::invalid_argument("actions[" + std::to_string(i) + "] is " +
                                  std::to_string(number) + "; '" + config_.id +
                                  "' has actions 0 to " + std::to_string(count - 1));
    }
  }

  /// Autoreset is disabled: nobody but the caller resets.
  void check_running(int env) const {
    if (!ended(env)) return;
    throw std::invalid_argument(
        "environment " + std::to_string(env) +
        " has ended and autoreset_mode is Disabled: reset it with options={'reset_mask': mask}");
  }

  /// `env_ids` as ints: in range, each at most once.
  [[nodiscard]] std::vector<int> check_ids(std::span<const std::int64_t> env_ids) const {
    std::vector<int> ids;
    std::vector<std::uint8_t> seen(index(config_.num_envs));
    ids.reserve(env_ids.size());
    for (const std::int64_t env : env_ids) {
      if (env < 0 || env >= config_.num_envs) {
        throw std::invalid_argument("env_id " + std::to_string(env) + " is outside [0, " +
                                    std::to_string(config_.num_envs - 1) + "]");
      }
      if (seen[index(env)]++ != 0) {
        throw std::invalid_argument("env_id " + std::to_string(env) + " is named twice");
      }
      ids.push_back(static_cast<int>(env));
    }
    return ids;
  }

  [[nodiscard]] std::vector<int> idle_ids(std::span<const std::int64_t> env_ids,
                                          const char* what) const {
    std::vector<int> ids;
    if (env_ids.empty()) {
      for (int env = 0; env < config_.num_envs; ++env) ids.push_back(env);
    } else {
      ids = check_ids(env_ids);
    }
    for (const int env : ids) {
      if (in_flight_[index(env)] != 0) {
        throw std::invalid_argument(std::string(what) + ": environment " + std::to_string(env) +
                                    " is in flight; recv its result first");
      }
    }
    return ids;
  }

  /// What a fork breaks: in the child nobody may wait for it, wake it, or destroy it.
  struct Threads {
    TaskQueue queue;
    std::condition_variable done;  ///< Some batch is complete; with done_mutex_.
    std::vector<std::thread> workers;
  };

  const PoolConfig config_;
  const pid_t pid_ = getpid();
  std::unique_ptr<Threads> threads_;

  std::shared_ptr<BatchShelf> full_batches_;  ///< num_envs slots.
  std::shared_ptr<BatchShelf> part_batches_;  ///< batch_size slots.

  std::mutex claim_mutex_;
  std::deque<BatchPtr> pending_;  ///< Begun and not yet received; guarded by claim_mutex_.

  std::mutex done_mutex_;  ///< Guards error_, and the sleep of the caller.
  std::exception_ptr error_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> closed_{false};
  std::atomic<bool> inside_{false};
  std::atomic<std::uint64_t> work_ns_{0};

  // A synchronous step: written by the caller before it pushes shares, read by who takes one.
  Shares shares_;
  Batch* together_ = nullptr;
  std::atomic<std::size_t> num_helped_{0};  ///< Workers that have done their share.

  // The caller's thread alone:
  std::vector<std::uint8_t> in_flight_;  ///< (num_envs)
  std::size_t num_in_flight_ = 0;
  bool born_ = false;            ///< Every environment has a state: reset, or set.
  std::vector<Action> actions_;  ///< (num_envs), of the step that runs together.
  std::uint64_t steps_ = 0;
  std::uint64_t wall_ns_ = 0;
};

}  // namespace fastrl
