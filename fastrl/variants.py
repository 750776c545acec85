"""The named ways to train that sweeps compare: each a set of overrides of `TrainConfig`.

The arms are those of the table in section 4 of the learned-discount specification, but for the grid
of fixed (gamma, lambda): that is an axis of a sweep
(benchmarks/sweeps/fixed_discount_minatar.toml).

A `yoked_run` is a template: a sweep fills in its own folder, the environment and another seed.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

OTHER_SEED_RUN = "{sweep}/runs/{env}/%s/s{other_seed}"
"""A run of another seed in the same sweep and environment."""

VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # P: the baseline, with the preset's gamma and lambda, and with the usual ones.
        "ppo": {},
        "ppo-99-95": {"gamma": 0.99, "gae_lambda": 0.95},
        # B: gamma follows the critic's confidence.
        "variance-gamma": {"advantage": "variance-gamma", "vd_ref": "fixed"},
        "variance-gamma-td": {
            "advantage": "variance-gamma",
            "vd_ref": "fixed",
            "vd_signal": "td",
        },
        "variance-gamma-self": {"advantage": "variance-gamma", "vd_ref": "self"},
        "variance-gamma-td-self": {
            "advantage": "variance-gamma",
            "vd_ref": "self",
            "vd_signal": "td",
        },
        # C: lambda follows it; the ensemble tells the critic's error from the return's noise.
        "variance-lambda": {"advantage": "variance-lambda"},
        "variance-lambda-ensemble": {"advantage": "variance-lambda-ensemble"},
        # Its signals held constant: what is left is the higher lambda before an episode's end.
        "ensemble-constant": {"advantage": "variance-lambda-ensemble", "vd_lmax": 0.0},
        # A: a weight for each lag.
        "variance-horizon": {"advantage": "variance-horizon"},
        "variance-horizon-return": {"advantage": "variance-horizon-return"},
        "variance-horizon-lite": {"advantage": "variance-horizon-lite"},
        # H and M: the heads are trained, the advantage is plain GAE.
        "head-only": {"advantage": "variance-lambda", "control": "head-only"},
        "head-only-nll": {
            "advantage": "variance-lambda",
            "control": "head-only",
            "vd_loss": "nll",
        },
        "head-only-beta-nll": {
            "advantage": "variance-lambda",
            "control": "head-only",
            "vd_loss": "beta_nll",
        },
        "lag-heads-only": {"advantage": "variance-horizon", "control": "head-only"},
        # Y: the mean that a learned run logged, without the state.
        "yoked-gamma": {
            "advantage": "variance-gamma",
            "control": "yoked",
            "yoked_run": OTHER_SEED_RUN % "variance-gamma",
        },
        "yoked-lambda": {
            "advantage": "variance-lambda",
            "control": "yoked",
            "yoked_run": OTHER_SEED_RUN % "variance-lambda",
        },
        "yoked-horizon-lite": {
            "advantage": "variance-horizon-lite",
            "control": "yoked",
            "yoked_run": OTHER_SEED_RUN % "variance-horizon-lite",
        },
        # S: the same distribution over the batch, the states exchanged.
        "shuffled-gamma": {
            "advantage": "variance-gamma",
            "vd_ref": "fixed",
            "control": "shuffled",
        },
        "shuffled-lambda": {"advantage": "variance-lambda", "control": "shuffled"},
        # N: the opposite direction. The second is also C1 with zeta < 0.
        "negated-gamma": {"advantage": "variance-gamma", "vd_ref": "fixed", "control": "negated"},
        "variance-lambda-negated": {"advantage": "variance-lambda", "control": "negated"},
        # E and G: published rivals, one lambda or one gamma and lambda for all states.
        "explained-lambda": {"advantage": "explained-lambda"},
        "meta-gradient": {"advantage": "meta-gradient"},
        # Z: what the source says, literally.
        "stream-lag": {"advantage": "stream-lag"},
        "stream-time": {"advantage": "stream-time"},
    }
)
"""Overrides by the variant's name. A sweep file may add names, and change these."""
