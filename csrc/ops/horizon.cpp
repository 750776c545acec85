// The CPU twins of horizon_kernel and lag_rewards_kernel, and the moments of lags.
//
// Oracle: tests/unit/test_discount_kernels.py holds them to the definitions in
// fastrl/advantages.py.
#include "csrc/ops/horizon.h"

#include <algorithm>

namespace fastrl::ops {
namespace {

/// Calls visit(cell, k, target) for every target that was observed, valid cell by valid cell.
template <class Visit>
void visit_known(const Steps& steps, const unsigned char* valid, int num_lags, Visit visit) {
  const long long num_cells = steps.num_steps * steps.num_envs;
  for (long long cell = 0; cell < num_cells; ++cell) {
    if (valid[cell] == 0) continue;
    End end = End::kNone;
    long long at = cell;
    int k = 0;
    for (; k < num_lags && end == End::kNone; ++k, at += steps.num_envs) {
      visit(cell, k, static_cast<double>(steps.rewards[at]));
      end = end_of(steps, at);
    }
    if (end != End::kTerminal) continue;
    for (; k < num_lags; ++k) visit(cell, k, 0.0);
  }
}

}  // namespace

void variance_horizon(const HorizonArrays& arrays) noexcept {
  const long long num_cells = arrays.steps.num_steps * arrays.steps.num_envs;
  for (long long cell = 0; cell < num_cells; ++cell) {
    arrays.out[cell] = arrays.means == nullptr ? horizon_advantage<false>(arrays, cell)
                                               : horizon_advantage<true>(arrays, cell);
  }
}

void lag_rewards(const Steps& steps, const std::int64_t* index, long long num_chosen, int num_lags,
                 float* targets, unsigned char* known) noexcept {
  for (long long m = 0; m < num_chosen; ++m) {
    lag_rewards_of(steps, index[m], num_lags, targets + m * num_lags, known + m * num_lags);
  }
}

void lag_moments(const Steps& steps, const float* means, const unsigned char* valid, int num_lags,
                 const LagMoments& moments) noexcept {
  const auto [num_known, mean, variance, squared_error] = moments;
  std::fill_n(num_known, num_lags, std::int64_t{0});
  for (double* sums : {mean, variance, squared_error}) std::fill_n(sums, num_lags, 0.0);
  const auto divide = [&](double* sums) {
    for (int k = 0; k < num_lags; ++k) {
      sums[k] /= static_cast<double>(std::max(num_known[k], std::int64_t{1}));
    }
  };

  visit_known(steps, valid, num_lags, [&](long long /*cell*/, int k, double target) {
    ++num_known[k];
    mean[k] += target;
  });
  divide(mean);
  visit_known(steps, valid, num_lags, [&](long long cell, int k, double target) {
    const double spread = target - mean[k];
    const double error = target - static_cast<double>(means[cell * num_lags + k]);
    variance[k] += spread * spread;
    squared_error[k] += error * error;
  });
  divide(variance);
  divide(squared_error);
}

}  // namespace fastrl::ops
