"""The pool is a gymnasium vector environment: its wrappers and its `make_vec` work on it."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as wrappers

import fastrl


def test_make_vec_makes_a_pool() -> None:
    envs = gymnasium.make_vec("fastrl/MinAtar-Breakout-v1", num_envs=8, num_threads=2)
    assert isinstance(envs.unwrapped, fastrl.EnvPool)
    assert isinstance(envs, gymnasium.vector.VectorEnv)
    obs, _ = envs.reset(seed=0)
    assert obs.shape == (8, 10, 10, 4)
    assert envs.observation_space.contains(obs)
    assert envs.single_observation_space.contains(obs[0])
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.spec is not None
    envs.close()


def test_make_vec_makes_atari_with_a_film() -> None:
    envs = gymnasium.make_vec("fastrl/Pong-v5", num_envs=2, render_mode="rgb_array")
    envs.reset(seed=0)
    obs, *_ = envs.step(envs.action_space.sample())
    assert envs.observation_space.contains(obs)
    frames = envs.render()
    assert frames is not None
    assert [frame.shape for frame in frames] == [(210, 160, 3)] * 2
    envs.close()


@pytest.mark.filterwarnings("ignore:.*MinAtar-.*-v0 is out of date.*:DeprecationWarning")
def test_every_native_id_is_registered_with_gymnasium() -> None:
    ids = [id for id in fastrl.list_envs() if id.startswith(("MinAtar/", "Catch"))]
    assert len(ids) == 11
    for id in ids:
        envs = gymnasium.make_vec("fastrl/" + id.replace("/", "-"), num_envs=2)
        spec = fastrl.spec(id)
        assert envs.single_observation_space.shape == spec.obs_shape
        assert envs.single_action_space.n == spec.num_actions  # type: ignore[attr-defined]
        envs.reset(seed=0)
        for _ in range(20):
            obs, *_ = envs.step(envs.action_space.sample())
            assert envs.observation_space.contains(obs)
        envs.close()


def test_record_episode_statistics_agrees_with_the_pools_own() -> None:
    envs = wrappers.RecordEpisodeStatistics(fastrl.make("MinAtar/Breakout-v1", 16))
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(600):
        *_, info = envs.step(rng.integers(0, 3, 16))
        if "episode" in info:
            ended = info["_episode"]
            seen += int(ended.sum())
            np.testing.assert_array_equal(ended, info["game_over"])
            np.testing.assert_allclose(info["episode"]["r"][ended], info["episode_return"][ended])
            np.testing.assert_array_equal(
                info["episode"]["l"][ended], info["episode_length"][ended]
            )
    assert seen > 50


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_gymnasiums_wrappers_run_on_the_pool(mode: str) -> None:
    envs: gymnasium.vector.VectorEnv = fastrl.make("MinAtar/Asterix-v1", 6, autoreset_mode=mode)
    shape = (6, 10, 10, 4)
    envs = wrappers.NormalizeReward(envs)
    envs = wrappers.ClipReward(envs, -1.0, 1.0)
    envs = wrappers.RecordEpisodeStatistics(envs)
    if mode == "NextStep":
        envs = wrappers.FlattenObservation(envs)  # gymnasium: not with SameStep
        shape = (6, 400)
    envs.reset(seed=0)
    for _ in range(300):
        obs, reward, *_ = envs.step(envs.action_space.sample())
        assert abs(reward).max() <= 1
    assert obs.shape == shape


def test_numpy_to_torch_gives_tensors() -> None:
    torch = pytest.importorskip("torch")
    envs = wrappers.NumpyToTorch(fastrl.make("MinAtar/Asterix-v1", 6))
    obs, _ = envs.reset(seed=0)
    assert isinstance(obs, torch.Tensor)
    obs, reward, terminated, _, _ = envs.step(torch.zeros(6, dtype=torch.int64))
    assert obs.dtype == torch.uint8
    assert reward.shape == terminated.shape == (6,)
