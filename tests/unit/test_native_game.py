"""A game in C++ from another project: built against `get_include()`, made by `fastrl.make`."""

import importlib.util
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pybind11
import pytest

import fastrl

SOURCE = Path(__file__).parents[1] / "native" / "throwing_game.cpp"


@pytest.fixture(scope="module")
def _throwing_game(tmp_path_factory: pytest.TempPathFactory) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = tmp_path_factory.mktemp("native") / f"throwing_game{suffix}"
    includes = [fastrl.get_include(), sysconfig.get_path("include"), pybind11.get_include()]
    command = ["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", str(SOURCE)]
    subprocess.run([*command, *(f"-I{i}" for i in includes), "-o", str(built)], check=True)
    found = importlib.util.spec_from_file_location("throwing_game", built)
    assert found is not None
    assert found.loader is not None
    found.loader.exec_module(importlib.util.module_from_spec(found))


def receive_all(pool: fastrl.EnvPool) -> None:
    for _ in range(8):
        pool.recv(timeout=20)


@pytest.mark.usefixtures("_throwing_game")
@pytest.mark.timeout(30)
def test_a_throwing_env_raises_in_step() -> None:
    pool = fastrl.make("Throwing-v0", num_envs=8, num_threads=3)
    pool.reset(seed=0)
    actions = np.zeros(8, int)
    actions[6] = 1
    with pytest.raises(RuntimeError, match="the cartridge fell out"):
        pool.step(actions)
    obs, *_ = pool.step(np.zeros(8, int))
    np.testing.assert_array_equal(obs, np.full((8, 1), 7))


@pytest.mark.usefixtures("_throwing_game")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("batch_size", [0, 3])
def test_a_throwing_env_raises_in_recv(batch_size: int) -> None:
    pool = fastrl.make("Throwing-v0", num_envs=8, num_threads=3, batch_size=batch_size)
    pool.async_reset(seed=0)
    info = pool.recv()[-1]
    pool.send(np.ones(len(info["env_id"]), int), info["env_id"])
    with pytest.raises(RuntimeError, match="the cartridge fell out"):
        receive_all(pool)
    pool.reset()
    pool.close()


@pytest.mark.usefixtures("_throwing_game")
def test_an_id_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        fastrl.register("Throwing-v0", 2, (1,), lambda config, options: None)  # type: ignore
