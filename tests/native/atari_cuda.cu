// One console a thread, for tests/unit/test_atari_cuda.py, which only compiles it.
//
// The headers say nothing of CUDA: NVRTC's -default-device takes what is not annotated for device
// code. cuda_std.h stands in for the standard library. States are loaded and reset on the host:
// with the mode programs of every game inlined, load() takes NVRTC many minutes.
#include "tests/native/cuda_std.h"
// The order matters.
#include "envs/atari/atari.h"

using fastrl::envs::atari::PlainAtari;
using fastrl::envs::atari::Rom;

extern "C" __global__ void atari_act(PlainAtari* atari,   // (N,)
                                     const Rom* roms,     // (N,)
                                     const int* actions,  // (N,)
                                     int* rewards,        // (N,)
                                     int num_envs) {
  const int i = static_cast<int>((blockIdx.x * blockDim.x) + threadIdx.x);
  if (i < num_envs) rewards[i] = atari[i].act(roms[i], actions[i]);
}
