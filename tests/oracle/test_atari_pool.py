"""The native Atari pool against `ale_py.AtariVectorEnv`: same seeds, same actions, same bytes.

`make test` plays every corner of the options once, on games of every cartridge type; the slow tests
play three corners of each of the 104 games, and long enough for games to end by themselves.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import records
from ale_py import ALEInterface, AtariVectorEnv, LoggerMode, roms

import fastrl
from fastrl.atari import GAMES

SHORT = {"max_num_frames_per_episode": 130}
CORNERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "time limit": SHORT,
    "sticky": {"repeat_action_probability": 0.25, "noop_max": 7, **SHORT},
    "odd stickiness": {"repeat_action_probability": 0.123456789, "reward_clipping": False},
    "episodic life": {"episodic_life": True},
    "episodic life, SameStep": {"episodic_life": True, "autoreset_mode": "SameStep", **SHORT},
    "life-loss info": {"life_loss_info": True},
    "life-loss info, SameStep": {"life_loss_info": True, "autoreset_mode": "SameStep", **SHORT},
    "both": {"life_loss_info": True, "episodic_life": True, "autoreset_mode": "SameStep"},
    "no fire": {"use_fire_reset": False, "noop_max": 3, **SHORT},
    "no no-ops": {"noop_max": 0, **SHORT},
    "one no-op": {"noop_max": 1, "use_fire_reset": False, **SHORT},
    "colours": {"grayscale": False, "img_height": 210, "img_width": 160, **SHORT},
    "small colours": {"grayscale": False, "img_height": 64, "img_width": 96, "stack_num": 2},
    "screen as it is": {"img_height": 210, "img_width": 160, "stack_num": 1, **SHORT},
    "half size": {"img_height": 105, "img_width": 80, "stack_num": 3},
    "enlarged": {"img_height": 260, "img_width": 100, "stack_num": 1},
    "every frame": {"frameskip": 1, "max_num_frames_per_episode": 29},
    "two frames": {"frameskip": 2, "max_num_frames_per_episode": 59, "noop_max": 200},
    "five frames": {"frameskip": 5, "autoreset_mode": "SameStep", **SHORT},
    "no pooling": {"maxpool": False, **SHORT},
    "no pooling, one frame": {"maxpool": False, "frameskip": 1, "stack_num": 5},
    "all actions": {"full_action_space": True, "reward_clipping": False, **SHORT},
    "stick": {"continuous": True, **SHORT},
    "loose stick": {"continuous": True, "continuous_action_threshold": 0.2, "life_loss_info": True},
}  # fmt: skip
KINDS = (
    "Breakout", "Pong", "Surround", "SpaceInvaders", "AirRaid", "Qbert", "Asteroids",
    "ElevatorAction", "Crossbow", "Klax", "MontezumaRevenge", "Robotank", "Pitfall2",
)  # fmt: skip
"""A game of every cartridge type and controller; see CORNERS of test_atari.py."""
INFOS = ("lives", "frame_number", "episode_frame_number")


def random_actions(space: Any, num_envs: int, seed: int) -> Iterator[Any]:
    """Each environment holds an action for a while, so that games come to something."""
    rng = np.random.default_rng(seed)
    held = np.zeros((num_envs, *space.shape), space.dtype)
    while True:
        for i in np.flatnonzero(rng.random(num_envs) < 0.3):
            held[i] = (
                rng.integers(space.n) if hasattr(space, "n") else rng.uniform(space.low, space.high)
            )
        yield held.copy()


def differ(name: str, ours: Any, theirs: Any, where: str) -> None:
    if not np.array_equal(ours, theirs):
        at = np.argwhere(np.asarray(ours) != np.asarray(theirs))[0]
        raise AssertionError(f"{where}: {name} differs first at {at}")


def compare(
    game: str,
    num_steps: int,
    *,
    num_envs: int = 2,
    seed: int = 7,
    actions: Iterator[Any] | None = None,
    **options: Any,
) -> int:
    """Plays on both; returns how many rows ended."""
    theirs = AtariVectorEnv(GAMES[game].name, num_envs, num_threads=1, **options)
    ours = fastrl.make(f"ALE/{game}-v5", num_envs, 2, **options)
    assert isinstance(ours, fastrl.EnvPool)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space
    obs, info = ours.reset(seed=seed)
    their_obs, their_info = theirs.reset(seed=seed)
    differ("obs", obs, their_obs, f"{game} reset")
    actions = actions or random_actions(theirs.single_action_space, num_envs, seed)
    ends = 0
    for t in range(num_steps):
        where = f"{game} step {t}"
        for key in INFOS:
            differ(key, info[key], their_info[key], where)
        chosen = next(actions)
        *result, info = ours.step(chosen)
        *expected, their_info = theirs.step(chosen)
        for name, a, b in zip(
            ("obs", "reward", "terminated", "truncated"), result, expected, strict=True
        ):
            differ(name, a, b, where)
        ended = result[2] | result[3]
        assert ("final_obs" in info) == ("final_obs" in their_info), where
        if "final_obs" in info:
            over = ended & info["game_over"]
            differ("final_obs", info["final_obs"][over], their_info["final_obs"][over], where)
            # ale-py leaves the rows of lost lives as the memory was.
            lost = ended & ~over
            differ("final_obs", info["final_obs"][lost], result[0][lost], where)
            differ("_final_obs", info["_final_obs"], ended, where)
        ends += int(np.count_nonzero(ended))
    ours.close()
    theirs.close()
    return ends


@pytest.mark.parametrize("corner", CORNERS)
def test_every_corner_is_what_ale_py_plays(corner: str) -> None:
    game = KINDS[list(CORNERS).index(corner) % len(KINDS)]
    options = CORNERS[corner]
    ends = compare(game, 45, **options)
    assert ends > 0 or "max_num_frames_per_episode" not in options


@pytest.mark.parametrize("game", KINDS)
def test_a_game_of_every_kind_is_what_ale_py_plays(game: str) -> None:
    assert compare(game, 20, num_envs=1, seed=3, max_num_frames_per_episode=50) > 0


def test_the_last_life_is_not_lost_before_the_game_is_over() -> None:
    """Bank Heist shows no lives for a while before its end."""
    rng = np.random.default_rng(7)
    actions = (rng.integers(0, 18, 4)[:1] for _ in range(310))
    ends = compare("BankHeist", 310, num_envs=1, actions=actions, life_loss_info=True)
    assert ends == 3


# 7 and the number of corners have no common divisor, so that games together see every corner.
@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("nth", range(3))
def test_every_game_is_what_ale_py_plays(game: str, nth: int) -> None:
    number = (list(GAMES).index(game) * 3 + nth) * 7
    corner = list(CORNERS)[number % len(CORNERS)]
    with records.recorded(GAMES[game].name, "pool", corner, frames=1000):
        compare(game, 1000, seed=number, **CORNERS[corner])


@pytest.mark.slow
@pytest.mark.parametrize("game", ["Breakout", "Pong", "SpaceInvaders", "MsPacman", "Kaboom"])
def test_games_end_by_themselves_as_in_ale_py(game: str) -> None:
    for mode in ("NextStep", "SameStep"):
        with records.recorded(GAMES[game].name, "pool", f"games end, {mode}", frames=3000):
            assert compare(game, 3000, autoreset_mode=mode) > 3


def test_a_masked_and_an_unseeded_reset_are_those_of_ale_py() -> None:
    theirs = AtariVectorEnv("ms_pacman", 3, num_threads=1)
    ours = fastrl.make("ALE/MsPacman-v5", 3)
    seeds = np.array([4, 40, 400])
    differ("obs", ours.reset(seed=seeds)[0], theirs.reset(seed=seeds)[0], "reset")
    masked = {"reset_mask": np.array([True, False, True])}
    for options, seed, their_seed in (
        (None, None, None),
        (masked, None, None),
        (masked, [9, 0, 11], np.array([9, 11])),
        (None, None, None),
    ):
        for _ in range(8):
            differ("obs", ours.step([1, 2, 3])[0], theirs.step(np.array([1, 2, 3]))[0], "step")
        obs, info = ours.reset(seed=seed, options=options)
        their_obs, their_info = theirs.reset(seed=their_seed, options=options)
        differ("obs", obs, their_obs, "reset")
        for key in INFOS:
            differ(key, info[key], their_info[key], "reset")


# ---- without AtariVectorEnv: what it does not have -----------------------------------------------


def ale(game: str, seed: int, mode: int, difficulty: int, sticky: float) -> Any:
    ALEInterface.setLoggerMode(LoggerMode.Error)
    machine = ALEInterface()
    machine.setInt("random_seed", seed)
    machine.setFloat("repeat_action_probability", sticky)
    machine.loadROM(roms.get_rom_path(GAMES[game].name))
    machine.setMode(mode)
    machine.setDifficulty(difficulty)
    machine.reset_game()
    return machine


@pytest.mark.parametrize(
    ("game", "mode", "difficulty"),
    [("Pong", 1, 3), ("SpaceInvaders", 5, 1), ("Adventure", 2, 2), ("Klax", 1, 0)],
)  # fmt: skip
def test_modes_difficulties_and_memory_are_those_of_ale(
    game: str, mode: int, difficulty: int
) -> None:
    settings: dict[str, Any] = {
        "noop_max": 0,
        "use_fire_reset": False,
        "full_action_space": True,
        "repeat_action_probability": 0.25,
        "mode": mode,
        "difficulty": difficulty,
    }
    machine = ale(game, 5, mode, difficulty, 0.25)
    id = f"ALE/{game}-v5"
    memory = fastrl.make(id, obs_type="ram", **settings)
    screen = fastrl.make(
        id, grayscale=False, img_height=machine.getScreenDims()[0], img_width=160, stack_num=1,
        maxpool=False, **settings,
    )  # fmt: skip
    assert memory.single_observation_space.shape == (128,)
    obs, _ = memory.reset(seed=5)
    differ("RAM", obs[0], machine.getRAM(), "reset")
    differ("screen", screen.reset(seed=5)[0][0, 0], machine.getScreenRGB(), "reset")
    actions = machine.getLegalActionSet()
    for t, (action,) in zip(
        range(40), random_actions(memory.single_action_space, 1, 1), strict=False
    ):
        reward = sum(machine.act(actions[action]) for _ in range(4))
        obs, _, terminated, _, info = memory.step([action])
        picture = screen.step([action])[0]
        assert (info["reward"], info["lives"]) == (reward, machine.lives())
        assert info["frame_number"] == machine.getFrameNumber()
        if terminated:
            break
        differ("RAM", obs[0], machine.getRAM(), f"step {t}")
        differ("screen", picture[0, 0], machine.getScreenRGB(), f"step {t}")
        differ("render", screen.render()[0], machine.getScreenRGB(), f"step {t}")


@pytest.mark.parametrize("game", KINDS)
def test_looking_at_a_game_does_not_change_what_an_agent_sees(game: str) -> None:
    """An agent's pictures are painted in greys; to be looked at they are painted once more."""
    options = {"repeat_action_probability": 0.25, "max_num_frames_per_episode": 330}
    plain, watched, coloured = (
        fastrl.make(f"ALE/{game}-v5", 3, **options, grayscale=grayscale)
        for grayscale in (True, True, False)
    )
    differ("obs", watched.reset(seed=7)[0], plain.reset(seed=7)[0], "reset")
    coloured.reset(seed=7)
    actions = random_actions(plain.single_action_space, 3, 5)
    rng = np.random.default_rng(5)
    for t in range(150):
        action = next(actions)
        differ("obs", watched.step(action)[0], plain.step(action)[0], f"step {t}")
        coloured.step(action)
        if rng.random() < 0.3:
            for ours, theirs in zip(watched.render(), coloured.render(), strict=True):
                differ("render", ours, theirs, f"step {t}")


