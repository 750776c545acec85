// The observation of the native Atari 2600 for tests/oracle/test_atari_image.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "envs/atari/image.h"

namespace py = pybind11;
using namespace fastrl::envs::atari;

namespace {

using Bytes = py::array_t<std::uint8_t, py::array::c_style | py::array::forcecast>;

std::span<const std::uint8_t> span_of(const Bytes& bytes) {
  return {bytes.data(), static_cast<std::size_t>(bytes.size())};
}

Bytes grey(bool pal, const Bytes& screen) {
  Bytes out({screen.shape(0), screen.shape(1)});
  to_grey(pal ? kPalPalette : kNtscPalette, span_of(screen), out.mutable_data());
  return out;
}

Bytes rgb(bool pal, const Bytes& screen) {
  Bytes out({screen.shape(0), screen.shape(1), py::ssize_t{3}});
  to_rgb(pal ? kPalPalette : kNtscPalette, span_of(screen), out.mutable_data());
  return out;
}

/// The maximum of the greys of two screens, made in one go.
Bytes grey_maximum(bool pal, const Bytes& screen, const Bytes& other) {
  if (screen.size() != other.size()) throw std::invalid_argument("two sizes");
  const Bytes other_grey = grey(pal, other);
  Bytes out({screen.shape(0), screen.shape(1)});
  to_grey_max(pal ? kPalPalette : kNtscPalette, span_of(screen), other.data(), other_grey.data(),
              out.mutable_data());
  return out;
}

Bytes maximum(const Bytes& a, const Bytes& b) {
  if (a.size() != b.size()) throw std::invalid_argument("two sizes");
  Bytes out(std::vector<py::ssize_t>(a.shape(), a.shape() + a.ndim()), a.data());
  max_into(out.mutable_data(), b.data(), static_cast<std::size_t>(b.size()));
  return out;
}

/// An image of (height, width) or (height, width, channels).
Bytes resized(const Bytes& image, int height, int width, bool plain) {
  const auto channels = image.ndim() == 3 ? image.shape(2) : 1;
  const Resize resize(static_cast<int>(image.shape(0)), static_cast<int>(image.shape(1)), height,
                      width, static_cast<int>(channels));
  std::vector<py::ssize_t> shape{height, width};
  if (image.ndim() == 3) shape.push_back(channels);
  Bytes out(shape);
  if (plain) {
    resize.plain(image.data(), out.mutable_data());
  } else {
    std::vector<float> scratch(resize.scratch_size());
    resize(image.data(), out.mutable_data(), scratch.data());
  }
  return out;
}

}  // namespace

PYBIND11_MODULE(atari_image, module) {
  module.def("grey", grey, py::arg("pal"), py::arg("screen"));
  module.def("rgb", rgb, py::arg("pal"), py::arg("screen"));
  module.def("grey_maximum", grey_maximum, py::arg("pal"), py::arg("screen"), py::arg("other"));
  module.def("maximum", maximum, py::arg("a"), py::arg("b"));
  module.def("resized", resized, py::arg("image"), py::arg("height"), py::arg("width"),
             py::arg("plain"));
}
