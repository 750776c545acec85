// Python's view of csrc/ops: numpy arrays in, numpy arrays filled.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "csrc/ops/advantages.h"
#include "csrc/ops/horizon.h"

namespace py = pybind11;

namespace fastrl {
namespace {

using Shape = std::vector<py::ssize_t>;
using Rate = std::variant<double, py::array>;

struct Named {
  const char* name;
  const py::array& array;
};

Shape shape_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

std::string to_string(const Shape& shape) {
  return py::str(py::tuple(py::cast(shape))).cast<std::string>();
}

bool overlap(const py::array& a, const py::array& b) {
  const auto a_begin = reinterpret_cast<std::uintptr_t>(a.data());
  const auto b_begin = reinterpret_cast<std::uintptr_t>(b.data());
  return a_begin < b_begin + static_cast<std::uintptr_t>(b.nbytes()) &&
         b_begin < a_begin + static_cast<std::uintptr_t>(a.nbytes());
}

/// The arguments of one function, checked as they are taken: refuses what a loop over raw pointers
/// would misread.
class Arguments {
 public:
  /// `steps` has the shape (T, N).
  Arguments(std::string function, const Named& steps)
      : function_(std::move(function)), steps_(shape_of(steps.array)) {
    if (steps_.size() != 2) {
      throw std::invalid_argument(what(steps.name) + " must have shape (T, N), got " +
                                  to_string(steps_));
    }
  }

  [[nodiscard]] const Shape& steps() const { return steps_; }

  template <class T>
  const T* in(const Named& argument, const Shape& shape) {
    check<T>(argument, shape);
    inputs_.push_back(argument.array);
    return static_cast<const T*>(argument.array.data());
  }

  const float* floats(const Named& argument) { return in<float>(argument, steps_); }

  const unsigned char* bools(const Named& argument) {
    in<bool>(argument, steps_);
    return static_cast<const unsigned char*>(argument.array.data());
  }

  /// An array to be filled: it must overlap no argument taken before it.
  template <class T>
  T* out(const Named& argument, const Shape& shape) {
    check<T>(argument, shape);
    if (!argument.array.writeable()) {
      throw std::invalid_argument(what(argument.name) + " must be writeable");
    }
    for (const py::array& other : inputs_) {
      if (overlap(argument.array, other)) {
        throw std::invalid_argument(what(argument.name) + " must not overlap another array");
      }
    }
    inputs_.push_back(argument.array);
    return static_cast<T*>(const_cast<void*>(argument.array.data()));
  }

  [[nodiscard]] std::string what(const char* name) const { return function_ + ": " + name; }

 private:
  template <class T>
  void check(const Named& argument, const Shape& shape) const {
    const auto& [name, array] = argument;
    const py::dtype dtype = py::dtype::of<T>();
    if (!array.dtype().equal(dtype)) {
      throw std::invalid_argument(what(name) + " must be " + py::str(dtype).cast<std::string>() +
                                  ", got " + py::str(array.dtype()).cast<std::string>());
    }
    if (shape_of(array) != shape) {
      throw std::invalid_argument(what(name) + " must have shape " + to_string(shape) + ", got " +
                                  to_string(shape_of(array)));
    }
    if ((array.flags() & py::array::c_style) == 0) {
      throw std::invalid_argument(what(name) + " must be C-contiguous, got strides " +
                                  py::str(py::tuple(array.attr("strides"))).cast<std::string>());
    }
  }

