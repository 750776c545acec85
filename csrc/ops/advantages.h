// Generalized advantage estimation: the scan A_t = delta_t + g_t A_{t+1} down the rows of a
// rollout.
//
// The definition is fastrl/advantages.py. Everything below `FASTRL_DEVICE` is compiled twice: by
// g++ in advantages.cpp and by NVRTC in advantages.cu, so what the CPU tests prove is the kernel's
// own code. NVRTC has no standard library: this part includes nothing.
//
// Both sides are built without contraction to fused multiply-add (-ffp-contract=off, --fmad=false):
// then the CPU twin, the kernel and the definition in float32 agree in every bit.
//
// Shapes: T rollout steps, N environments; time-major, so a row is one step of every environment.
#pragma once

#ifdef __CUDACC__
#define FASTRL_DEVICE __device__ inline
#define FASTRL_UNROLL _Pragma("unroll 8")  // loads of eight steps in flight at once
#else
#define FASTRL_DEVICE [[gnu::always_inline]] inline  // into every clone of advantages.cpp
#define FASTRL_UNROLL
#endif

namespace fastrl::ops {

/// One step of one environment in the scan.
struct ScanTerm {
  float delta;
  float decay;
};

/// A_t = delta_t + g_t A_{t+1}. Every estimator that is a linear recursion shares this line.
FASTRL_DEVICE float scan_step(ScanTerm term, float tail) { return term.delta + term.decay * tail; }

/// `keep ? x : 0`, also when x is not a number.
FASTRL_DEVICE float masked(float x, bool keep) {
  return __builtin_bit_cast(float,
                            __builtin_bit_cast(unsigned, x) & (0U - static_cast<unsigned>(keep)));
}

/// The TD error, and how much of A_{t+1} belongs to this episode.
///
/// A terminal state has no value. A time limit keeps the value but, like a terminal state, ends the
/// sum. `decay` is gamma * gae_lambda, multiplied in float32 as for a tensor of either.
FASTRL_DEVICE ScanTerm gae_term(float reward, float value, float next_value, bool terminated,
                                bool truncated, float gamma, float decay) {
  // Masks, not branches: without -ffast-math g++ vectorises no branch around arithmetic.
  const float bootstrap = masked(next_value, !terminated);
  const float target = reward + gamma * bootstrap;
  return {target - value, masked(decay, !(terminated | truncated))};
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

/// Scans the `width` <= kMaxWidth neighbouring columns that start at `first`, last step first.
///
/// The CPU takes hundreds of columns at a time and vectorises over them; a CUDA thread takes one.
template <int kMaxWidth>
FASTRL_DEVICE void gae_columns(const GaeArrays& arrays, long long first, int width, float gamma,
                               float decay) {
  float tail[kMaxWidth] = {};
  FASTRL_UNROLL
  for (long long t = arrays.num_steps - 1; t >= 0; --t) {
    const long long row = t * arrays.num_envs + first;
    const float* __restrict__ rewards = arrays.rewards + row;
    const float* __restrict__ values = arrays.values + row;
    const float* __restrict__ next_values = arrays.next_values + row;
    const unsigned char* __restrict__ terminated = arrays.terminated + row;
    const unsigned char* __restrict__ truncated = arrays.truncated + row;
    float* __restrict__ out = arrays.out + row;
    for (int i = 0; i < width; ++i) {
      tail[i] = scan_step(gae_term(rewards[i], values[i], next_values[i], terminated[i] != 0,
                                   truncated[i] != 0, gamma, decay),
                          tail[i]);
      out[i] = tail[i];
    }
  }
}

#ifndef __CUDACC__
/// `gae_columns` over all columns, on the calling thread.
void gae(const GaeArrays& arrays, float gamma, float decay) noexcept;
#endif

}  // namespace fastrl::ops
