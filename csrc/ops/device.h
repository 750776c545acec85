// What the headers that are compiled twice share: by g++ into the CPU twins and by NVRTC into the
// kernels, so that what the CPU tests prove is the kernel's own code. NVRTC has no standard
// library: these headers include nothing else.
//
// Both sides are built without contraction to fused multiply-add (-ffp-contract=off, --fmad=false):
// then the CPU twin, the kernel and the definition in float32 agree in every bit.
#pragma once

#ifdef __CUDACC__
#define FASTRL_DEVICE __device__ inline
#define FASTRL_UNROLL _Pragma("unroll 8")  // loads of eight steps in flight at once
#else
#define FASTRL_DEVICE [[gnu::always_inline]] inline  // into every clone of a twin
#define FASTRL_UNROLL
#endif

// The loader picks the widest vectors that the processor has; the bits are the same.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define FASTRL_CLONES __attribute__((target_clones("default", "avx2")))
#else
#define FASTRL_CLONES
#endif

namespace fastrl::ops {

// Masks, not branches: without -ffast-math g++ vectorises no branch around arithmetic.

/// `keep ? x : 0`, also when x is not a number.
FASTRL_DEVICE float masked(float x, bool keep) {
  return __builtin_bit_cast(float,
                            __builtin_bit_cast(unsigned, x) & (0U - static_cast<unsigned>(keep)));
}

/// `first ? a : b`, also when one of them is not a number.
FASTRL_DEVICE float select(bool first, float a, float b) {
  return __builtin_bit_cast(float, __builtin_bit_cast(unsigned, masked(a, first)) |
                                       __builtin_bit_cast(unsigned, masked(b, !first)));
}

}  // namespace fastrl::ops
