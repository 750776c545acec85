// Which vector instructions the fast picture (spans.h) and the observation (image.h) may use.
#pragma once

#include <cstdint>

#ifdef __x86_64__
#include <immintrin.h>

// What functions for a level are compiled for.
#define FASTRL_AVX2 gnu::target("avx2,bmi,bmi2,lzcnt")
#define FASTRL_AVX512 gnu::target("avx512bw,avx512vl,bmi,bmi2,lzcnt")
#define FASTRL_VBMI gnu::target("avx512vbmi,avx512bw,avx512vl,bmi,bmi2,lzcnt")
#endif

namespace fastrl::envs::atari {

/// Of x86-64. A processor that has one has those before it.
enum class Vectors : std::uint8_t {
  kNone,    ///< SSE2, which every x86-64 has; plain C++ elsewhere.
  kAvx2,    ///< With BMI2: since Haswell (2013) and Zen (2017).
  kAvx512,  ///< F, BW and VL: since Skylake-X (2017) and Zen 4 (2022).
  kVbmi     ///< Since Ice Lake (2019) and Zen 4.
};

inline Vectors best_vectors() noexcept {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2")) return Vectors::kNone;
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) {
    return Vectors::kAvx2;
  }
  return __builtin_cpu_supports("avx512vbmi") ? Vectors::kVbmi : Vectors::kAvx512;
#else
  return Vectors::kNone;
#endif
}

/// Tests lower it to see what other processors do.
inline Vectors vectors = best_vectors();

}  // namespace fastrl::envs::atari
