// The games, one line each.
#include "csrc/bindings/bindings.h"
#include "csrc/bindings/register.h"
#include "envs/catch/catch.h"

namespace fastrl {

void bind_games(pybind11::module_& m) {
  namespace py = pybind11;
  using namespace envs;
  m.def(
      "register_games",
      [](const py::object& add) {
        register_game<Catch>("Catch-v0", add);
      },
      py::arg("add"), "Calls add(id, num_actions, obs_shape, factory) for every game.");
}

}  // namespace fastrl
