// What module.cpp puts together.
#pragma once

#include <pybind11/pybind11.h>

namespace fastrl {

void bind_pool(pybind11::module_& m);   ///< pool.cpp
void bind_games(pybind11::module_& m);  ///< registry.cpp
void bind_atari(pybind11::module_& m);  ///< atari.cpp
void bind_ops(pybind11::module_& m);    ///< ops.cpp

}  // namespace fastrl
