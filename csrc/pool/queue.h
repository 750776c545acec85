// The work that waits for a thread. Threads take chunks, not single environments: a MinAtar step
// costs less than the lock that hands it over.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "csrc/core/check.h"
#include "csrc/pool/batch.h"

namespace fastrl {

/// Advance or reset one environment. A null `batch` means: claim a slot when done (async mode).
struct Task {
  std::int32_t env = 0;
  std::int32_t action = 0;  ///< kReset: reset instead of stepping.
  Batch* batch = nullptr;
  std::int32_t slot = 0;
  float strength = 1.0F;  ///< Of the action.

  static constexpr std::int32_t kReset = -1;
  static constexpr std::int32_t kObserve = -2;  ///< Report the state as it is.
  static constexpr std::int32_t kShare = -3;    ///< Help a synchronous step; `env`: whose part.
};

inline void pause_cpu() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Any number of producers and consumers.
///
/// Each of some lanes, first in, first out, holds the tasks of a range of environments, the same as
/// a part of `Shares`. A thread takes from a lane of its own, since an environment that changes
/// cores takes its memory along, unless it is empty or a task elsewhere has waited for longer by as
/// many tasks as there are environments: no environment falls behind.
class TaskQueue {
 public:
  using Clock = std::chrono::steady_clock;

  /// `num_envs`: each has one task at most. `num_sharing`: threads that divide the work, the caller
  /// of a synchronous step among them; so many lanes.
  TaskQueue(std::size_t num_envs, std::size_t num_sharing)
      : num_envs_(num_envs),
        lanes_(num_sharing, Lane{.ring = std::vector<Waiting>(num_envs / num_sharing + 1)}) {}

  /// Appends make(0) to make(count - 1) and sees to it that `max_wake` workers are awake, if there
  /// are so many.
  template <typename Make>
  void push(std::size_t count, std::size_t max_wake, const Make& make) {
    std::size_t wake = 0;
    {
      const std::lock_guard lock(mutex_);
      for (std::size_t i = 0; i < count; ++i) {
        const Task task = make(i);
        lanes_[lane_of(task)].push({.task = task, .ticket = num_pushed_++});
      }
      waiting_.store(waiting_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
      // Who is awake sees the tasks, or looks once more under the lock before it sleeps.
      wake = max_wake - std::min(max_wake, num_awake_);
    }
    for (std::size_t i = 0; i < wake; ++i) wake_.notify_one();
  }

  /// Takes back what waits; returns how much it was.
  std::size_t withdraw() {
    const std::lock_guard lock(mutex_);
    return drop_locked();
  }

  /// A lane for a thread that is about to `take`: one that few have.
  std::size_t join() {
    const std::lock_guard lock(mutex_);
    return join_locked();
  }

  /// Waits for work and moves some into `chunk`, of lane `own` if it can be. A thread that has
  /// slept has another lane then: of more threads than lanes not all are awake. Returns false once
  /// the queue is closed.
  bool take(std::size_t& own, std::vector<Task>& chunk) {
    while (!closed_.load(std::memory_order_relaxed)) {
      if (poll(own, chunk)) return true;
      std::unique_lock lock(mutex_);
      if (take_locked(own, chunk)) return true;
      if (closed_.load(std::memory_order_relaxed)) break;
      // Woken, perhaps too late for this step, it polls again: it will be there for the next one.
      --lanes_[own].num_threads;
      --num_awake_;
      wake_.wait(lock);
      own = join_locked();
      if (take_locked(own, chunk)) return true;
    }
    return false;
  }

  /// A chunk of `num_tasks` took `ns`: chunks are sized to be worth their lock, and no more.
  void report_cost(std::size_t num_tasks, double ns) noexcept {
    const double seen = ns / static_cast<double>(num_tasks);
    const double old = ns_per_task_.load(std::memory_order_relaxed);
    // A lost update costs nothing: the value only steers chunk sizes.
    ns_per_task_.store(old == 0.0 ? seen : old + (seen - old) / 8.0, std::memory_order_relaxed);
  }

  [[nodiscard]] double ns_per_task() const noexcept {
    return ns_per_task_.load(std::memory_order_relaxed);
  }

  /// Drops what waits and lets `take` return false. No push may follow.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      static_cast<void>(drop_locked());
      closed_.store(true, std::memory_order_relaxed);
    }
    wake_.notify_all();
  }

 private:
  struct Waiting {
    Task task;
    std::uint64_t ticket = 0;  ///< Tasks that were pushed before it.
  };

  struct Lane {
    std::vector<Waiting> ring;
    std::size_t head = 0;
    std::size_t waiting = 0;
    std::size_t num_threads = 0;  ///< That are awake and have it.