  std::string function_;
  Shape steps_;
  std::vector<py::array> inputs_;
};

double checked_rate(const char* name, double rate) {
  if (rate >= 0.0 && rate <= 1.0) return rate;
  throw std::invalid_argument(std::string("gamma and gae_lambda must be in [0, 1], got ") + name +
                              "=" + std::to_string(rate));
}

void gae(const py::array& rewards, const py::array& values, const py::array& next_values,
         const py::array& terminated, const py::array& truncated, const Rate& gamma,
         const Rate& gae_lambda, const py::array& out) {
  Arguments arguments("gae", {"rewards", rewards});
  ops::Rates rates{};
  const auto take = [&arguments](const char* name, const Rate& rate, const float*& each,
                                 float& constant) {
    if (const auto* array = std::get_if<py::array>(&rate)) {
      each = arguments.floats({name, *array});
    } else {
      constant = static_cast<float>(checked_rate(name, std::get<double>(rate)));
    }
  };
  take("gamma", gamma, rates.gammas, rates.gamma);
  take("gae_lambda", gae_lambda, rates.lambdas, rates.gae_lambda);
  const ops::GaeArrays arrays{.rewards = arguments.floats({"rewards", rewards}),
                              .values = arguments.floats({"values", values}),
                              .next_values = arguments.floats({"next_values", next_values}),
                              .terminated = arguments.bools({"terminated", terminated}),
                              .truncated = arguments.bools({"truncated", truncated}),
                              .out = arguments.out<float>({"out", out}, arguments.steps()),
                              .num_steps = rewards.shape(0),
                              .num_envs = rewards.shape(1)};
  const py::gil_scoped_release release;
  ops::gae(arrays, rates);
}

/// The constants as `fastrl.advantages.blend_constants` gives them.
ops::Blend make_blend(double gamma, double gae_lambda, double unit, double start) {
  return {.gamma_squared = static_cast<float>(checked_rate("gamma", gamma) * gamma),
          .neutral = static_cast<float>(checked_rate("gae_lambda", gae_lambda)),
          .unit = static_cast<float>(unit),
          .start = static_cast<float>(start)};
}

void blended_lambda(const py::array& error, const py::array& noise, const py::array& terminated,
                    const py::array& truncated, double gamma, double gae_lambda, double unit,
                    double start, const py::array& lambdas) {
  Arguments arguments("blended_lambda", {"error", error});
  const ops::BlendArrays arrays{
      .error = arguments.floats({"error", error}),
      .noise = arguments.floats({"noise", noise}),
      .terminated = arguments.bools({"terminated", terminated}),
      .truncated = arguments.bools({"truncated", truncated}),
      .lambdas = arguments.out<float>({"lambdas", lambdas}, arguments.steps()),
      .num_steps = error.shape(0),
      .num_envs = error.shape(1)};
  const ops::Blend blend = make_blend(gamma, gae_lambda, unit, start);
  const py::gil_scoped_release release;
  ops::blend(arrays, blend, nullptr, static_cast<float>(gamma));
}

void blended_gae(const py::array& rewards, const py::array& values, const py::array& next_values,
                 const py::array& terminated, const py::array& truncated, const py::array& error,
                 const py::array& noise, double gamma, double gae_lambda, double unit, double start,
                 const py::array& out, const py::array& lambdas) {
  Arguments arguments("blended_gae", {"rewards", rewards});
  ops::GaeArrays arrays{.rewards = arguments.floats({"rewards", rewards}),
                        .values = arguments.floats({"values", values}),
                        .next_values = arguments.floats({"next_values", next_values}),
                        .terminated = arguments.bools({"terminated", terminated}),
                        .truncated = arguments.bools({"truncated", truncated}),
                        .out = nullptr,
                        .num_steps = rewards.shape(0),
                        .num_envs = rewards.shape(1)};
  ops::BlendArrays blended{.error = arguments.floats({"error", error}),
                           .noise = arguments.floats({"noise", noise}),
                           .terminated = arrays.terminated,
                           .truncated = arrays.truncated,
                           .lambdas = nullptr,
                           .num_steps = arrays.num_steps,
                           .num_envs = arrays.num_envs};
  arrays.out = arguments.out<float>({"out", out}, arguments.steps());
  blended.lambdas = arguments.out<float>({"lambdas", lambdas}, arguments.steps());
  const ops::Blend blend = make_blend(gamma, gae_lambda, unit, start);
  const py::gil_scoped_release release;
  ops::blend(blended, blend, &arrays, static_cast<float>(gamma));
}

ops::Steps take_steps(Arguments& arguments, const py::array& rewards, const py::array& terminated,
                      const py::array& truncated) {
  return {.rewards = arguments.floats({"rewards", rewards}),
          .terminated = arguments.bools({"terminated", terminated}),
          .truncated = arguments.bools({"truncated", truncated}),
          .num_steps = rewards.shape(0),
          .num_envs = rewards.shape(1)};
}

/// H of an array whose shape must be (T, N, H).
py::ssize_t lags_of(const Arguments& arguments, const Named& block) {
  if (block.array.ndim() != 3) {
    throw std::invalid_argument(arguments.what(block.name) + " must have shape (T, N, H), got " +
                                to_string(shape_of(block.array)));
  }
  return block.array.shape(2);
}

void variance_horizon(const py::array& rewards, const std::optional<py::array>& means,
                      const py::array& next_means, const py::array& terminated,
                      const py::array& truncated, const py::array& weights, const py::array& out,
                      int num_sampled) {
  Arguments arguments("variance_horizon", {"rewards", rewards});
  const py::ssize_t num_lags = lags_of(arguments, {"next_means", next_means});
  const Shape block{rewards.shape(0), rewards.shape(1), num_lags};
  const bool shared = weights.ndim() == 1;
  const ops::HorizonArrays arrays{
      .steps = take_steps(arguments, rewards, terminated, truncated),
      .means = means ? arguments.in<float>({"means", *means}, block) : nullptr,
      .next_means = arguments.in<float>({"next_means", next_means}, block),
      .weights = arguments.in<float>({"weights", weights}, shared ? Shape{num_lags} : block),
      .weight_stride = shared ? 0 : num_lags,
      .out = arguments.out<float>({"out", out}, arguments.steps()),
      .num_lags = static_cast<int>(num_lags),
      .num_sampled = num_sampled};
  const py::gil_scoped_release release;
  ops::variance_horizon(arrays);
}

void lag_rewards(const py::array& rewards, const py::array& terminated, const py::array& truncated,
                 const py::array& index, const py::array& targets, const py::array& known) {
  Arguments arguments("lag_rewards", {"rewards", rewards});
  const ops::Steps steps = take_steps(arguments, rewards, terminated, truncated);
  const auto* cells = arguments.in<std::int64_t>({"index", index}, {index.size()});
  for (py::ssize_t m = 0; m < index.size(); ++m) {
    if (cells[m] < 0 || cells[m] >= rewards.size()) {
      throw std::invalid_argument("lag_rewards: index must be in [0, " +
                                  std::to_string(rewards.size()) + "), got " +
                                  std::to_string(cells[m]));
    }
  }
  const py::ssize_t num_lags = targets.ndim() == 2 ? targets.shape(1) : 0;
  const Shape block{index.size(), num_lags};
  auto* target = arguments.out<float>({"targets", targets}, block);
  auto* observed = reinterpret_cast<unsigned char*>(arguments.out<bool>({"known", known}, block));
  const py::gil_scoped_release release;
  ops::lag_rewards(steps, cells, index.size(), static_cast<int>(num_lags), target, observed);
}

void lag_moments(const py::array& rewards, const py::array& means, const py::array& terminated,
                 const py::array& truncated, const py::array& valid, const py::array& num_known,
                 const py::array& moments) {
  Arguments arguments("lag_moments", {"rewards", rewards});
  const ops::Steps steps = take_steps(arguments, rewards, terminated, truncated);
  const py::ssize_t num_lags = lags_of(arguments, {"means", means});
  const auto* predicted =
      arguments.in<float>({"means", means}, {rewards.shape(0), rewards.shape(1), num_lags});
  const auto* counted = arguments.bools({"valid", valid});
  auto* known = arguments.out<std::int64_t>({"num_known", num_known}, {num_lags});
  auto* rows = arguments.out<double>({"moments", moments}, {3, num_lags});
  const py::gil_scoped_release release;
  ops::lag_moments(steps, predicted, counted, static_cast<int>(num_lags),
                   {.num_known = known,
                    .mean = rows,
                    .variance = rows + num_lags,
                    .squared_error = rows + (2 * num_lags)});
}

}  // namespace

void bind_ops(py::module_& m) {
  m.def("gae", &gae, py::arg("rewards").noconvert(), py::arg("values").noconvert(),
        py::arg("next_values").noconvert(), py::arg("terminated").noconvert(),
        py::arg("truncated").noconvert(), py::arg("gamma"), py::arg("gae_lambda"),
        py::arg("out").noconvert(),
        "Fills out (T, N) float32 with generalized advantage estimates; see fastrl.ops.gae.");
  m.def("blended_lambda", &blended_lambda, py::arg("error").noconvert(),
        py::arg("noise").noconvert(), py::arg("terminated").noconvert(),
        py::arg("truncated").noconvert(), py::arg("gamma"), py::arg("gae_lambda"), py::arg("unit"),
        py::arg("start"), py::arg("lambdas").noconvert(),
        "Fills lambdas (T, N) float32; see fastrl.ops.blended_lambda.");
  m.def("blended_gae", &blended_gae, py::arg("rewards").noconvert(), py::arg("values").noconvert(),
        py::arg("next_values").noconvert(), py::arg("terminated").noconvert(),
        py::arg("truncated").noconvert(), py::arg("error").noconvert(),
        py::arg("noise").noconvert(), py::arg("gamma"), py::arg("gae_lambda"), py::arg("unit"),
        py::arg("start"), py::arg("out").noconvert(), py::arg("lambdas").noconvert(),
        "Fills out and lambdas, (T, N) float32; see fastrl.ops.blended_gae.");
  m.def("variance_horizon", &variance_horizon, py::arg("rewards").noconvert(),
        py::arg("means").noconvert(), py::arg("next_means").noconvert(),
        py::arg("terminated").noconvert(), py::arg("truncated").noconvert(),
        py::arg("weights").noconvert(), py::arg("out").noconvert(), py::arg("num_sampled"),
        "Fills out (T, N) float32; see fastrl.ops.variance_horizon. Without means: the return.");
  m.def("lag_rewards", &lag_rewards, py::arg("rewards").noconvert(),
        py::arg("terminated").noconvert(), py::arg("truncated").noconvert(),
        py::arg("index").noconvert(), py::arg("targets").noconvert(), py::arg("known").noconvert(),
        "Fills targets (M, H) float32 and known (M, H) bool; see fastrl.ops.lag_rewards.");
  m.def("lag_moments", &lag_moments, py::arg("rewards").noconvert(), py::arg("means").noconvert(),
        py::arg("terminated").noconvert(), py::arg("truncated").noconvert(),
        py::arg("valid").noconvert(), py::arg("num_known").noconvert(),
        py::arg("moments").noconvert(),
        "Fills num_known (H,) int64 and moments (3, H) float64: mean, variance, squared error.");
}

}  // namespace fastrl
