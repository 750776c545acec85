// AnyPool for Python: checks and converts arguments, releases the GIL, lends batches as arrays.
#include "csrc/pool/pool.h"

#include <pybind11/native_enum.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "csrc/bindings/bindings.h"

namespace fastrl {
namespace {

namespace py = pybind11;

void raise_pending_signal() {
  const py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

/// One-dimensional integers of any width, as int64. Floats and bools are a mistake, not a cast.
std::vector<std::int64_t> integers(const py::object& given, const char* name) {
  const py::array array = py::array::ensure(given);
  if (!array) {
    PyErr_Clear();
    throw std::invalid_argument(std::string(name) + " must be an array of integers, got " +
                                py::repr(given).cast<std::string>());
  }
  const char kind = array.dtype().kind();
  if (array.ndim() != 1 || (kind != 'i' && kind != 'u')) {
    throw std::invalid_argument(std::string(name) +
                                " must be a one-dimensional array of integers, got dtype " +
                                py::str(array.dtype()).cast<std::string>() + " of shape " +
                                py::str(array.attr("shape")).cast<std::string>());
  }
  const auto wide = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>(array);
  return {wide.data(), wide.data() + wide.size()};
}

/// Actions as the pool takes them: integers (M,), or floats (M, K) if `pool` has bounds for K.
std::vector<Action> actions_from(const py::object& given, const AnyPool& pool) {
  const std::vector<std::array<float, 2>> bounds = pool.action_bounds();
  std::vector<Action> actions;
  if (bounds.empty()) {
    for (const std::int64_t number : integers(given, "actions")) {
      actions.push_back({.number = number});
    }
    return actions;
  }
  const py::array array = py::array::ensure(given);
  if (!array) PyErr_Clear();
  const char kind = array ? array.dtype().kind() : '?';
  if ((kind != 'f' && kind != 'i' && kind != 'u') || array.ndim() != 2 ||
      static_cast<std::size_t>(array.shape(1)) != bounds.size()) {
    throw std::invalid_argument("actions must be an array of floats of shape (M, " +
                                std::to_string(bounds.size()) + "), got " +
                                py::repr(given).cast<std::string>());
  }
  const auto floats = py::array_t<float, py::array::c_style | py::array::forcecast>(array);
  for (py::ssize_t i = 0; i < floats.shape(0); ++i) {
    const std::span<const float> values(floats.data(i, 0), bounds.size());
    for (std::size_t k = 0; k < bounds.size(); ++k) {
      if (values[k] >= bounds[k][0] && values[k] <= bounds[k][1]) continue;  // A NaN is not.
      throw std::invalid_argument("actions[" + std::to_string(i) + ", " + std::to_string(k) +
                                  "] is " + std::to_string(values[k]) + "; allowed is " +
                                  std::to_string(bounds[k][0]) + " to " +
                                  std::to_string(bounds[k][1]));
    }
    actions.push_back(pool.action_of(values));
  }
  return actions;
}

using Out = std::map<std::string, py::array>;

template <typename T>
void place(const Out& out, const char* name, T*& to, std::size_t num_envs,
           const std::vector<int>& item_shape, const py::dtype& dtype) {
  const auto found = out.find(name);
  if (found == out.end()) return;
  py::array array = found->second;
  std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(num_envs)};
  shape.insert(shape.end(), item_shape.begin(), item_shape.end());
  const std::vector<py::ssize_t> seen(array.shape(), array.shape() + array.ndim());
  const bool contiguous = (array.flags() & py::array::c_style) != 0;
  if (!array.dtype().equal(dtype) || seen != shape || !contiguous || !array.writeable()) {
    throw std::invalid_argument(
        std::string("out['") + name + "'] must be a writeable, C-contiguous " +
        py::str(dtype).cast<std::string>() + " array of shape " +
        py::str(py::tuple(py::cast(shape))).cast<std::string>() + ", got " +
        (array.writeable() ? "" : "read-only ") + (contiguous ? "" : "non-contiguous ") +
        py::str(array.dtype()).cast<std::string>() + " of shape " +
        py::str(array.attr("shape")).cast<std::string>());
  }
  to = static_cast<T*>(array.mutable_data());
}

Destination destination(const Out& out, std::size_t size, const AnyPool& pool) {
  Destination to;
  if (out.empty()) return to;
  for (const auto& [name, array] : out) {
    if (name != "obs" && name != "reward" && name != "terminated" && name != "truncated") {
      throw std::invalid_argument("out has no field '" + name +
                                  "'; it has obs, reward, terminated, truncated");
    }
  }
  place(out, "obs", to.obs, size, pool.obs_shape(), py::dtype::of<std::uint8_t>());
  place(out, "reward", to.reward, size, {}, py::dtype::of<float>());
  place(out, "terminated", to.terminated, size, {}, py::dtype::of<bool>());
  place(out, "truncated", to.truncated, size, {}, py::dtype::of<bool>());
  return to;
}

/// Lends the arrays of a batch. They share one owner; the batch is reused when the last is gone.
class Lender {
 public:
  Lender(const AnyPool& pool, BatchPtr batch)
      : batch_(*batch),
        size_(static_cast<py::ssize_t>(batch->size)),
        obs_shape_{size_},
        info_names_(pool.info_names()) {
    for (const int n : pool.obs_shape()) obs_shape_.push_back(n);
    owner_ = py::capsule(new BatchPtr(std::move(batch)), [](void* held) {
      const std::unique_ptr<BatchPtr> dropped(static_cast<BatchPtr*>(held));
    });
  }