def test_stacked_memory_is_a_history_of_memory() -> None:
    one = fastrl.make("ALE/Pong-v5", 2, obs_type="ram")
    three = fastrl.make("ALE/Pong-v5", 2, obs_type="ram", stack_num=3)
    seen = [one.reset(seed=1)[0]]
    assert not three.reset(seed=1)[0][:, :2].any()
    for _ in range(3):
        seen.append(one.step([2, 3])[0])
        last = three.step([2, 3])[0]
    np.testing.assert_array_equal(last, np.stack(seen[1:], axis=1))


# ---- what must hold for every pool, and here with everything an Atari state has ------------------

EVERYTHING = {
    "repeat_action_probability": 0.25,
    "life_loss_info": True,
    "max_num_frames_per_episode": 60,
}


def history(pool: Any, num_steps: int, seed: int) -> str:
    """A digest of everything that the pool reports."""
    digest = hashlib.sha256()
    actions = random_actions(pool.single_action_space, pool.num_envs, seed)
    for _ in range(num_steps):
        *arrays, info = pool.step(next(actions))
        for array in (*arrays, *(info[key] for key in (*INFOS, "reward", "episode_return"))):
            digest.update(array.tobytes())
    return digest.hexdigest()


def replays(game: str, num_steps: int) -> None:
    pool = fastrl.make(f"ALE/{game}-v5", 2, **EVERYTHING)
    pool.reset(seed=2)
    history(pool, 5, 1)
    state = pool.get_state()
    expected = history(pool, num_steps, 3)
    assert len(set(expected)) > 1
    pool.set_state(state)
    assert history(pool, num_steps, 3) == expected
    other = fastrl.make(f"ALE/{game}-v5", 2, **EVERYTHING)
    other.set_state(state)
    assert history(other, num_steps, 3) == expected


