// A range of environments divided among threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <vector>

namespace fastrl {

/// Every thread begins with a part of its own, the same at every step, so that its environments
/// stay in its cache; then it helps the others.
class Shares {
 public:
  explicit Shares(std::size_t max_parts) : parts_(max_parts) {}

  /// Divides [0, count) into `num_parts`. Nobody may be in `work`.
  void begin(std::size_t count, std::size_t num_parts) noexcept {
    num_parts_ = num_parts;
    for (std::size_t k = 0; k < num_parts; ++k) {
      parts_[k].next.store(count * k / num_parts, std::memory_order_relaxed);
      parts_[k].end = count * (k + 1) / num_parts;
    }
  }

  /// Calls run(first, last) for at most `chunk` at a time: all that nobody began of part `own`,
  /// then of the parts of others while more than `leave` of theirs is left.
  template <typename Run>
  void work(std::size_t own, std::size_t chunk, std::size_t leave, const Run& run) {
    for (std::size_t k = 0; k < num_parts_; ++k) {
      Part& part = parts_[(own + k) % num_parts_];
      const std::size_t until = k == 0 || leave < part.end ? part.end - (k == 0 ? 0 : leave) : 0;
      while (part.next.load(std::memory_order_relaxed) < until) {
        const std::size_t first = part.next.fetch_add(chunk, std::memory_order_relaxed);
        if (first < part.end) run(first, std::min(first + chunk, part.end));
      }
    }
  }

 private:
  struct alignas(64) Part {
    std::atomic<std::size_t> next{0};
    std::size_t end = 0;
  };

  std::vector<Part> parts_;
  std::size_t num_parts_ = 0;
};

}  // namespace fastrl
