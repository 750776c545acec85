// A game of another project, and one that throws: built by tests/unit/test_native_game.py with
// nothing but fastrl.get_include().
#include <stdexcept>

#include "csrc/bindings/register.h"

struct Throwing {
  static constexpr int kNumActions = 2;  // 1 throws
  static constexpr std::array<int, 1> kObsShape{1};
  static constexpr std::size_t kObsSize = 1;

  void reset(fastrl::Rng& /*rng*/) {}
  fastrl::Transition step(int action, fastrl::Rng& /*rng*/) {
    if (action == 1) throw std::runtime_error("the cartridge fell out");
    return {.reward = 1.0F};
  }
  void observe(std::span<std::uint8_t, kObsSize> obs) const { obs[0] = 7; }
};

PYBIND11_MODULE(throwing_game, m) {
  m.doc() = "One game.";
  fastrl::register_game<Throwing>("Throwing-v0");
}
