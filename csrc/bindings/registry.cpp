// The games, one line each.
#include "csrc/bindings/bindings.h"
#include "csrc/bindings/register.h"
#include "envs/catch/catch.h"
#include "envs/minatar/asterix.h"
#include "envs/minatar/breakout.h"
#include "envs/minatar/freeway.h"
#include "envs/minatar/minimal_actions.h"
#include "envs/minatar/seaquest.h"
#include "envs/minatar/space_invaders.h"

namespace fastrl {

void bind_games(pybind11::module_& m) {
  namespace py = pybind11;
  using envs::Catch;
  using namespace envs::minatar;
  m.def(
      "register_games",
      [](const py::object& add) {
        register_game<Catch>("Catch-v0", add);
        register_game<Asterix>("MinAtar/Asterix-v0", add);
        register_game<MinimalActions<Asterix>>("MinAtar/Asterix-v1", add);
        register_game<Breakout>("MinAtar/Breakout-v0", add);
        register_game<MinimalActions<Breakout>>("MinAtar/Breakout-v1", add);
        register_game<Freeway>("MinAtar/Freeway-v0", add);
        register_game<MinimalActions<Freeway>>("MinAtar/Freeway-v1", add);
        register_game<Seaquest>("MinAtar/Seaquest-v0", add);
        register_game<MinimalActions<Seaquest>>("MinAtar/Seaquest-v1", add);
        register_game<SpaceInvaders>("MinAtar/SpaceInvaders-v0", add);
        register_game<MinimalActions<SpaceInvaders>>("MinAtar/SpaceInvaders-v1", add);
      },
      py::arg("add"), "Calls add(id, num_actions, obs_shape, factory) for every game.");
}

}  // namespace fastrl
