// Python's view of csrc/ops: numpy arrays in, one numpy array filled.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "csrc/ops/advantages.h"

namespace py = pybind11;

namespace fastrl {
namespace {

std::string shape_of(const py::array& array) {
  return py::str(py::tuple(array.attr("shape"))).cast<std::string>();
}

/// Refuses what the loop over raw pointers would misread.
void check(const char* name, const py::array& array, const py::dtype& dtype,
           const py::array& rewards) {
  const std::string what = std::string("gae: ") + name;
  if (!array.dtype().equal(dtype)) {
    throw std::invalid_argument(what + " must be " + py::str(dtype).cast<std::string>() + ", got " +
                                py::str(array.dtype()).cast<std::string>());
  }
  if (array.ndim() != 2) {
    throw std::invalid_argument(what + " must have shape (T, N), got " + shape_of(array));
  }
  if (array.shape(0) != rewards.shape(0) || array.shape(1) != rewards.shape(1)) {
    throw std::invalid_argument(what + " must have the shape of rewards " + shape_of(rewards) +
                                ", got " + shape_of(array));
  }
  if ((array.flags() & py::array::c_style) == 0) {
    throw std::invalid_argument(what + " must be C-contiguous, got strides " +
                                py::str(py::tuple(array.attr("strides"))).cast<std::string>());
  }
}

bool overlap(const py::array& a, const py::array& b) {
  const auto a_begin = reinterpret_cast<std::uintptr_t>(a.data());
  const auto b_begin = reinterpret_cast<std::uintptr_t>(b.data());
  return a_begin < b_begin + static_cast<std::uintptr_t>(b.nbytes()) &&
         b_begin < a_begin + static_cast<std::uintptr_t>(a.nbytes());
}

void gae(const py::array& rewards, const py::array& values, const py::array& next_values,
         const py::array& terminated, const py::array& truncated, double gamma, double gae_lambda,
         const py::array& out) {
  struct Named {
    const char* name;
    const py::array& array;
  };
  const std::array<Named, 4> floats{
      {{"rewards", rewards}, {"values", values}, {"next_values", next_values}, {"out", out}}};
  const std::array<Named, 2> bools{{{"terminated", terminated}, {"truncated", truncated}}};
  for (const auto& [name, array] : floats) check(name, array, py::dtype::of<float>(), rewards);
  for (const auto& [name, array] : bools) check(name, array, py::dtype::of<bool>(), rewards);
  if (!out.writeable()) throw std::invalid_argument("gae: out must be writeable");
  for (const py::array& input : {rewards, values, next_values, terminated, truncated}) {
    if (overlap(out, input)) throw std::invalid_argument("gae: out must not overlap an input");
  }
  if (!(gamma >= 0.0 && gamma <= 1.0 && gae_lambda >= 0.0 && gae_lambda <= 1.0)) {
    throw std::invalid_argument(
        "gamma and gae_lambda must be in [0, 1], got gamma=" + std::to_string(gamma) +
        " gae_lambda=" + std::to_string(gae_lambda));
  }
  const ops::GaeArrays arrays{static_cast<const float*>(rewards.data()),
                              static_cast<const float*>(values.data()),
                              static_cast<const float*>(next_values.data()),
                              static_cast<const unsigned char*>(terminated.data()),
                              static_cast<const unsigned char*>(truncated.data()),
                              static_cast<float*>(const_cast<void*>(out.data())),
                              rewards.shape(0),
                              rewards.shape(1)};
  const py::gil_scoped_release release;
  ops::gae(arrays, static_cast<float>(gamma),
           static_cast<float>(gamma) * static_cast<float>(gae_lambda));
}

}  // namespace

void bind_ops(py::module_& m) {
  m.def("gae", &gae, py::arg("rewards").noconvert(), py::arg("values").noconvert(),
        py::arg("next_values").noconvert(), py::arg("terminated").noconvert(),
        py::arg("truncated").noconvert(), py::arg("gamma"), py::arg("gae_lambda"),
        py::arg("out").noconvert(),
        "Fills out (T, N) float32 with generalized advantage estimates; see fastrl.ops.gae.");
}

}  // namespace fastrl
