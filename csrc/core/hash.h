// A hash for checksums and identities: not for tables, not against an adversary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fastrl {

/// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv).
[[nodiscard]] inline std::uint64_t hash_bytes(std::span<const std::byte> bytes) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const std::byte b : bytes) {
    hash = (hash ^ static_cast<std::uint64_t>(b)) * 0x100000001B3ULL;
  }
  return hash;
}

}  // namespace fastrl
