// The arrays of one batch: written once by the workers, lent to the caller, reused when dropped.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace fastrl {

/// Running totals of the full game, this step included.
struct Episode {
  double total_reward = 0.0;
  std::int32_t length = 0;  ///< Agent steps.
};

/// Where the four arrays of a batch lie when the caller owns them (`out=`); null: in the batch.
struct Destination {
  std::uint8_t* obs = nullptr;
  float* reward = nullptr;
  std::uint8_t* terminated = nullptr;
  std::uint8_t* truncated = nullptr;
};

struct BatchShape {
  std::size_t size = 0;         ///< Slots.
  std::size_t obs_size = 0;     ///< Bytes of one observation.
  std::size_t num_columns = 0;  ///< Values that the game itself adds to `info`.
  bool with_final = false;      ///< Whether there is room for ends of episodes (SameStep).
};

/// Arrays over `size` slots. A slot is written by one worker, then counted off in `remaining`.
class Batch {
 public:
  explicit Batch(const BatchShape& shape)
      : size(shape.size),
        obs_size(shape.obs_size),
        obs(size * obs_size),
        reward(size),
        terminated(size),
        truncated(size),
        env_id(size),
        raw_reward(size),
        game_over(size),
        episode_return(size),
        episode_length(size),
        columns(size * shape.num_columns),
        ended(shape.with_final ? size : 0),
        final_obs(shape.with_final ? size * obs_size : 0),
        final_return(shape.with_final ? size : 0),
        final_length(shape.with_final ? size : 0),
        final_columns(shape.with_final ? columns.size() : 0) {}

  /// Makes the batch ready for `size` new results.
  void begin(const Destination& out) noexcept {
    to.obs = out.obs != nullptr ? out.obs : obs.data();
    to.reward = out.reward != nullptr ? out.reward : reward.data();
    to.terminated = out.terminated != nullptr ? out.terminated : terminated.data();
    to.truncated = out.truncated != nullptr ? out.truncated : truncated.data();
    num_ended.store(0, std::memory_order_relaxed);
    claimed = 0;
    remaining.store(size, std::memory_order_relaxed);
  }

  const std::size_t size;
  const std::size_t obs_size;  ///< Bytes of one observation.

  std::vector<std::uint8_t> obs;  ///< (size, obs_size)
  std::vector<float> reward;
  std::vector<std::uint8_t> terminated;
  std::vector<std::uint8_t> truncated;
  std::vector<std::int32_t> env_id;
  std::vector<float> raw_reward;  ///< Before clipping.
  std::vector<std::uint8_t> game_over;
  std::vector<double> episode_return;
  std::vector<std::int32_t> episode_length;
  std::vector<std::int32_t> columns;  ///< (num_columns, size)
  // SameStep only: the end of the episodes that ended in this batch.
  std::vector<std::uint8_t> ended;
  std::vector<std::uint8_t> final_obs;  ///< (size, obs_size)
  std::vector<double> final_return;
  std::vector<std::int32_t> final_length;
  std::vector<std::int32_t> final_columns;  ///< (num_columns, size)

  Destination to;                         ///< Where the workers write; set by `begin`.
  std::size_t claimed = 0;                ///< Slots given out; guarded by the pool's claim lock.
  std::atomic<std::size_t> num_ended{0};  ///< Read after `remaining` is zero.
  std::atomic<std::size_t> remaining{0};  ///< Slots not yet written.
};

using BatchPtr = std::shared_ptr<Batch>;

/// Batches of one shape. A batch comes back here when its last owner, often a numpy array, drops
/// it, also when that happens after the pool is gone.
class BatchShelf : public std::enable_shared_from_this<BatchShelf> {
 public:
  explicit BatchShelf(const BatchShape& shape) : shape_(shape) {}

  [[nodiscard]] BatchPtr take(const Destination& out) {
    std::unique_ptr<Batch> batch;
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        batch = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (!batch) batch = std::make_unique<Batch>(shape_);
    batch->begin(out);
    return {batch.release(), [shelf = weak_from_this()](Batch* dropped) {
              std::unique_ptr<Batch> owned(dropped);
              if (const auto alive = shelf.lock()) alive->put(std::move(owned));
            }};
  }

 private:
  void put(std::unique_ptr<Batch> batch) {
    const std::lock_guard lock(mutex_);
    if (free_.size() < kMaxFree) free_.push_back(std::move(batch));
  }

  static constexpr std::size_t kMaxFree = 8;  ///< A caller that kept many at once gives them back.

  const BatchShape shape_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Batch>> free_;
};

}  // namespace fastrl