  template <typename Shown, typename T>
  [[nodiscard]] py::array lend(std::vector<T>& field) const {
    static_assert(sizeof(Shown) == sizeof(T));
    return py::array(py::dtype::of<Shown>(), {size_}, {sizeof(T)}, field.data(), owner_);
  }
  [[nodiscard]] py::array lend_obs(std::vector<std::uint8_t>& field) const {
    return py::array(py::dtype::of<std::uint8_t>(), obs_shape_, field.data(), owner_);
  }

  [[nodiscard]] py::dict info(bool with_final) const {
    py::dict info;
    info["env_id"] = lend<std::int32_t>(batch_.env_id);
    info["reward"] = lend<float>(batch_.raw_reward);
    info["game_over"] = lend<bool>(batch_.game_over);
    info["episode_return"] = lend<double>(batch_.episode_return);
    info["episode_length"] = lend<std::int32_t>(batch_.episode_length);
    lend_columns(info, batch_.columns);
    if (with_final && batch_.num_ended.load(std::memory_order_relaxed) != 0) {
      const py::array ended = lend<bool>(batch_.ended);
      py::dict final_info;
      final_info["env_id"] = info["env_id"];
      final_info["reward"] = info["reward"];
      final_info["game_over"] = info["game_over"];
      final_info["episode_return"] = lend<double>(batch_.final_return);
      final_info["episode_length"] = lend<std::int32_t>(batch_.final_length);
      lend_columns(final_info, batch_.final_columns);
      info["final_obs"] = lend_obs(batch_.final_obs);
      info["_final_obs"] = ended;
      info["final_info"] = final_info;
      info["_final_info"] = ended;
    }
    return info;
  }

 private:
  void lend_columns(py::dict& info, std::vector<std::int32_t>& columns) const {
    std::int32_t* column = columns.data();
    for (const std::string& name : info_names_) {
      info[py::str(name)] =
          py::array(py::dtype::of<std::int32_t>(), {size_}, {sizeof(std::int32_t)}, column, owner_);
      column += size_;
    }
  }

