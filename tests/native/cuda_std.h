// As much of the standard library as the console needs, for NVRTC, which has none.
#pragma once

namespace std {

using size_t = decltype(sizeof(0));
using ptrdiff_t = long long;
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned;
using int64_t = long long;
using uint64_t = unsigned long long;
enum class byte : unsigned char {};

template <typename T>
inline constexpr bool is_trivially_copyable_v = __is_trivially_copyable(T);
template <typename A, typename B>
inline constexpr bool is_same_v = false;
template <typename A>
inline constexpr bool is_same_v<A, A> = true;
template <typename A, typename B>
concept same_as = is_same_v<A, B>;
template <typename From, typename To>
concept convertible_to = __is_convertible_to(From, To);

template <typename T>
struct numeric_limits {
  static constexpr bool is_signed = static_cast<T>(-1) < static_cast<T>(0);
  static constexpr T max() noexcept {
    return is_signed ? static_cast<T>((uint64_t{1} << (8 * sizeof(T) - 1)) - 1)
                     : static_cast<T>(-1);
  }
  static constexpr T min() noexcept { return is_signed ? static_cast<T>(-max() - 1) : T{0}; }
};

template <typename T>
constexpr const T& min(const T& a, const T& b) noexcept {
  return b < a ? b : a;
}
template <typename T>
constexpr const T& max(const T& a, const T& b) noexcept {
  return a < b ? b : a;
}
template <typename T>
constexpr const T& clamp(const T& x, const T& low, const T& high) noexcept {
  return x < low ? low : high < x ? high : x;
}
template <typename T>
constexpr void swap(T& a, T& b) noexcept {
  T c = a;
  a = b;
  b = c;
}
constexpr int popcount(unsigned x) noexcept {
  int count = 0;
  for (; x != 0; x &= x - 1) ++count;
  return count;
}

template <typename T>
constexpr T* fill_n(T* first, size_t n, const T& value) noexcept {
  for (; n > 0; --n) *first++ = value;
  return first;
}

template <typename T, size_t N>
struct array {
  T elements[N];

  constexpr T& operator[](size_t i) noexcept { return elements[i]; }
  constexpr const T& operator[](size_t i) const noexcept { return elements[i]; }
  constexpr T* data() noexcept { return elements; }
  constexpr const T* data() const noexcept { return elements; }
  constexpr T* begin() noexcept { return elements; }
  constexpr const T* begin() const noexcept { return elements; }
  constexpr T* end() noexcept { return elements + N; }
  constexpr const T* end() const noexcept { return elements + N; }
  constexpr T& front() noexcept { return elements[0]; }
  constexpr const T& front() const noexcept { return elements[0]; }
  constexpr T& back() noexcept { return elements[N - 1]; }
  constexpr const T& back() const noexcept { return elements[N - 1]; }
  static constexpr size_t size() noexcept { return N; }
  constexpr void fill(const T& value) noexcept {
    for (T& element : elements) element = value;
  }
  constexpr bool operator==(const array&) const = default;
};

template <typename T, typename... Rest>
array(T, Rest...) -> array<T, 1 + sizeof...(Rest)>;

template <typename T, size_t N>
constexpr array<T, N> to_array(const T (&elements)[N]) noexcept {
  array<T, N> all{};
  for (size_t i = 0; i < N; ++i) all.elements[i] = elements[i];
  return all;
}

inline constexpr size_t dynamic_extent = static_cast<size_t>(-1);

template <typename T, size_t = dynamic_extent>
class span {
 public:
  constexpr span() noexcept = default;
  constexpr span(T* data, size_t size) noexcept : data_(data), size_(size) {}
  template <typename Range>
    requires requires(Range& range) {
      static_cast<T*>(range.data());
      range.size();
    }
  constexpr span(Range&& range) noexcept : data_(range.data()), size_(range.size()) {}

  constexpr T& operator[](size_t i) const noexcept { return data_[i]; }
  constexpr T* data() const noexcept { return data_; }
  constexpr T* begin() const noexcept { return data_; }
  constexpr T* end() const noexcept { return data_ + size_; }
  constexpr T& front() const noexcept { return data_[0]; }
  constexpr T& back() const noexcept { return data_[size_ - 1]; }
  constexpr size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

class string_view {
 public:
  constexpr string_view() noexcept = default;
  template <size_t N>
  constexpr string_view(const char (&text)[N]) noexcept : data_(text), size_(N - 1) {}

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace std
