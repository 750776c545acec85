// The Atari games for Python: what is known of each, and a pool of some of them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "csrc/bindings/bindings.h"
#include "csrc/bindings/register.h"
#include "csrc/pool/pool.h"
#include "envs/atari/atari_env.h"
#include "envs/atari/verified.h"

namespace fastrl {
namespace {

namespace py = pybind11;
using namespace envs::atari;

/// GameFacts, as far as Python needs them.
struct AtariGame {
  std::string name;
  std::string md5;
  std::size_t size;
  std::vector<int> minimal_actions;
  std::vector<int> legal_actions;
  std::vector<int> modes;
  std::vector<int> difficulties;
};

std::vector<int> members(std::uint32_t set) {
  std::vector<int> all;
  for (int action = 0; action < actions::kNumActions; ++action) {
    if (actions::is_in(action, set)) all.push_back(action);
  }
  return all;
}

std::vector<AtariGame> atari_games() {
  std::vector<AtariGame> games;
  for (const GameFacts& facts : kGames) {
    games.push_back({.name = std::string(facts.name),
                     .md5 = std::string(facts.md5),
                     .size = size_of(facts.properties.scheme),
                     .minimal_actions = members(facts.minimal_actions),
                     .legal_actions = members(facts.legal_actions),
                     .modes = {facts.modes.begin(), facts.modes.end()},
                     .difficulties = {facts.difficulties.begin(), facts.difficulties.end()}});
  }
  return games;
}

/// The reference keeps its settings as text of six digits.
float six_digits(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g", value);
  return std::strtof(text.data(), nullptr);
}

AtariEnvOptions read_options(OptionReader& reader) {
  constexpr int kMany = 1 << 30;
  AtariEnvOptions o;
  double sticky = 0.0;
  double threshold = 0.5;
  reader("frameskip", o.frameskip, 1, kMany);
  reader("repeat_action_probability", sticky, 0.0, 1.0);
  reader("max_num_frames_per_episode", o.max_num_frames_per_episode, 1, kMany);
  reader("noop_max", o.noop_max, 0, kMany);
  reader("use_fire_reset", o.use_fire_reset);
  reader("episodic_life", o.episodic_life);
  reader("life_loss_info", o.life_loss_info);
  reader("reward_clipping", o.reward_clipping);
  reader("continuous", o.continuous);
  reader("continuous_action_threshold", threshold, 0.0, 1.0);
  reader("img_height", o.img_height, 1, 1 << 12);
  reader("img_width", o.img_width, 1, 1 << 12);
  reader("grayscale", o.grayscale);
  reader("stack_num", o.stack_num, 1, 1 << 10);
  reader("maxpool", o.maxpool);
  reader("mode", o.mode, AtariEnvOptions::kDefault, kMany);
  reader("difficulty", o.difficulty, AtariEnvOptions::kDefault, kMany);
  reader("ram", o.ram);
  o.repeat_action_probability = six_digits(sticky);
  o.continuous_action_threshold = static_cast<float>(threshold);
  return o;
}

/// Whether FASTRL_VERIFY asks for the plain console beside the fast one.
bool verifies() {
  const char* given = std::getenv("FASTRL_VERIFY");
  const std::string_view value = given == nullptr ? "" : given;
  if (value != "" && value != "0" && value != "1") {
    throw std::invalid_argument("FASTRL_VERIFY='" + std::string(value) + "': allowed is 0 or 1");
  }
  return value == "1";
}

template <typename Game>
std::unique_ptr<AnyPool> make_pool(PoolConfig config, const AtariEnvOptions& options,
                                   std::vector<int> action_set, std::vector<Cartridge> cartridges) {
  return std::make_unique<Pool<Game>>(
      std::move(config),
      typename Game::Shared(options, std::move(action_set), std::move(cartridges)));
}

std::unique_ptr<AnyPool> make_atari(
    PoolConfig config, const std::vector<std::pair<std::string, py::bytes>>& cartridges,
    const std::vector<int>& action_set, const py::typing::Dict<py::str, py::object>& options,
    bool translate) {
  OptionReader reader(config.id, options);
  AtariEnvOptions chosen = read_options(reader);
  chosen.translate = translate;
  reader.finish();
  config.identity = reader.identity() + " actions=";
  for (const int action : action_set) {
    if (action < 0 || action >= actions::kNumActions) {
      throw std::invalid_argument("action_set has " + std::to_string(action) +
                                  "; actions are 0 to 17");
    }
    config.identity += std::to_string(action) + ",";
  }
  if (cartridges.empty() || action_set.empty()) {
    throw std::invalid_argument("cartridges and action_set must not be empty");
  }
  std::vector<Cartridge> inserted;
  for (const auto& [name, bytes] : cartridges) {
    const auto facts = std::ranges::find(kGames, name, &GameFacts::name);
    if (facts == kGames.end()) throw std::invalid_argument("there is no game '" + name + "'");
    const std::string_view view = bytes;
    inserted.push_back(
        {.game = static_cast<Game>(facts - kGames.begin()), .image = {view.begin(), view.end()}});
  }
  const bool verified = verifies();
  const py::gil_scoped_release released;
  return verified ? make_pool<VerifiedAtariEnv>(std::move(config), chosen, action_set,
                                                std::move(inserted))
                  : make_pool<AtariEnv<FastAtari>>(std::move(config), chosen, action_set,
                                                   std::move(inserted));
}

}  // namespace

void bind_atari(py::module_& m) {
  py::class_<AtariGame>(m, "AtariGame", "What is known of a game before its ROM is read.")
      .def_readonly("name", &AtariGame::name, "ale-py's name of the ROM.")
      .def_readonly("md5", &AtariGame::md5, "Of the image that ale-py ships.")
      .def_readonly("size", &AtariGame::size, "Bytes that an image has at least.")
      .def_readonly("minimal_actions", &AtariGame::minimal_actions)
      .def_readonly("legal_actions", &AtariGame::legal_actions)
      .def_readonly("modes", &AtariGame::modes, "The first is the default.")
      .def_readonly("difficulties", &AtariGame::difficulties);
  m.def("atari_games", &atari_games, "Every game that the native console plays.");
  m.def("make_atari", &make_atari, py::arg("config"), py::arg("cartridges"), py::arg("action_set"),
        py::arg("options"), py::arg("translate") = true,
        "A pool whose environment i plays cartridge i % len(cartridges): (name, image). The images "
        "must be those of the games' md5. `action_set`: what action i does. "
        "`translate`: run the cartridges as machine code; with FASTRL_VERIFY=1 in the environment "
        "the plain console runs beside each and their first difference raises RuntimeError.");
}

}  // namespace fastrl