    void push(const Waiting& last) noexcept {
      FASTRL_DCHECK(waiting < ring.size());
      const std::size_t at = head + waiting++;
      ring[at < ring.size() ? at : at - ring.size()] = last;
    }
    /// Something waits.
    [[nodiscard]] const Waiting& first() const noexcept { return ring[head]; }
    Task pop() noexcept {
      const Task task = first().task;
      if (++head == ring.size()) head = 0;
      --waiting;
      return task;
    }
  };

  [[nodiscard]] std::size_t lane_of(const Task& task) const noexcept {
    const auto env = static_cast<std::size_t>(task.env);
    return task.action == Task::kShare ? env : ((env + 1) * lanes_.size() - 1) / num_envs_;
  }

  std::size_t drop_locked() noexcept {
    for (Lane& lane : lanes_) lane.waiting = 0;
    return waiting_.exchange(0, std::memory_order_relaxed);
  }

  std::size_t join_locked() noexcept {
    const auto lane = std::ranges::min_element(lanes_, {}, &Lane::num_threads);
    ++lane->num_threads;
    ++num_awake_;
    return static_cast<std::size_t>(lane - lanes_.begin());
  }

  /// Looks for work for a while: waking a thread that sleeps costs more than many a step. Not more
  /// threads than the caller leaves CPUs for.
  bool poll(std::size_t own, std::vector<Task>& chunk) {
    bool found = false;
    if (polling_.fetch_add(1, std::memory_order_relaxed) + 1 < lanes_.size()) {
      const auto until = Clock::now() + kPoll;
      do {
        for (int i = 0; i < 64 && !found; ++i) {
          found = try_take(own, chunk);
          pause_cpu();
        }
      } while (!found && Clock::now() < until && !closed_.load(std::memory_order_relaxed));
    }
    polling_.fetch_sub(1, std::memory_order_relaxed);
    return found;
  }

  /// Returns false at once when nothing waits.
  bool try_take(std::size_t own, std::vector<Task>& chunk) {
    if (waiting_.load(std::memory_order_relaxed) == 0) return false;
    const std::lock_guard lock(mutex_);
    return take_locked(own, chunk);
  }

  bool take_locked(std::size_t own, std::vector<Task>& chunk) {
    const std::size_t waiting = waiting_.load(std::memory_order_relaxed);
    if (waiting == 0) return false;
    Lane& lane = lane_for(own);
    const bool shared = lane.first().task.action == Task::kShare;
    chunk.resize(shared ? 1 : std::min(lane.waiting, chunk_size(lane.waiting)));
    for (Task& task : chunk) task = lane.pop();
    waiting_.store(waiting - chunk.size(), std::memory_order_relaxed);
    return true;
  }

  /// Something waits. Of the other lanes one is looked at each time, in turn: all of them would be
  /// a cache miss each while everybody waits for the lock.
  Lane& lane_for(std::size_t own) noexcept {
    const Lane& mine = lanes_[own];
    Lane& other = lanes_[looked_at_];
    if (++looked_at_ == lanes_.size()) looked_at_ = 0;
    if (other.waiting != 0 &&
        (mine.waiting == 0 || other.first().ticket + num_envs_ <= mine.first().ticket)) {
      return other;
    }
    while (lanes_[own].waiting == 0) {
      if (++own == lanes_.size()) own = 0;
    }
    return lanes_[own];
  }

  /// Guided self-scheduling: half of what waits in a lane, so that chunks shrink towards the end
  /// and threads finish together; bounded so that a chunk lasts 2 to 20 microseconds.
  [[nodiscard]] std::size_t chunk_size(std::size_t waiting) const noexcept {
    const double ns = std::max(ns_per_task(), 1.0);
    const auto least = std::max<std::size_t>(1, static_cast<std::size_t>(2e3 / ns));
    const auto most = std::max<std::size_t>(1, static_cast<std::size_t>(2e4 / ns));
    if (lanes_.size() == 1) return most;
    return std::clamp(waiting / 2, least, most);
  }

  static constexpr Clock::duration kPoll = std::chrono::microseconds(50);

  const std::size_t num_envs_;
  std::atomic<std::size_t> polling_{0};
  std::mutex mutex_;  ///< Guards lanes_, num_awake_, and every write of waiting_ and closed_.
  std::condition_variable wake_;
  std::vector<Lane> lanes_;
  std::uint64_t num_pushed_ = 0;
  std::size_t looked_at_ = 0;            ///< The lane to compare with one's own.
  std::size_t num_awake_ = 0;            ///< Threads in `take`, or at work.
  std::atomic<std::size_t> waiting_{0};  ///< In all lanes.
  std::atomic<bool> closed_{false};
  std::atomic<double> ns_per_task_{0.0};
};

}  // namespace fastrl
