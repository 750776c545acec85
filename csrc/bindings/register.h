// Makes one game available to Python. For this library's registry, and for games of other projects:
//
//   #include "csrc/bindings/register.h"
//   PYBIND11_MODULE(my_games, m) { fastrl::register_game<MyGame>("MyGame-v0"); }
//
// after which `import my_games; fastrl.make("MyGame-v0", num_envs=64)` works. The include path is
// `fastrl.get_include()`.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <concepts>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "csrc/core/env.h"
#include "csrc/pool/pool.h"

namespace fastrl {

/// Reads options by name out of a dict, with their ranges, and notices names that nobody asked for.
class OptionReader {
 public:
  OptionReader(std::string id, const pybind11::dict& options)
      : id_(std::move(id)), options_(options) {}

  void operator()(const char* name, double& value, double low, double high) {
    if (const auto given = find(name)) {
      value = cast<double>(name, given, "a number");
      if (!(value >= low && value <= high)) {
        refuse(name, given, "allowed is " + number(low) + " to " + number(high));
      }
    }
    note(name, number(value));
  }

  void operator()(const char* name, int& value, int low, int high) {
    if (const auto given = find(name)) {
      value = cast<int>(name, given, "an integer");
      if (value < low || value > high) {
        refuse(name, given, "allowed is " + std::to_string(low) + " to " + std::to_string(high));
      }
    }
    note(name, std::to_string(value));
  }

  void operator()(const char* name, bool& value) {
    if (const auto given = find(name)) {
      if (!pybind11::isinstance<pybind11::bool_>(given)) refuse(name, given, "needs a bool");
      value = given.cast<bool>();
    }
    note(name, value ? "True" : "False");
  }

  /// Raises for an option that was given but never read.
  void finish() const {
    for (const auto& [key, value] : options_) {
      const auto name = pybind11::str(key).cast<std::string>();
      bool known = false;
      for (const std::string& read : names_) known = known || read == name;
      if (known) continue;
      std::string allowed;
      for (const std::string& read : names_) allowed += (allowed.empty() ? "" : ", ") + read;
      throw std::invalid_argument("'" + id_ + "' has no option '" + name + "'; it has " + allowed);
    }
  }

  /// Id and every option's value: equal strings mean equal games.
  [[nodiscard]] std::string identity() const { return id_ + text_; }

 private:
  [[nodiscard]] pybind11::object find(const char* name) const {
    return options_.contains(name) ? pybind11::object(options_[name]) : pybind11::object();
  }

  template <typename T>
  T cast(const char* name, const pybind11::object& given, const char* needs) const {
    if (pybind11::isinstance<pybind11::bool_>(given)) refuse(name, given, needs);
    try {
      return given.cast<T>();
    } catch (const pybind11::cast_error&) {
      refuse(name, given, std::string("needs ") + needs);
    }
  }

  [[noreturn]] void refuse(const char* name, const pybind11::object& given,
                           const std::string& why) const {
    throw std::invalid_argument(std::string(name) + "=" +
                                pybind11::repr(given).cast<std::string>() + ": " + why);
  }

  void note(const char* name, const std::string& value) {
    names_.emplace_back(name);
    text_ += " ";
    text_ += name;
    text_ += "=" + value;
  }

  static std::string number(double value) {
    return pybind11::repr(pybind11::float_(value)).cast<std::string>();
  }

  std::string id_;
  const pybind11::dict& options_;
  std::vector<std::string> names_;
  std::string text_;
};

/// A game whose struct carries options: `Options::visit` shows each to a reader, with its range.
template <typename E>
concept HasOptions = requires(typename E::Options options, OptionReader& reader) {
  options.visit(reader);
  E(options);
};

template <PoolableEnv E>
[[nodiscard]] std::unique_ptr<AnyPool> make_pool(PoolConfig config, const pybind11::dict& options) {
  OptionReader reader(config.id, options);
  reader("max_episode_steps", config.max_episode_steps, 0, 1 << 30);
  E prototype{};
  if constexpr (HasOptions<E>) {
    typename E::Options chosen;
    chosen.visit(reader);
    prototype = E(chosen);
  }
  reader.finish();
  config.identity = reader.identity();
  return std::make_unique<Pool<E>>(std::move(config), prototype);
}

/// Calls `add(id, num_actions, obs_shape, factory)`; factory(config, options) makes the pool.
template <PoolableEnv E>
void register_game(const char* id, const pybind11::object& add) {
  add(id, static_cast<int>(E::kNumActions),
      pybind11::tuple(pybind11::cast(std::vector<int>(E::kObsShape.begin(), E::kObsShape.end()))),
      pybind11::cpp_function(&make_pool<E>, pybind11::arg("config"), pybind11::arg("options")));
}

/// For a module outside this library: adds the game to `fastrl.make`.
template <PoolableEnv E>
void register_game(const char* id) {
  register_game<E>(id, pybind11::module_::import("fastrl").attr("register"));
}

}  // namespace fastrl
