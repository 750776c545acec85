// horizon_kernel: the advantage of rewards predicted at each lag; lag_rewards_kernel: what those
// predictions are trained on. Compiled at first use by NVRTC (fastrl/kernels.py) and launched by
// fastrl/ops.py.
//
// Oracle: the code is horizon.h, proved on the CPU; the `gpu` tests in
// tests/unit/test_discount_kernels.py compare launches with the CPU twins.
//
// Version 1, one thread per step, so that lags are summed in one order. Neighbouring threads read
// neighbouring rewards; their means lie H floats apart, so a warp reads 32 lines at a time and
// comes back to each. Not yet timed on a GPU.
#include "csrc/ops/horizon.h"

extern "C" __global__ void horizon_kernel(const float* __restrict__ rewards,             // (T, N)
                                          const unsigned char* __restrict__ terminated,  // (T, N)
                                          const unsigned char* __restrict__ truncated,   // (T, N)
                                          long long num_steps, long long num_envs,
                                          const float* __restrict__ means,  // (T, N, H) or null
                                          const float* __restrict__ next_means,  // (T, N, H)
                                          const float* __restrict__ weights,  // (H,) or (T, N, H)
                                          long long weight_stride,
                                          float* __restrict__ out,  // (T, N)
                                          int num_lags, int num_sampled) {
  const long long cell = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (cell >= num_steps * num_envs) return;
  const fastrl::ops::HorizonArrays arrays{{rewards, terminated, truncated, num_steps, num_envs},
                                          means,
                                          next_means,
                                          weights,
                                          weight_stride,
                                          out,
                                          num_lags,
                                          num_sampled};
  out[cell] = means == nullptr ? fastrl::ops::horizon_advantage<false>(arrays, cell)
                               : fastrl::ops::horizon_advantage<true>(arrays, cell);
}

extern "C" __global__ void lag_rewards_kernel(
    const float* __restrict__ rewards,             // (T, N)
    const unsigned char* __restrict__ terminated,  // (T, N)
    const unsigned char* __restrict__ truncated,   // (T, N)
    long long num_steps, long long num_envs,
    const long long* __restrict__ index,  // (M,)
    long long num_chosen, int num_lags,
    float* __restrict__ targets,          // (M, H)
    unsigned char* __restrict__ known) {  // (M, H)
  const long long m = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (m >= num_chosen) return;
  const fastrl::ops::Steps steps{rewards, terminated, truncated, num_steps, num_envs};
  fastrl::ops::lag_rewards_of(steps, index[m], num_lags, targets + m * num_lags,
                              known + m * num_lags);
}