  Batch& batch_;
  py::ssize_t size_;
  std::vector<py::ssize_t> obs_shape_;
  std::vector<std::string> info_names_;
  py::capsule owner_;
};

py::object given_or(const Out& out, const char* name, py::object lent) {
  const auto found = out.find(name);
  return found == out.end() ? std::move(lent) : py::object(found->second);
}

using Info = py::typing::Dict<py::str, py::object>;
using ResetResult = py::typing::Tuple<py::array, Info>;
using StepResult = py::typing::Tuple<py::array, py::array, py::array, py::array, Info>;

/// What gymnasium's `reset` returns.
ResetResult first_results(const AnyPool& pool, BatchPtr batch, const Out& out) {
  Batch& b = *batch;
  const Lender lender(pool, std::move(batch));
  return py::make_tuple(given_or(out, "obs", lender.lend_obs(b.obs)), lender.info(false));
}

/// What gymnasium's `step` returns.
StepResult results(const AnyPool& pool, BatchPtr batch, const Out& out) {
  Batch& b = *batch;
  const Lender lender(pool, std::move(batch));
  return py::make_tuple(given_or(out, "obs", lender.lend_obs(b.obs)),
                        given_or(out, "reward", lender.lend<float>(b.reward)),
                        given_or(out, "terminated", lender.lend<bool>(b.terminated)),
                        given_or(out, "truncated", lender.lend<bool>(b.truncated)),
                        lender.info(true));
}

template <typename Call>
auto without_gil(const Call& call) {
  const py::gil_scoped_release released;
  return call();
}

}  // namespace

void bind_pool(py::module_& m) {
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const TimeoutError& e) {
      PyErr_SetString(PyExc_TimeoutError, e.what());
    }
  });

  py::native_enum<Autoreset>(m, "Autoreset", "enum.Enum", "gymnasium's AutoresetMode.")
      .value("NEXT_STEP", Autoreset::kNextStep)
      .value("SAME_STEP", Autoreset::kSameStep)
      .value("DISABLED", Autoreset::kDisabled)
      .finalize();

  py::class_<PoolConfig>(m, "PoolConfig", "How a pool is made; the game's options are apart.")
      .def(py::init([](std::string id, int num_envs, int batch_size, int num_threads, int num_cpus,
                       Autoreset autoreset) {
             PoolConfig config;
             config.id = std::move(id);
             config.num_envs = num_envs;
             config.batch_size = batch_size;
             config.num_threads = num_threads;
             config.num_cpus = num_cpus;
             config.autoreset = autoreset;
             return config;
           }),
           py::kw_only(), py::arg("id"), py::arg("num_envs"), py::arg("batch_size"),
           py::arg("num_threads"), py::arg("num_cpus"), py::arg("autoreset"))
      .def_readonly("id", &PoolConfig::id)
      .def_readonly("identity", &PoolConfig::identity)
      .def_readonly("num_envs", &PoolConfig::num_envs)
      .def_readonly("batch_size", &PoolConfig::batch_size)
      .def_readonly("num_threads", &PoolConfig::num_threads)
      .def_readonly("num_cpus", &PoolConfig::num_cpus)
      .def_readonly("max_episode_steps", &PoolConfig::max_episode_steps)
      .def_readonly("autoreset", &PoolConfig::autoreset);

  py::class_<AnyPool>(m, "Pool", "The native half of fastrl.EnvPool, which documents it.")
      .def_property_readonly("num_actions", &AnyPool::num_actions)
      .def_property_readonly("obs_shape",
                             [](const AnyPool& pool) -> py::typing::Tuple<py::int_, py::ellipsis> {
                               return py::tuple(py::cast(pool.obs_shape()));
                             })
      .def_property_readonly("obs_high", &AnyPool::obs_high)
      .def_property_readonly("max_seed", &AnyPool::max_seed)
      .def_property_readonly("action_bounds", &AnyPool::action_bounds,
                             "Lowest and highest value of each float of an action; empty: an "
                             "action is an integer.")
      .def_property_readonly("can_render", &AnyPool::can_render)
      .def_property_readonly("config", &AnyPool::config)
      .def(
          "reset",
          [](AnyPool& pool, const std::vector<std::uint64_t>& seeds,
             const std::vector<std::uint8_t>& mask, const Out& out) {
            const Destination to =
                destination(out, static_cast<std::size_t>(pool.config().num_envs), pool);
            BatchPtr batch =
                without_gil([&] { return pool.reset(seeds, mask, to, raise_pending_signal); });
            return first_results(pool, std::move(batch), out);
          },
          py::arg("seeds"), py::arg("mask"), py::arg("out"))
      .def(
          "async_reset",
          [](AnyPool& pool, const std::vector<std::uint64_t>& seeds) {
            without_gil([&] { pool.async_reset(seeds, raise_pending_signal); });
          },
          py::arg("seeds"))
      .def(
          "step",
          [](AnyPool& pool, const py::object& actions, const Out& out) {
            const std::vector<Action> chosen = actions_from(actions, pool);
            const Destination to =
                destination(out, static_cast<std::size_t>(pool.config().num_envs), pool);
            BatchPtr batch =
                without_gil([&] { return pool.step(chosen, to, raise_pending_signal); });
            return results(pool, std::move(batch), out);
          },
          py::arg("actions"), py::arg("out"))
      .def(
          "send",
          [](AnyPool& pool, const py::object& actions, const py::object& env_id, const Out& out) {
            const std::vector<Action> chosen = actions_from(actions, pool);
            const std::vector<std::int64_t> ids = integers(env_id, "env_id");
            const Destination to =
                destination(out, static_cast<std::size_t>(pool.config().num_envs), pool);
            without_gil([&] { pool.send(chosen, ids, to); });
          },
          py::arg("actions"), py::arg("env_id"), py::arg("out"))
      .def(
          "recv",
          [](AnyPool& pool, std::optional<double> timeout, const Out& out) {
            BatchPtr batch = without_gil([&] { return pool.recv(timeout, raise_pending_signal); });
            return results(pool, std::move(batch), out);
          },
          py::arg("timeout"), py::arg("out"),
          "`out`: the arrays that were handed to send, to be returned in their places.")
      .def(
          "get_state",
          [](AnyPool& pool, const py::object& env_ids) {
            const std::vector<std::byte> state = pool.get_state(integers(env_ids, "env_ids"));
            return py::bytes(reinterpret_cast<const char*>(state.data()), state.size());
          },
          py::arg("env_ids"))
      .def(
          "set_state",
          [](AnyPool& pool, const py::bytes& state, const py::object& env_ids) {
            const auto view = static_cast<std::string_view>(state);
            pool.set_state(std::as_bytes(std::span(view)), integers(env_ids, "env_ids"));
          },
          py::arg("state"), py::arg("env_ids"))
      .def("render",
           [](AnyPool& pool) {
             py::typing::List<py::array> frames;
             for (const Frame& frame : without_gil([&] { return pool.render(); })) {
               frames.append(
                   py::array_t<std::uint8_t>({frame.height, frame.width, 3}, frame.rgb.data()));
             }
             return frames;
           })
      .def("stats",
           [](const AnyPool& pool) {
             const PoolStats stats = pool.stats();
             py::typing::Dict<py::str, py::int_> d;
             d["steps"] = stats.steps;
             d["work_ns"] = stats.work_ns;
             d["wall_ns"] = stats.wall_ns;
             return d;
           })
      .def("close", &AnyPool::close, py::call_guard<py::gil_scoped_release>());
}

}  // namespace fastrl
