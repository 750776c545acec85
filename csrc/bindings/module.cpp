#include "csrc/bindings/bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The native part of fastrl: environment pools and kernels.";
  fastrl::bind_pool(m);
  fastrl::bind_games(m);
  fastrl::bind_atari(m);
  fastrl::bind_ops(m);
}
