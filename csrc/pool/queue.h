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

  static constexpr std::int32_t kReset = -1;
  static constexpr std::int32_t kObserve = -2;  ///< Report the state as it is.
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

  /// `capacity`: tasks that can wait at once. `num_sharing`: threads that divide the work.
  /// `spin`: how long an idle worker polls before it sleeps.
  TaskQueue(std::size_t capacity, std::size_t num_sharing, Clock::duration spin)
      : ring_(capacity), num_sharing_(num_sharing), spin_(spin) {}

  /// Appends make(0) to make(count - 1) and wakes at most `max_wake` sleeping workers.
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
      wake = std::min(max_wake, sleeping_);
    }
    for (std::size_t i = 0; i < wake; ++i) wake_.notify_one();
  }

  /// Moves a chunk into `chunk`. Returns false at once when nothing waits.
  bool try_take(std::vector<Task>& chunk) {
    if (waiting_.load(std::memory_order_relaxed) == 0) return false;
    const std::lock_guard lock(mutex_);
    return take_locked(chunk);
  }

  /// Like `try_take`, but waits for work. Returns false once the queue is closed.
  bool take(std::vector<Task>& chunk) {
    if (spin_ > Clock::duration::zero()) {
      const auto until = Clock::now() + spin_;
      do {
        for (int i = 0; i < 64; ++i) {
          // Only a hint: the tasks themselves are read under the lock.
          if (waiting_.load(std::memory_order_relaxed) != 0 && try_take(chunk)) return true;
          pause_cpu();
        }
      } while (Clock::now() < until && !closed_.load(std::memory_order_relaxed));
    }
    std::unique_lock lock(mutex_);
    ++sleeping_;
    wake_.wait(lock, [this] {
      return waiting_.load(std::memory_order_relaxed) != 0 ||
             closed_.load(std::memory_order_relaxed);
    });
    --sleeping_;
    return take_locked(chunk);
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
  bool take_locked(std::vector<Task>& chunk) {
    const std::size_t waiting = waiting_.load(std::memory_order_relaxed);
    if (waiting == 0) return false;
    const std::size_t size = std::min(waiting, chunk_size(waiting));
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

  std::vector<Task> ring_;
  const std::size_t num_sharing_;
  const Clock::duration spin_;
  std::mutex mutex_;  ///< Guards ring_, head_, sleeping_, and every write of waiting_ and closed_.
  std::condition_variable wake_;
  std::size_t head_ = 0;
  std::size_t sleeping_ = 0;
  std::atomic<std::size_t> waiting_{0};
  std::atomic<bool> closed_{false};
  std::atomic<double> ns_per_task_{0.0};
};

}  // namespace fastrl
