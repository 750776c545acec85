// gae_kernel: generalized advantage estimation on the GPU; blend_kernel: the lambda that weighs
// error against noise, and the estimate with it. Compiled at first use by NVRTC (fastrl/kernels.py)
// and launched by fastrl/ops.py.
//
// Oracle: the code of the scan is advantages.h, proved on the CPU; the `gpu` tests in
// tests/unit/test_kernels.py and test_discount_kernels.py compare launches with the CPU twins.
//
// Version 1, one thread per environment, neighbouring threads on neighbouring columns so that every
// load and store is coalesced. Not yet timed on a GPU. The T dependent steps are the length of the
// critical path; when N is too small to fill the machine, an associative scan over t (the pairs
// (delta, decay) compose) is the next refinement.
#include "csrc/ops/advantages.h"

extern "C" __global__ void gae_kernel(const float* __restrict__ rewards,             // (T, N)
                                      const float* __restrict__ values,              // (T, N)
                                      const float* __restrict__ next_values,         // (T, N)
                                      const unsigned char* __restrict__ terminated,  // (T, N)
                                      const unsigned char* __restrict__ truncated,   // (T, N)
                                      float* __restrict__ out,                       // (T, N)
                                      long long num_steps, long long num_envs,
                                      const float* __restrict__ gammas,   // (T, N) or null
                                      const float* __restrict__ lambdas,  // (T, N) or null
                                      float gamma, float gae_lambda) {
  const long long column = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= num_envs) return;
  const fastrl::ops::GaeArrays arrays{rewards,   values, next_values, terminated,
                                      truncated, out,    num_steps,   num_envs};
  const fastrl::ops::Rates rates{gammas, lambdas, gamma, gae_lambda};
  fastrl::ops::gae_columns<1>(arrays, rates, column, 1);
}

extern "C" __global__ void blend_kernel(const float* __restrict__ rewards,             // (T, N)
                                        const float* __restrict__ values,              // (T, N)
                                        const float* __restrict__ next_values,         // (T, N)
                                        const unsigned char* __restrict__ terminated,  // (T, N)
                                        const unsigned char* __restrict__ truncated,   // (T, N)
                                        float* __restrict__ out,          // (T, N) or null
                                        const float* __restrict__ error,  // (T, N)
                                        const float* __restrict__ noise,  // (T, N)
                                        float* __restrict__ lambdas,      // (T, N)
                                        long long num_steps, long long num_envs, float gamma,
                                        float gamma_squared, float neutral, float unit,
                                        float start) {
  const long long column = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= num_envs) return;
  const fastrl::ops::BlendArrays blended{error,   noise,     terminated, truncated,
                                         lambdas, num_steps, num_envs};
  const fastrl::ops::GaeArrays arrays{rewards,   values, next_values, terminated,
                                      truncated, out,    num_steps,   num_envs};
  const fastrl::ops::Blend blend{gamma_squared, neutral, unit, start};
  fastrl::ops::blend_columns<1>(blended, blend, out == nullptr ? nullptr : &arrays, gamma, column,
                                1);
}
