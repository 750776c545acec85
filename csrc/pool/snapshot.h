// Snapshots as bytes: a head, who it is of, then the environments' structs as they lie in memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "csrc/core/hash.h"

namespace fastrl {

/// The first bytes of a snapshot; `identity_size` characters and `count` slots follow.
struct SnapshotHead {
  std::array<char, 8> magic{'f', 'a', 's', 't', 'r', 'l', 'S', '1'};
  std::uint32_t identity_size = 0;
  std::uint32_t slot_size = 0;
  std::uint32_t count = 0;
  std::uint32_t reserved = 0;
  std::uint64_t checksum = 0;  ///< Of all that follows.
};

/// A snapshot of `count` slots of `slot_size` bytes; `save(i, to)` writes slot i.
template <typename Save>
[[nodiscard]] std::vector<std::byte> pack_snapshot(const std::string& identity,
                                                   std::size_t slot_size, std::size_t count,
                                                   const Save& save) {
  std::vector<std::byte> state(sizeof(SnapshotHead) + identity.size() + count * slot_size);
  std::byte* at = state.data() + sizeof(SnapshotHead);
  std::memcpy(at, identity.data(), identity.size());
  at += identity.size();
  for (std::size_t i = 0; i < count; ++i, at += slot_size) save(i, at);
  SnapshotHead head;
  head.identity_size = static_cast<std::uint32_t>(identity.size());
  head.slot_size = static_cast<std::uint32_t>(slot_size);
  head.count = static_cast<std::uint32_t>(count);
  head.checksum = hash_bytes(std::span(state).subspan(sizeof(head)));
  std::memcpy(state.data(), &head, sizeof(head));
  return state;
}

/// The slots of a snapshot that fits `wanted` environments: as many as these, or one.
///
/// Throws std::invalid_argument, which says what does not fit.
[[nodiscard]] inline std::span<const std::byte> unpack_snapshot(std::span<const std::byte> state,
                                                                const std::string& identity,
                                                                std::size_t slot_size,
                                                                std::size_t wanted) {
  SnapshotHead head;
  const SnapshotHead expected;
  if (state.size() < sizeof(head)) {
    throw std::invalid_argument("state is truncated: " + std::to_string(state.size()) + " bytes");
  }
  std::memcpy(&head, state.data(), sizeof(head));
  if (head.magic != expected.magic || head.reserved != 0) {
    throw std::invalid_argument("state was not made by get_state of this version of fastrl");
  }
  const std::span<const std::byte> body = state.subspan(sizeof(head));
  const std::size_t size =
      std::size_t{head.identity_size} + std::size_t{head.slot_size} * std::size_t{head.count};
  if (body.size() != size) {
    throw std::invalid_argument("state has " + std::to_string(state.size()) + " bytes, but " +
                                std::to_string(size + sizeof(head)) +
                                " are expected: it is truncated or extended");
  }
  if (head.checksum != hash_bytes(body)) {
    throw std::invalid_argument("state is damaged: its checksum does not match");
  }
  std::string found(head.identity_size, '\0');
  std::memcpy(found.data(), body.data(), found.size());
  if (found != identity) {
    throw std::invalid_argument("state is of '" + found + "', this pool is '" + identity + "'");
  }
  if (head.slot_size != slot_size) {
    throw std::invalid_argument("state has " + std::to_string(head.slot_size) +
                                " bytes an environment, this build needs " +
                                std::to_string(slot_size));
  }
  if (head.count != wanted && head.count != 1) {
    throw std::invalid_argument("state holds " + std::to_string(head.count) +
                                " environments, env_ids names " + std::to_string(wanted));
  }
  return body.subspan(head.identity_size);
}

}  // namespace fastrl