@pytest.mark.parametrize("game", ["Pong", "Pitfall2", "Klax"])
def test_a_restored_snapshot_is_as_if_never_left(game: str) -> None:
    replays(game, 30)


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_a_restored_snapshot_of_every_game_is_as_if_never_left(game: str) -> None:
    with records.recorded(GAMES[game].name, "pool", "snapshot, 1000 steps", frames=1000):
        replays(game, 1000)


def test_threads_and_batches_do_not_change_results() -> None:
    ids = ["ALE/Pong-v5", "ALE/MsPacman-v5"]
    expected: list[list[bytes]] = [[] for _ in range(3)]
    together = fastrl.make(ids, 3, num_threads=1, **EVERYTHING)
    obs, info = together.reset(seed=1)
    for t in range(25):
        for i in range(3):
            expected[i].append(obs[i].tobytes() + info["frame_number"][i].tobytes())
        obs, _, _, _, info = together.step([t % 5, t % 7, t % 3])

    for num_threads, batch_size in ((2, 3), (3, 2)):
        pool = fastrl.make(ids, 3, num_threads=num_threads, batch_size=batch_size, **EVERYTHING)
        seen: list[list[bytes]] = [[] for _ in range(3)]
        pool.async_reset(seed=1)
        while min(map(len, seen)) < 25:
            obs, _, _, _, info = pool.recv(timeout=60)
            chosen = []
            for row, i in enumerate(info["env_id"]):
                t = len(seen[i])
                seen[i].append(obs[row].tobytes() + info["frame_number"][row].tobytes())
                chosen.append(t % (5, 7, 3)[i])
            pool.send(chosen, info["env_id"])
        assert [one[:25] for one in seen] == expected
        pool.close()


def test_games_that_share_a_pool_play_as_they_do_alone() -> None:
    games = ["AirRaid", "Breakout", "Pong"]  # 250 lines and PAL, 210 and a paddle
    pool = fastrl.make([f"ALE/{game}-v5" for game in games], 4, full_action_space=True)
    assert pool.env_names == ("ALE/AirRaid-v5", "ALE/Breakout-v5", "ALE/Pong-v5", "ALE/AirRaid-v5")
    alone = [fastrl.make(f"ALE/{game}-v5", full_action_space=True) for game in games]
    obs, _ = pool.reset(seed=3)
    for k, one in enumerate(alone):
        differ("obs", obs[k], one.reset(seed=3 + k)[0][0], games[k])
    for t in range(20):
        obs = pool.step(np.full(4, t % 18))[0]
        for k, one in enumerate(alone):
            differ("obs", obs[k], one.step([t % 18])[0][0], games[k])
    assert [frame.shape for frame in pool.render()] == [
        (250, 160, 3), (210, 160, 3), (210, 160, 3), (250, 160, 3),
    ]  # fmt: skip
