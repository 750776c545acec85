// Plays recorded episodes on the native MinAtar games, for tests/oracle/test_minatar.py.
//
// A recording is a list of events (reset, state set by hand, step) with the random draws that the
// minatar package made in each. `replay` hands them to our game and returns what it did.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "envs/minatar/asterix.h"
#include "envs/minatar/breakout.h"
#include "envs/minatar/freeway.h"
#include "envs/minatar/seaquest.h"
#include "envs/minatar/space_invaders.h"

namespace py = pybind11;
using fastrl::Rng;
using fastrl::Transition;
using namespace fastrl::envs::minatar;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;
using State = std::vector<std::int32_t>;

enum Event : int { kReset, kSet, kStep };

/// The package's draws in order: `range` 0 is a real number in [0, 1), n an integer below n.
struct Recording {
  std::span<const std::int32_t> ranges;
  std::span<const double> values;
  std::size_t used = 0;
  bool wrong_kind = false;

  double take(int range) noexcept {
    if (used == values.size() || ranges[used] != range) {
      wrong_kind = true;
      return 0.0;
    }
    return values[used++];
  }

  double uniform() noexcept { return take(0); }
  int below(int n) noexcept { return static_cast<int>(take(n)); }
  bool chance(double p) noexcept { return uniform() < p; }
};

static_assert(fastrl::RandomSource<Recording>);

/// A state as integers, in the order that test_minatar.py uses. One `exchange` per game does both
/// directions: `Writer` appends each field, `Reader` assigns it.
struct Writer {
  State& out;
  template <typename T>
  void operator()(T& field) {
    out.push_back(static_cast<std::int32_t>(field));
  }
};

struct Reader {
  std::span<const std::int32_t> in;
  std::size_t next = 0;
  template <typename T>
  void operator()(T& field) {
    if (next == in.size()) throw std::invalid_argument("the state is too short");
    field = static_cast<T>(in[next++]);
  }
};

template <typename F>
void exchange(F& field, Asterix& game) {
  field(game.player_row);
  field(game.player_col);
  field(game.spawn_interval);
  field(game.spawn_timer);
  field(game.move_interval);
  field(game.move_timer);
  field(game.ramp_timer);
  field(game.num_ramps);
  for (Asterix::Mover& mover : game.lanes) {
    field(mover.present);
    if (!mover.present) continue;
    field(mover.col);
    field(mover.right);
    field(mover.gold);
  }
}

template <typename F>
void exchange(F& field, Breakout& game) {
  field(game.right);
  field(game.down);
  field(game.struck);
  field(game.paddle_col);
  field(game.ball_row);
  field(game.ball_col);
  field(game.trail_row);
  field(game.trail_col);
  field(game.bricks);
}

template <typename F>
void exchange(F& field, Freeway& game) {
  field(game.chicken_row);
  field(game.chicken_timer);
  field(game.time_left);
  for (Freeway::Car& car : game.cars) {
    field(car.col);
    field(car.interval);
    field(car.timer);
    field(car.right);
  }
}

template <typename F, typename T>
void exchange_item(F& field, T& item) {
  field(item.col);
  field(item.row);
  field(item.right);
  if constexpr (requires { item.move_timer; }) field(item.move_timer);
  if constexpr (requires { item.shot_timer; }) field(item.shot_timer);
}

template <typename F, typename T, int kCapacity>
void exchange_list(F& field, BoundedList<T, kCapacity>& list) {
  field(list.count);
  if (list.count < 0 || list.count > kCapacity) throw std::invalid_argument("the list is too long");
  for (int i = 0; i < list.count; ++i) exchange_item(field, list[i]);
}

template <typename F>
void exchange(F& field, Seaquest& game) {
  field(game.facing_right);
  field(game.surfaced);
  field(game.sub_row);
  field(game.sub_col);
  field(game.shot_timer);
  field(game.spawn_interval);
  field(game.spawn_timer);
  field(game.diver_spawn_timer);
  field(game.move_interval);
  field(game.num_ramps);
  field(game.oxygen);
  field(game.num_divers);
  exchange_list(field, game.friendly_bullets);
  exchange_list(field, game.enemy_bullets);
  exchange_list(field, game.divers);
  exchange_list(field, game.fish);
  exchange_list(field, game.enemy_subs);
}

template <typename F>
void exchange(F& field, SpaceInvaders& game) {
  field(game.aliens_right);
  field(game.cannon_col);
  field(game.march_interval);
  field(game.march_timer);
  field(game.enemy_shot_timer);
  field(game.shot_timer);
  field(game.num_ramps);
  for (auto* rows : {&game.aliens, &game.friendly_bullets, &game.enemy_bullets}) {
    for (std::uint16_t& row : *rows) field(row);
  }
}

