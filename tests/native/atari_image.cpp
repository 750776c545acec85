// The observation of the native Atari 2600 for tests/oracle/test_atari_image.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "envs/atari/image.h"

namespace py = pybind11;
using namespace fastrl::envs::atari;

namespace {

using Bytes = py::array_t<std::uint8_t, py::array::c_style | py::array::forcecast>;

std::span<const std::uint8_t> span_of(const Bytes& bytes) {
  return {bytes.data(), static_cast<std::size_t>(bytes.size())};
}

const Palette& palette(bool pal) { return pal ? kPalPalette : kNtscPalette; }

Bytes grey(bool pal, const Bytes& screen) {
  Bytes out({screen.shape(0), screen.shape(1)});
  recolour(GreyRow(palette(pal)), span_of(screen), out.mutable_data());
  return out;
}

Bytes rgb(bool pal, const Bytes& screen) {
  Bytes out({screen.shape(0), screen.shape(1), py::ssize_t{3}});
  recolour(RgbRow(palette(pal)), span_of(screen), out.mutable_data());
  return out;
}

/// Pools the greys or colours of these rows of two screens into `out`, or those of one with `out`.
/// Returns which rows have changed.
std::vector<bool> pooled(bool pal, bool greys, const Bytes& screen,
                         const std::optional<Bytes>& older, Bytes out, bool plain,
                         const std::vector<bool>& rows) {
  Changes changes{};
  std::ranges::copy(rows, changes.begin());
  const auto into = [&](const auto& row) {
    if (!older) return pool_another(row, span_of(screen), out.mutable_data(), changes);
    const auto make =
        plain ? &pool_plainly<std::decay_t<decltype(row)>> : &pool<std::decay_t<decltype(row)>>;
    make(row, span_of(screen), older->data(), out.mutable_data(), changes);
  };
  if (greys) {
    into(GreyRow(palette(pal)));
  } else {
    into(RgbRow(palette(pal)));
  }
  return std::vector<bool>(changes.begin(), changes.begin() + screen.shape(0));
}

/// `last` is what came of the image before, which `changes` tell from this one.
Bytes updated(const Bytes& image, const Bytes& last, const std::vector<bool>& changes) {
  const Resize resize(static_cast<int>(image.shape(0)), static_cast<int>(image.shape(1)),
                      static_cast<int>(last.shape(0)), static_cast<int>(last.shape(1)), 1);
  Bytes out({last.shape(0), last.shape(1)});
  std::vector<float> scratch(resize.scratch_size());
  Changes changed{};
  std::ranges::copy(changes, changed.begin());
  resize.update(image.data(), out.mutable_data(), scratch.data(), last.data(), changed);
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
  module.def("pool", pooled, py::arg("pal"), py::arg("greys"), py::arg("screen"), py::arg("other"),
             py::arg("out").noconvert(), py::arg("plain"), py::arg("rows"));
  module.def("resized", resized, py::arg("image"), py::arg("height"), py::arg("width"),
             py::arg("plain"));
  module.attr("best_vectors") = static_cast<int>(best_vectors());
  module.def(
      "use_vectors", [](int level) { vectors = static_cast<Vectors>(level); }, py::arg("level"));
  module.def("updated", updated, py::arg("image"), py::arg("last"), py::arg("changes"));
}
