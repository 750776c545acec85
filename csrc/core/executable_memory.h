// Pages that hold machine code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fastrl {

/// Machine code that may run. Its pages are written first and executable then, never both. Where
/// the system refuses such pages it is empty.
class ExecutableMemory {
 public:
  ExecutableMemory() = default;

  explicit ExecutableMemory([[maybe_unused]] std::span<const std::uint8_t> code) noexcept {
#ifdef __linux__
    if (code.empty()) return;
    void* pages =
        ::mmap(nullptr, code.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return;
    pages_ = pages;
    size_ = code.size();
    std::memcpy(pages_, code.data(), size_);
    if (::mprotect(pages_, size_, PROT_READ | PROT_EXEC) != 0) release();
#endif
  }

  ExecutableMemory(ExecutableMemory&& other) noexcept
      : pages_(std::exchange(other.pages_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  ExecutableMemory& operator=(ExecutableMemory&& other) noexcept {
    std::swap(pages_, other.pages_);
    std::swap(size_, other.size_);
    return *this;
  }
  ExecutableMemory(const ExecutableMemory&) = delete;
  ExecutableMemory& operator=(const ExecutableMemory&) = delete;
  ~ExecutableMemory() { release(); }

  [[nodiscard]] bool empty() const noexcept { return pages_ == nullptr; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] const std::uint8_t* data() const noexcept {
    return static_cast<const std::uint8_t*>(pages_);
  }

 private:
  void release() noexcept {
#ifdef __linux__
    if (pages_ != nullptr) ::munmap(pages_, size_);
#endif
    pages_ = nullptr;
    size_ = 0;
  }

  void* pages_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace fastrl
