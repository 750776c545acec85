// Advantages from the rewards predicted at each lag: sums over what followed a step, found on the
// fly, so that no block of lagged rewards is ever stored.
//
// The definitions are in fastrl/advantages.py.
//
// Shapes: T rollout steps, N environments, H lags, M chosen steps; time-major. A cell is the flat
// position of a step in the (T, N) rollout.
#pragma once

#ifndef __CUDACC__
#include <cstdint>
#endif

#include "csrc/ops/device.h"

namespace fastrl::ops {

/// The rewards of a rollout and where its episodes end.
struct Steps {
  const float* rewards;             // (T, N)
  const unsigned char* terminated;  // (T, N), a bool per byte
  const unsigned char* truncated;   // (T, N), a bool per byte
  long long num_steps;              // T
  long long num_envs;               // N
};

/// How the steps that follow a cell end.
enum class End { kNone, kTerminal, kCut };

/// A time limit and the end of the rollout cut alike: what follows exists but was not seen.
FASTRL_DEVICE End end_of(const Steps& steps, long long cell) {
  if (steps.terminated[cell] != 0) return End::kTerminal;
  const bool last = cell >= (steps.num_steps - 1) * steps.num_envs;
  return last || steps.truncated[cell] != 0 ? End::kCut : End::kNone;
}

/// What `variance_horizon` reads, and where it writes. `out` overlaps none of the inputs.
struct HorizonArrays {
  Steps steps;
  const float* means;       // (T, N, H), or null: 0
  const float* next_means;  // (T, N, H)
  const float* weights;     // (H,) or (T, N, H)
  long long weight_stride;  // from one step's weights to the next one's: 0 or H
  float* out;               // (T, N)
  int num_lags;             // H
  int num_sampled;          // n >= 1: rewards that are taken as they came, then what is predicted
};

/// sum_k w_k (x_k - mu_k) of one step, in the order of the lags.
///
/// x_k is the reward k steps on; after a terminal state 0; after a cut, or after n steps, what the
/// state reached there predicts.
template <bool kMeans>
FASTRL_DEVICE float horizon_advantage(const HorizonArrays& arrays, long long cell) {
  const Steps& steps = arrays.steps;
  const float* weights = arrays.weights + cell * arrays.weight_stride;
  const float* means = kMeans ? arrays.means + cell * arrays.num_lags : nullptr;
  float sum = 0.0F;
  int k = 0;
  End end = End::kNone;
  long long at = cell;
  while (k < arrays.num_lags && end == End::kNone) {
    const float reward = steps.rewards[at];
    sum = sum + weights[k] * (kMeans ? reward - means[k] : reward);
    end = end_of(steps, at);
    ++k;
    if (end == End::kNone && k == arrays.num_sampled) end = End::kCut;
    if (end == End::kNone) at += steps.num_envs;
  }
  const float* later = arrays.next_means + at * arrays.num_lags;
  for (int j = 0; k < arrays.num_lags; ++k, ++j) {
    const float predicted = end == End::kCut ? later[j] : 0.0F;
    sum = sum + weights[k] * (kMeans ? predicted - means[k] : predicted);
  }
  return sum;
}

/// Writes the H targets of one step and whether each was observed; 0 where it was not.
FASTRL_DEVICE void lag_rewards_of(const Steps& steps, long long cell, int num_lags, float* targets,
                                  unsigned char* known) {
  End end = End::kNone;
  for (int k = 0; k < num_lags; ++k) {
    targets[k] = end == End::kNone ? steps.rewards[cell] : 0.0F;
    known[k] = end == End::kCut ? 0 : 1;
    if (end == End::kNone) {
      end = end_of(steps, cell);
      if (end == End::kNone) cell += steps.num_envs;
    }
  }
}

#ifndef __CUDACC__
// Over all cells, on the calling thread.

/// `fastrl.advantages.variance_horizon` or, without means, `variance_horizon_return`.
void variance_horizon(const HorizonArrays& arrays) noexcept;

/// `fastrl.advantages.lag_rewards`. Every index is a cell.
void lag_rewards(const Steps& steps, const std::int64_t* index,  // (M,)
                 long long num_chosen, int num_lags,
                 float* targets,        // (M, H)
                 unsigned char* known)  // (M, H), a bool per byte
    noexcept;

/// Where `lag_moments` writes, each (H,).
struct LagMoments {
  std::int64_t* num_known;
  double* mean;
  double* variance;
  double* squared_error;
};

/// `fastrl.advantages.lag_moments`: sums in float64 over the valid cells in their order.
void lag_moments(const Steps& steps, const float* means,  // (T, N, H)
                 const unsigned char* valid,              // (T, N), a bool per byte
                 int num_lags, const LagMoments& moments) noexcept;
#endif

}  // namespace fastrl::ops