template <typename Game>
py::dict replay(double sticky_action_prob, bool difficulty_ramping,
                const Array<std::int32_t>& events, const Array<std::int32_t>& arguments,
                const Array<std::int32_t>& ranges, const Array<double>& values,
                const Array<std::int32_t>& states) {
  const auto n = events.size();
  const auto num_draws = static_cast<std::size_t>(values.size());
  Recording recording{.ranges = {ranges.data(), num_draws}, .values = {values.data(), num_draws}};
  Reader reader{.in = {states.data(), static_cast<std::size_t>(states.size())}};

  Array<std::uint8_t> observations({n, static_cast<py::ssize_t>(Game::kObsSize)});
  Array<double> rewards(n);
  Array<bool> terminated(n);
  Array<std::int64_t> draws_used(n);
  Array<std::int64_t> state_ends(n);
  State visited;

  Game game(MinAtarOptions{sticky_action_prob, difficulty_ramping});
  for (py::ssize_t i = 0; i < n; ++i) {
    Transition result;
    switch (events.at(i)) {
      case kReset:
        game.reset(recording);
        break;
      case kSet:
        reader(game.sticky.last);
        exchange(reader, game);
        break;
      case kStep:
        result = game.step(arguments.at(i), recording);
        break;
      default:
        throw std::invalid_argument("unknown event " + std::to_string(events.at(i)));
    }
    const auto row = static_cast<std::size_t>(i) * Game::kObsSize;
    game.observe(
        std::span<std::uint8_t, Game::kObsSize>(observations.mutable_data() + row, Game::kObsSize));
    rewards.mutable_at(i) = static_cast<double>(result.reward);
    terminated.mutable_at(i) = result.terminated;
    draws_used.mutable_at(i) =
        recording.wrong_kind ? -1 : static_cast<std::int64_t>(recording.used);
    Writer writer{visited};
    writer(game.sticky.last);
    exchange(writer, game);
    state_ends.mutable_at(i) = static_cast<std::int64_t>(visited.size());
  }

  py::dict played;
  played["observations"] = observations;
  played["rewards"] = rewards;
  played["terminated"] = terminated;
  played["draws_used"] = draws_used;
  played["state_ends"] = state_ends;
  played["states"] = Array<std::int32_t>(static_cast<py::ssize_t>(visited.size()), visited.data());
  return played;
}

/// Plays on the native stream with actions drawn from it; the hash of all that could be seen.
template <typename Game>
std::uint64_t fingerprint(std::uint64_t seed, int num_steps) {
  Rng rng(seed);
  Game game;
  game.reset(rng);
  std::array<std::uint8_t, Game::kObsSize> obs{};
  std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a.
  for (int t = 0; t < num_steps; ++t) {
    const Transition result = game.step(rng.below(Game::kNumActions), rng);
    if (result.terminated) game.reset(rng);
    game.observe(obs);
    for (const std::uint8_t cell : obs) hash = (hash ^ cell) * 1099511628211ULL;
    hash = (hash ^ static_cast<std::uint64_t>(result.reward)) * 1099511628211ULL;
    hash = (hash ^ (result.terminated ? 1U : 0U)) * 1099511628211ULL;
  }
  return hash;
}

template <typename Game>
void bind(py::module_& module, const std::string& name) {
  using Minimal = MinimalActions<Game>;
  py::module_ game = module.def_submodule(name.c_str());
  game.def("replay", &replay<Game>);
  game.def("fingerprint", &fingerprint<Game>);
  game.attr("num_actions") = Game::kNumActions;
  game.attr("obs_shape") = std::vector<int>(Game::kObsShape.begin(), Game::kObsShape.end());
  game.attr("minimal_num_actions") = Minimal::kNumActions;
  // What action each of the -v1 actions plays, read off the game after playing it.
  game.def("played_by_minimal_action", [](int action) {
    Minimal minimal(MinAtarOptions{.sticky_action_prob = 0.0});
    Rng rng;
    minimal.reset(rng);
    static_cast<void>(minimal.step(action, rng));
    return static_cast<int>(minimal.game.sticky.last);
  });
}

}  // namespace

PYBIND11_MODULE(minatar_replay, module) {
  bind<Asterix>(module, "asterix");
  bind<Breakout>(module, "breakout");
  bind<Freeway>(module, "freeway");
  bind<Seaquest>(module, "seaquest");
  bind<SpaceInvaders>(module, "space_invaders");
  module.def("below", [](std::uint64_t seed, int n, py::ssize_t count) {
    Rng rng(seed);
    Array<std::int32_t> drawn(count);
    for (py::ssize_t i = 0; i < count; ++i) drawn.mutable_at(i) = rng.below(n);
    return drawn;
  });
}
