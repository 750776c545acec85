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

/// First in, first out; any number of producers and consumers.
class TaskQueue {
 public:
  using Clock = std::chrono::steady_clock;

  /// `capacity`: tasks that can wait at once. `num_sharing`: threads that divide the work, the
  /// caller of a synchronous step among them.
  TaskQueue(std::size_t capacity, std::size_t num_sharing)
      : ring_(capacity), num_sharing_(num_sharing) {}

  /// Appends make(0) to make(count - 1) and sees to it that `max_wake` workers are awake, if there
  /// are so many.
  template <typename Make>
  void push(std::size_t count, std::size_t max_wake, const Make& make) {
    std::size_t wake = 0;
    {
      const std::lock_guard lock(mutex_);
      const std::size_t waiting = waiting_.load(std::memory_order_relaxed);
      FASTRL_DCHECK(waiting + count <= ring_.size());
      std::size_t at = (head_ + waiting) % ring_.size();
      for (std::size_t i = 0; i < count; ++i) {
        ring_[at] = make(i);
        if (++at == ring_.size()) at = 0;
      }
      waiting_.store(waiting + count, std::memory_order_relaxed);
      // Who polls sees the tasks, or looks once more under the lock before it sleeps.
      const std::size_t polling = polling_.load(std::memory_order_relaxed);
      wake = std::min(max_wake - std::min(max_wake, polling), sleeping_);
    }
    for (std::size_t i = 0; i < wake; ++i) wake_.notify_one();
  }

  /// Takes back what waits; returns how much it was.
  std::size_t withdraw() {
    const std::lock_guard lock(mutex_);
    const std::size_t waiting = waiting_.load(std::memory_order_relaxed);
    head_ = (head_ + waiting) % ring_.size();
    waiting_.store(0, std::memory_order_relaxed);
    return waiting;
  }

  /// Moves a chunk into `chunk`. Returns false at once when nothing waits.
  bool try_take(std::vector<Task>& chunk) {
    if (waiting_.load(std::memory_order_relaxed) == 0) return false;
    const std::lock_guard lock(mutex_);
    return take_locked(chunk);
  }

  /// Like `try_take`, but waits for work. Returns false once the queue is closed.
  bool take(std::vector<Task>& chunk) {
    while (!closed_.load(std::memory_order_relaxed)) {
      if (poll(chunk)) return true;
      std::unique_lock lock(mutex_);
      if (take_locked(chunk)) return true;
      if (closed_.load(std::memory_order_relaxed)) break;
      // Woken, perhaps too late for this step, it polls again: it will be there for the next one.
      ++sleeping_;
      wake_.wait(lock);
      --sleeping_;
      if (take_locked(chunk)) return true;
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
      waiting_.store(0, std::memory_order_relaxed);
      closed_.store(true, std::memory_order_relaxed);
    }
    wake_.notify_all();
  }

 private:
  /// Looks for work for a while: waking a thread that sleeps costs more than many a step. Not more
  /// threads than the caller leaves CPUs for.
  bool poll(std::vector<Task>& chunk) {
    bool found = false;
    if (polling_.fetch_add(1, std::memory_order_relaxed) + 1 < num_sharing_) {
      const auto until = Clock::now() + kPoll;
      do {
        for (int i = 0; i < 64 && !found; ++i) {
          found = try_take(chunk);
          pause_cpu();
        }
      } while (!found && Clock::now() < until && !closed_.load(std::memory_order_relaxed));
    }
    polling_.fetch_sub(1, std::memory_order_relaxed);
    return found;
  }

  bool take_locked(std::vector<Task>& chunk) {
    const std::size_t waiting = waiting_.load(std::memory_order_relaxed);
    if (waiting == 0) return false;
    const bool shared = ring_[head_].action == Task::kShare;
    const std::size_t size = shared ? 1 : std::min(waiting, chunk_size(waiting));
    chunk.resize(size);
    for (Task& task : chunk) {
      task = ring_[head_];
      if (++head_ == ring_.size()) head_ = 0;
    }
    waiting_.store(waiting - size, std::memory_order_relaxed);
    return true;
  }

  /// Guided self-scheduling: half of an even share of what waits, so that chunks shrink towards
  /// the end and threads finish together; bounded so that a chunk lasts 2 to 20 microseconds.
  [[nodiscard]] std::size_t chunk_size(std::size_t waiting) const noexcept {
    const double ns = std::max(ns_per_task(), 1.0);
    const auto least = std::max<std::size_t>(1, static_cast<std::size_t>(2e3 / ns));
    const auto most = std::max<std::size_t>(1, static_cast<std::size_t>(2e4 / ns));
    if (num_sharing_ == 1) return most;
    return std::clamp(waiting / (2 * num_sharing_), least, most);
  }

  static constexpr Clock::duration kPoll = std::chrono::microseconds(50);

  std::vector<Task> ring_;
  const std::size_t num_sharing_;
  std::atomic<std::size_t> polling_{0};
  std::mutex mutex_;  ///< Guards ring_, head_, sleeping_, and every write of waiting_ and closed_.
  std::condition_variable wake_;
  std::size_t head_ = 0;
  std::size_t sleeping_ = 0;
  std::atomic<std::size_t> waiting_{0};
  std::atomic<bool> closed_{false};
  std::atomic<double> ns_per_task_{0.0};
};

}  // namespace fastrl
