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

/// Arrays over `size` slots. A slot is written by one worker, then counted off in `remaining`.
class Batch {
 public:
  Batch(std::size_t num_slots, std::size_t obs_bytes, bool with_final)
      : size(num_slots),
        obs_size(obs_bytes),
        obs(num_slots * obs_bytes),
        reward(num_slots),
        terminated(num_slots),
        truncated(num_slots),
        env_id(num_slots),
        raw_reward(num_slots),
        game_over(num_slots),
        episode_return(num_slots),
        episode_length(num_slots),
        ended(with_final ? num_slots : 0),
        final_obs(with_final ? num_slots * obs_bytes : 0),
        final_return(with_final ? num_slots : 0),
        final_length(with_final ? num_slots : 0) {}

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
  // SameStep only: the end of the episodes that ended in this batch.
  std::vector<std::uint8_t> ended;
  std::vector<std::uint8_t> final_obs;  ///< (size, obs_size)
  std::vector<double> final_return;
  std::vector<std::int32_t> final_length;

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
  BatchShelf(std::size_t size, std::size_t obs_size, bool with_final)
      : size_(size), obs_size_(obs_size), with_final_(with_final) {}

  [[nodiscard]] BatchPtr take(const Destination& out) {
    std::unique_ptr<Batch> batch;
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        batch = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (!batch) batch = std::make_unique<Batch>(size_, obs_size_, with_final_);
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

  const std::size_t size_;
  const std::size_t obs_size_;
  const bool with_final_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Batch>> free_;
};

}  // namespace fastrl
