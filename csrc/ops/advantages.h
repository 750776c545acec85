// Generalized advantage estimation: the scan A_t = delta_t + g_t A_{t+1} down the rows of a
// rollout, with a discount and a lambda that are constant or each state's own.
//
// The definitions are in fastrl/advantages.py.
//
// Shapes: T rollout steps, N environments; time-major, so a row is one step of every environment.
#pragma once

#include "csrc/ops/device.h"

namespace fastrl::ops {

/// One step of one environment in the scan.
struct ScanTerm {
  float delta;
  float decay;
};

/// A_t = delta_t + g_t A_{t+1}. Every estimator that is a linear recursion shares this line.
FASTRL_DEVICE float scan_step(ScanTerm term, float tail) { return term.delta + term.decay * tail; }

/// The TD error, and how much of A_{t+1} belongs to this episode.
///
/// A terminal state has no value. A time limit keeps the value but, like a terminal state, ends the
/// sum. `gamma` and `gae_lambda` are those of the state that the step reached.
FASTRL_DEVICE ScanTerm gae_term(float reward, float value, float next_value, bool terminated,
                                bool truncated, float gamma, float gae_lambda) {
  const float bootstrap = masked(next_value, !terminated);
  const float target = reward + gamma * bootstrap;
  return {target - value, masked(gamma * gae_lambda, !(terminated | truncated))};
}

/// A rollout and where its advantages go. `out` overlaps none of the inputs.
struct GaeArrays {
  const float* rewards;             // (T, N)
  const float* values;              // (T, N)
  const float* next_values;         // (T, N)
  const unsigned char* terminated;  // (T, N), a bool per byte
  const unsigned char* truncated;   // (T, N), a bool per byte
  float* out;                       // (T, N)
  long long num_steps;              // T
  long long num_envs;               // N
};

/// Discount and lambda: row t of an array is that of the state which step t reached.
struct Rates {
  const float* gammas;   // (T, N), or null: `gamma` everywhere
  const float* lambdas;  // (T, N), or null: `gae_lambda` everywhere
  float gamma;
  float gae_lambda;
};

/// The same rate in every step.
struct Constant {
  float value;
  FASTRL_DEVICE Constant row(long long /*first*/) const { return *this; }
  FASTRL_DEVICE float operator[](int /*column*/) const { return value; }
};

/// A rate of each step's own.
struct PerStep {
  const float* values;  // (T, N)
  FASTRL_DEVICE const float* row(long long first) const { return values + first; }
};

/// Scans one row of `width` columns that starts at the flat position `row`.
template <class Gammas, class Lambdas>
FASTRL_DEVICE void gae_row(const GaeArrays& arrays, long long row, int width, const Gammas gammas,
                           const Lambdas lambdas, float* __restrict__ tail) {
  const float* __restrict__ rewards = arrays.rewards + row;
  const float* __restrict__ values = arrays.values + row;
  const float* __restrict__ next_values = arrays.next_values + row;
  const unsigned char* __restrict__ terminated = arrays.terminated + row;
  const unsigned char* __restrict__ truncated = arrays.truncated + row;
  float* __restrict__ out = arrays.out + row;
  for (int i = 0; i < width; ++i) {
    tail[i] = scan_step(gae_term(rewards[i], values[i], next_values[i], terminated[i] != 0,
                                 truncated[i] != 0, gammas[i], lambdas[i]),
                        tail[i]);
    out[i] = tail[i];
  }
}

template <int kMaxWidth, class Gammas, class Lambdas>
FASTRL_DEVICE void gae_columns(const GaeArrays& arrays, long long first, int width, Gammas gammas,
                               Lambdas lambdas) {
  float tail[kMaxWidth] = {};
  FASTRL_UNROLL
  for (long long t = arrays.num_steps - 1; t >= 0; --t) {
    const long long row = t * arrays.num_envs + first;
    gae_row(arrays, row, width, gammas.row(row), lambdas.row(row), tail);
  }
}

/// Scans the `width` <= kMaxWidth neighbouring columns that start at `first`, last step first.
///
/// The CPU takes hundreds of columns at a time and vectorises over them; a CUDA thread takes one.
template <int kMaxWidth>
FASTRL_DEVICE void gae_columns(const GaeArrays& arrays, const Rates& rates, long long first,
                               int width) {
  const Constant gamma{rates.gamma};
  const Constant gae_lambda{rates.gae_lambda};
  const PerStep gammas{rates.gammas};
  const PerStep lambdas{rates.lambdas};
  if (rates.gammas == nullptr && rates.lambdas == nullptr) {
    gae_columns<kMaxWidth>(arrays, first, width, gamma, gae_lambda);
  } else if (rates.lambdas == nullptr) {
    gae_columns<kMaxWidth>(arrays, first, width, gammas, gae_lambda);
  } else if (rates.gammas == nullptr) {
    gae_columns<kMaxWidth>(arrays, first, width, gamma, lambdas);
  } else {
    gae_columns<kMaxWidth>(arrays, first, width, gammas, lambdas);
  }
}

/// The inputs of `blended_lambda` and where it goes. `lambdas` overlaps none of the inputs.
struct BlendArrays {
  const float* error;               // (T, N)
  const float* noise;               // (T, N)
  const unsigned char* terminated;  // (T, N), a bool per byte
  const unsigned char* truncated;   // (T, N), a bool per byte
  float* lambdas;                   // (T, N)
  long long num_steps;              // T
  long long num_envs;               // N
};

/// The constants of `blended_lambda`.
struct Blend {
  float gamma_squared;
  float neutral;  ///< lambda where error and variance are both 0.
  float unit;     ///< What an error of 1 is, in variances of a TD error.
  float start;    ///< S^2 beyond an end.
};

/// One row of the recursion: writes lambda and takes S^2 one step back, in `variance`.
FASTRL_DEVICE void blend_row(const BlendArrays& arrays, const Blend& blend, long long row,
                             int width, float* __restrict__ variance) {
  const float* __restrict__ error = arrays.error + row;
  const float* __restrict__ noise = arrays.noise + row;
  const unsigned char* __restrict__ terminated = arrays.terminated + row;
  const unsigned char* __restrict__ truncated = arrays.truncated + row;
  float* __restrict__ lambdas = arrays.lambdas + row;
  for (int i = 0; i < width; ++i) {
    const bool dead = terminated[i] != 0;
    const bool cut = truncated[i] != 0;
    const float beyond = select(dead | cut, blend.start, variance[i]);
    const float squared_error = blend.unit * error[i];
    const float total = squared_error + beyond;
    const float lambda = select(total > 0.0F, squared_error / total, blend.neutral);
    const float ahead = masked(select(cut, squared_error, lambda * beyond), !dead);
    variance[i] = noise[i] + blend.gamma_squared * ahead;
    lambdas[i] = lambda;
  }
}

/// `blended_lambda` of neighbouring columns and, unless `arrays` is null, the scan with it.
template <int kMaxWidth>
FASTRL_DEVICE void blend_columns(const BlendArrays& blended, const Blend& blend,
                                 const GaeArrays* arrays, float gamma, long long first, int width) {
  float variance[kMaxWidth];
  float tail[kMaxWidth] = {};
  for (int i = 0; i < width; ++i) variance[i] = blend.start;
  for (long long t = blended.num_steps - 1; t >= 0; --t) {
    const long long row = t * blended.num_envs + first;
    blend_row(blended, blend, row, width, variance);
    if (arrays != nullptr) {
      const float* lambdas = blended.lambdas + row;
      gae_row(*arrays, row, width, Constant{gamma}, lambdas, tail);
    }
  }
}

#ifndef __CUDACC__
// Over all columns, on the calling thread.

/// `fastrl.advantages.gae`.
void gae(const GaeArrays& arrays, const Rates& rates) noexcept;

/// `fastrl.advantages.blended_lambda` or, unless `arrays` is null, `blended_gae`.
void blend(const BlendArrays& blended, const Blend& blend, const GaeArrays* arrays,
           float gamma) noexcept;
#endif

}  // namespace fastrl::ops
