"""TrainConfig: what it accepts, what it says when it does not, and its JSON form."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrl.config import (
    PRESETS,
    TrainConfig,
    config_for,
    default_preset,
    load_config,
    replace,
)

BREAKOUT = "MinAtar/Breakout-v1"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_config(preset: str) -> None:
    env_id = "ALE/Pong-v5" if preset.startswith(("atari", "machado")) else BREAKOUT
    config = config_for(env_id, preset=preset)

    assert config.preset == preset
    assert {name: getattr(config, name) for name in PRESETS[preset]} == dict(PRESETS[preset])


@pytest.mark.parametrize(
    ("env_id", "preset"),
    [("ALE/Pong-v5", "atari"), (BREAKOUT, "minatar"), ("Catch-v0", "catch")],
)
def test_the_environment_chooses_the_preset(env_id: str, preset: str) -> None:
    assert default_preset(env_id) == preset
    assert config_for(env_id).preset == preset


def test_the_atari_preset_is_cleanrls() -> None:
    """Source: cleanrl/ppo_atari_envpool.py, Args."""
    config = config_for("ALE/Breakout-v5")

    assert (config.num_envs, config.num_steps, config.batch_size) == (8, 128, 1024)
    assert (config.num_minibatches, config.update_epochs, config.minibatch_size) == (4, 4, 256)
    assert (config.learning_rate, config.anneal_lr, config.adam_eps) == (2.5e-4, True, 1e-5)
    assert (config.gamma, config.gae_lambda) == (0.99, 0.95)
    assert (config.clip_coef, config.clip_vloss, config.norm_adv) == (0.1, True, True)
    assert (config.ent_coef, config.vf_coef, config.max_grad_norm) == (0.01, 0.5, 0.5)
    assert (config.total_steps, config.target_kl, config.reward_scaling) == (10**7, None, "clip")
    assert config.make_options["repeat_action_probability"] == 0.0


def test_options_of_the_user_win_over_the_protocols() -> None:
    config = config_for("ALE/Pong-v5", env_options={"noop_max": 5})

    assert config.make_options["noop_max"] == 5
    assert config.make_options["use_fire_reset"] is True


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("total_steps", 0, "an integer >= 1, got 0"),
        ("num_envs", 2.5, r"an integer >= 1, got 2\.5"),
        ("num_envs", True, "an integer >= 1, got True"),
        ("gamma", 1.5, r"a number in \[0, 1\], got 1\.5"),
        ("gamma", float("nan"), r"a number in \[0, 1\], got nan"),
        ("gae_lambda", -0.1, r"a number in \[0, 1\], got -0\.1"),
        ("learning_rate", 0.0, r"a number > 0, got 0\.0"),
        ("learning_rate", "fast", "a number > 0, got 'fast'"),
        ("ent_coef", -1, "a number >= 0, got -1"),
        ("target_kl", 0, "a number > 0, or None, got 0"),
        ("kl_ref_coef", -0.1, r"a number >= 0, got -0\.1"),
        ("seed", -1, r"an integer in \[0, 2\*\*31 - 1\], got -1"),
        ("device", "tpu", "one of auto, cpu, cuda, got 'tpu'"),
        ("reward_scaling", "log", "one of none, clip, return_std, got 'log'"),
        ("autoreset_mode", "Disabled", "one of NextStep, SameStep, got 'Disabled'"),
        ("num_minibatches", 100_000, r"at most num_envs \* num_steps = 16384, got 100000"),
        ("protocol", "classic", "none for MinAtar"),
        ("env_options", [1], "a mapping of options"),
        ("anneal_lr", "yes", "true or false, got 'yes'"),
        ("env_id", "", "an environment id"),
        ("advantage", "vtrace", "one of gae, group, variance-gamma, .*, got 'vtrace'"),
        ("control", "yoked", "one of none with advantage gae, got 'yoked'"),
        ("yoked_run", "runs/a", "empty without control yoked, got 'runs/a'"),
        ("vd_eta", float("inf"), "a finite number, got inf"),
        ("vd_lmax", -1.0, r"a number >= 0, got -1\.0"),
        ("vd_warmup", -1, "an integer >= 0, got -1"),
        ("vd_horizon", 0, "an integer >= 1, got 0"),
        ("vd_skill_gate", 1, "true or false, got 1"),
        ("gamma_high", 1.5, r"a number in \[0, 1\], got 1\.5"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(field: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*{says}"):
        replace(config_for(BREAKOUT), **{field: value})


def test_unknown_keys_and_presets_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown config key gama; allowed are .*gamma"):
        config_for(BREAKOUT, gama=0.9)
    with pytest.raises(ValueError, match="unknown preset 'fast'; there are minatar"):
        config_for(BREAKOUT, preset="fast")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**31 - 1),
            "gamma": st.floats(0, 1),
            "learning_rate": st.floats(1e-12, 1e3),
            "target_kl": st.none() | st.floats(1e-6, 1.0),
            "anneal_lr": st.booleans(),
            "run_dir": st.text(),
            "env_options": st.dictionaries(st.text(), st.booleans() | st.integers()),
        },
    )
)
def test_json_round_trip(values: dict[str, Any]) -> None:
    config = config_for(BREAKOUT, **values)
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a JSON config"),
        ("[]", "a config is a JSON object, got list"),
        ("{}", "env_id is missing"),
        ('{"env_id": "Catch-v0", "speed": 1}', "unknown config key speed"),
        ('{"env_id": "Catch-v0", "gamma": 2}', "gamma must be"),
    ],
)
def test_bad_json_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrainConfig.from_json(text)


def test_load_config_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"env_id": 3}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json: .*env_id"):
        load_config(tmp_path)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        config_for(BREAKOUT).seed = 2  # type: ignore[misc]


def test_every_field_is_documented_where_it_stands() -> None:
    import ast
    import inspect

    [tree] = ast.parse(inspect.getsource(TrainConfig)).body
    assert isinstance(tree, ast.ClassDef)
    documented = {
        field.target.id
        for field, doc in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
    }
    assert documented == {f.name for f in fields(TrainConfig)}


def test_config_and_metrics_import_no_heavy_library() -> None:
    code = (
        "import sys, fastrl.config, fastrl.metrics;"
        "print(sorted({'torch', 'wandb', 'matplotlib', 'tensorboard'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_ram_observations_pick_their_preset_and_reach_the_pool() -> None:
    config = config_for("ALE/Pong-v5", obs_type="ram")

    assert config.preset == "atari-ram"
    assert config.make_options["obs_type"] == "ram"
    assert "obs_type" not in config_for("ALE/Pong-v5").make_options


def test_only_atari_has_ram() -> None:
    with pytest.raises(ValueError, match="obs_type must be screen for MinAtar/Breakout-v1"):
        config_for(BREAKOUT, obs_type="ram")


@pytest.mark.parametrize(
    ("advantage", "changes", "says"),
    [
        ("variance-gamma", {"control": "yoked"}, "yoked_run must be the folder of a run .*got ''"),
        ("variance-gamma", {"gamma": 0.5}, r"gamma must be in .*= \[0\.8, 0\.9995\].*got 0\.5"),
        ("variance-gamma", {"vd_map": "prec"}, "vd_map must be one of auto, odds, ev .*'prec'"),
        ("variance-gamma", {"vd_map": "ev"}, "vd_base must be var with vd_map ev, got 'geo'"),
        (
            "variance-gamma",
            {"vd_map": "ev", "vd_base": "var", "control": "negated"},
            "control must be another with vd_map ev, got 'negated'",
        ),
        ("variance-gamma", {"vd_loss": "nll", "vd_signal": "td"}, "vd_signal must be return"),
        ("variance-lambda", {"gae_lambda": 0.2}, r"gae_lambda must be in .*got 0\.2"),
        ("variance-lambda-ensemble", {"gae_lambda": 1.0}, "gae_lambda must be a number < 1"),
        ("variance-lambda-ensemble", {"vd_loss": "nll"}, "vd_loss must be decoupled"),
        ("variance-horizon", {"control": "shuffled"}, "control must be one of none, head-only"),
        ("variance-horizon", {"vd_horizon": 65}, r"in \[1, num_steps = 64\], got 65"),
        ("stream-time", {"gae_lambda": 0.9}, r"gae_lambda must be 1\.0 with advantage stream-time"),
        ("stream-lag", {"vd_map": "ev"}, "vd_map must be prec with advantage stream-lag, got 'ev'"),
    ],
)
def test_options_that_an_estimator_cannot_use_are_refused(
    advantage: str, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        config_for(BREAKOUT, advantage=advantage, **changes)


def test_one_flag_sets_the_literal_configurations() -> None:
    """Section 3.9 of the specification."""
    lag = config_for(BREAKOUT, advantage="stream-lag")
    assert (lag.estimator, lag.vd_map, lag.vd_norm) == ("variance-horizon-return", "prec", "max")
    time = config_for(BREAKOUT, advantage="stream-time")
    assert (time.estimator, time.vd_map, time.vd_base) == ("variance-gamma", "ev", "var")
    assert (time.vd_ref, time.gae_lambda, time.vd_loss) == ("self", 1.0, "nll")
    assert TrainConfig.from_json(time.to_json()) == time


def test_a_penalty_needs_a_reference() -> None:
    with pytest.raises(ValueError, match=r"kl_ref must be a run folder .*kl_ref_coef 0\.1, got ''"):
        config_for(BREAKOUT, kl_ref_coef=0.1)
