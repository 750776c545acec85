"""What an Atari pool refuses, names and draws; what it plays is held to ale-py in tests/oracle."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ale_py import roms

import fastrl
from fastrl.ale import AleEnvPool

PONG = "ALE/Pong-v5"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": "ALE/Combat-v5"}, "no environment 'ALE/Combat-v5'"),
        ({"id": []}, "id is empty"),
        ({"id": [PONG, "Catch-v0"]}, r"only Atari games \(ALE/...\) share a pool"),
        ({"backend": "stella"}, "backend='stella': ALE/Pong-v5 has native, ale"),
        ({"id": "Catch-v0", "backend": "ale"}, "backend='ale': Catch-v0 has native"),
        ({"id": [PONG, "ALE/Skiing-v5"], "backend": "ale"}, "the ale backend has one game a pool"),
        ({"backend": "ale", "mode": 1}, "mode=1: the ale backend"),
        (
            {"backend": "ale", "render_mode": "rgb_array"},
            "render_mode=.* the ale backend",
        ),
        ({"frame_skip": 4}, "no option frame_skip; ALE games have frameskip,"),
        ({"max_episode_steps": 4}, "no option max_episode_steps"),
        ({"frameskip": 0}, "frameskip must be an integer >= 1, got 0"),
        ({"frameskip": 2**31}, "frameskip=2147483648"),
        ({"stack_num": -1}, "stack_num must be an integer >= 1, got -1"),
        ({"stack_num": 2000}, "stack_num=2000: allowed is 1 to 1024"),
        ({"img_width": 8.5}, "img_width must be an integer >= 1, got 8.5"),
        ({"img_height": 5000}, "img_height=5000: allowed is 1 to 4096"),
        ({"noop_max": -1}, "noop_max must be an integer >= 0"),
        ({"repeat_action_probability": 2.0}, r"in \[0, 1\], got 2\.0"),
        ({"maxpool": 1}, "maxpool must be bool, got 1"),
        ({"thread_affinity_offset": 0}, "does not pin threads; allowed is -1"),
        ({"obs_type": "rgb"}, "obs_type must be 'screen' or 'ram', got 'rgb'"),
        ({"render_mode": "human"}, "render_mode must be None or 'rgb_array', got 'human'"),
        ({"mode": 9}, "mode=9: pong has 0, 1$"),
        ({"mode": "hard"}, "mode must be an integer >= 0 or None, got 'hard'"),
        ({"difficulty": 4}, "difficulty=4: pong has 0, 1, 2, 3$"),
        ({"difficulty": -1}, "difficulty must be an integer >= 0 or None, got -1"),
        ({"id": [PONG, "ALE/Breakout-v5"], "mode": 1}, "mode=1: breakout has 0, 4"),
        ({"translate": True}, "translate must be 'on' or 'off', got True"),
        ({"translate": "off", "backend": "ale"}, "translate='off': the ale backend"),
        ({"rom_path": 7}, "rom_path must be a path or None, got 7"),
        ({"rom_path": "/nowhere/pong.bin"}, "rom_path='/nowhere/pong.bin' cannot be read: No such"),
        ({"rom_path": "/nowhere", "id": [PONG, "ALE/Skiing-v5"]}, "rom_path is one game's"),
        ({"num_envs": 0}, "num_envs must be in"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastrl.make(**({"id": PONG} | options))


def test_a_file_of_ones_own_must_be_the_cartridge_that_is_known(tmp_path: Path) -> None:
    image = Path(roms.get_rom_path("pong")).read_bytes()
    copy = tmp_path / "whatever.rom"
    copy.write_bytes(image)
    given, shipped = fastrl.make(PONG, rom_path=copy), fastrl.make(PONG)
    np.testing.assert_array_equal(given.reset(seed=1)[0], shipped.reset(seed=1)[0])

    md5 = "60e0ea3cbe0913d39803477945e9e5ec"
    for damaged in (image[:-1], image + b"\0", b"", bytes(2048), image[:100] + b"\1" + image[101:]):
        copy.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"has {len(damaged)} bytes with md5 .*has md5 {md5}"):
            fastrl.make(PONG, rom_path=copy)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 6], r"actions\[1\] is 6; 'ALE/Pong-v5' has actions 0 to 5"),
        ([-1, 0], r"actions\[0\] is -1"),
        ([0.0, 0.0], "array of integers"),
        ([0, 0, 0], "needs 2 actions, got 3"),
    ],
)
def test_bad_actions_move_nothing(actions: Any, message: str) -> None:
    pool = fastrl.make(PONG, 2)
    frames = pool.reset(seed=1)[1]["frame_number"]
    with pytest.raises(ValueError, match=message):
        pool.step(actions)
    np.testing.assert_array_equal(pool.step([0, 0])[4]["frame_number"], frames + 4)


@pytest.mark.parametrize(
    ("stick", "message"),
    [
        ([[1.5, 0.0, 0.0]], r"actions\[0, 0\] is 1\.5.*allowed is 0\.0.* to 1\.0"),
        ([[1.0, 4.0, 0.0]], r"actions\[0, 1\] is 4\.0"),
        ([[1.0, 0.0, np.nan]], r"actions\[0, 2\] is nan"),
        ([[1.0, 0.0]], r"floats of shape \(M, 3\)"),
        ([3], r"floats of shape \(M, 3\)"),
        ("left", r"floats of shape \(M, 3\)"),
    ],
)
def test_bad_sticks_are_named(stick: Any, message: str) -> None:
    pool = fastrl.make(PONG, continuous=True)
    pool.reset(seed=1)
    with pytest.raises(ValueError, match=message):
        pool.step(stick)


@pytest.mark.parametrize("seed", [-1, 2**31, [2**31]])
def test_seeds_are_those_that_ale_takes(seed: Any) -> None:
    pool = fastrl.make(PONG)
    with pytest.raises(ValueError, match=r"a seed must be in \[0, 2147483647\]"):
        pool.reset(seed=seed)


def test_a_pool_says_what_it_plays_and_what_actions_mean() -> None:
    pong = fastrl.make(PONG, 2)
    assert pong.env_names == (PONG, PONG)
    assert pong.action_meanings == ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
    assert fastrl.make("Catch-v0", 2).env_names == ("Catch-v0", "Catch-v0")
    same = fastrl.make([PONG, "ALE/Carnival-v5"], 3)  # the same six actions
    assert same.action_meanings == pong.action_meanings
    mixed = fastrl.make([PONG, "ALE/Breakout-v5"], 3)
    assert mixed.single_action_space.n == 18  # type: ignore[attr-defined]
    assert mixed.env_names == (PONG, "ALE/Breakout-v5", PONG)
    assert len(mixed.action_meanings) == 18


def test_a_snapshot_goes_to_the_same_game_with_the_same_options() -> None:
    ids = [PONG, "ALE/Breakout-v5"]
    pool = fastrl.make(ids, 4)
    pool.reset(seed=1)
    pool.step([0, 1, 2, 3])
    pong = pool.get_state([0])
    pool.set_state(pong, [2])
    assert pool.get_state([2]) == pong
    before = pool.get_state()
    with pytest.raises(ValueError, match="of another game of this pool than environment 1"):
        pool.set_state(pong, [0, 1])
    with pytest.raises(ValueError, match="state is of 'ALE/Pong-v5,ALE/Breakout-v5 frameskip=4"):
        fastrl.make(ids, 4, frameskip=3).set_state(before)
    assert pool.get_state() == before


def test_render_draws_every_screen_in_colours() -> None:
    pool = fastrl.make(["ALE/AirRaid-v5", PONG], 3)
    assert pool.metadata["render_modes"] == ["rgb_array"]
    pool.reset(seed=1)
    state = pool.get_state()
    frames = pool.render()
    assert [frame.shape for frame in frames] == [(250, 160, 3), (210, 160, 3), (250, 160, 3)]
    assert all(frame.dtype == np.uint8 and len(np.unique(frame)) > 3 for frame in frames)
    after = pool.step([3, 4, 5])[0]
    pool.set_state(state)
    np.testing.assert_array_equal(pool.step([3, 4, 5])[0], after)


def test_what_nobody_looked_at_can_still_be_rendered() -> None:
    pools = [fastrl.make(PONG, obs_type=kind) for kind in ("ram", "screen")]
    for pool in pools:
        pool.reset(seed=1)
        for _ in range(20):
            pool.step([2])
    np.testing.assert_array_equal(*(pool.render() for pool in pools))


def test_what_has_no_screen_is_not_rendered() -> None:
    pool = fastrl.make("Catch-v0")
    assert pool.metadata["render_modes"] == []
    with pytest.raises(NotImplementedError, match="Catch-v0 has no screen"):
        pool.render()


def test_backend_ale_is_the_same_behind_the_same_interface() -> None:
    pools = [fastrl.make(PONG, 2, backend=backend, noop_max=5) for backend in ("native", "ale")]
    assert isinstance(pools[1], AleEnvPool)
    assert pools[0].action_meanings == pools[1].action_meanings
    infos = []
    for pool in pools:
        pool.reset(seed=3)
        *arrays, info = pool.step([2, 3])
        infos.append(info | dict(enumerate(arrays)))
        pool.close()
    assert infos[0].keys() == infos[1].keys()
    for key, value in infos[0].items():
        np.testing.assert_array_equal(value, infos[1][key], err_msg=str(key))
        assert value.dtype == infos[1][key].dtype, key


def test_listing_loads_neither_ale_py_nor_torch() -> None:
    code = (
        "import sys, fastrl; assert len(fastrl.list_envs()) > 104; fastrl.spec('ALE/Pong-v5')\n"
        "assert not {'ale_py', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
