"""What must hold for every pool: any option corner, mode, mask, batch size and thread count."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrl

GAMES = ["Catch-v0", "MinAtar/Breakout-v1", "MinAtar/SpaceInvaders-v0"]
MODES = ["NextStep", "SameStep", "Disabled"]

games = st.sampled_from(GAMES)
modes = st.sampled_from(MODES)
threads = st.integers(1, 16)


def actions_for(env_ids: np.ndarray, step: np.ndarray | int, num_actions: int) -> np.ndarray:
    """A policy of (environment, its step): the same whatever order environments come in."""
    return (env_ids.astype(np.int64) * 31 + np.asarray(step) * 17 + 5) % num_actions


def num_actions(pool: fastrl.EnvPool) -> int:
    return int(pool.single_action_space.n)  # type: ignore[attr-defined]


Row = tuple[bytes, float, bool, bool, float, int]


def rows(result: tuple[Any, ...]) -> list[Row]:
    obs, reward, terminated, truncated, info = result
    return [
        (
            obs[i].tobytes(),
            float(reward[i]),
            bool(terminated[i]),
            bool(truncated[i]),
            float(info["episode_return"][i]),
            int(info["episode_length"][i]),
        )
        for i in range(len(obs))
    ]


def play(pool: fastrl.EnvPool, num_steps: int, first_step: int = 0) -> list[list[Row]]:
    """Steps a synchronous pool that was reset; history[env][step]."""
    history: list[list[Row]] = [[] for _ in range(pool.num_envs)]
    ids = np.arange(pool.num_envs)
    for t in range(first_step, first_step + num_steps):
        result = pool.step(actions_for(ids, t, num_actions(pool)))
        for env, row in enumerate(rows(result)):
            history[env].append(row)
        ended = result[2] | result[3]
        if pool.autoreset_mode.value == "Disabled" and ended.any():
            pool.reset(options={"reset_mask": ended})
    return history


def play_async(pool: fastrl.EnvPool, seed: int, num_steps: int) -> list[list[Row]]:
    """The same history through send and recv."""
    n = pool.num_envs
    history: list[list[Row]] = [[] for _ in range(n)]
    steps = np.zeros(n, int)
    pool.async_reset(seed=seed)
    while min(len(one) for one in history) < num_steps + 1:
        result = pool.recv(timeout=30)
        ids = result[-1]["env_id"]
        for env, row in zip(ids, rows(result), strict=True):
            history[env].append(row)
        pool.send(actions_for(ids, steps[ids], num_actions(pool)), ids)
        steps[ids] += 1
    return [one[1 : num_steps + 1] for one in history]


@settings(max_examples=25)
@given(games, modes, st.integers(1, 9), threads, st.integers(0, 2**40), st.integers(0, 7))
def test_one_thread_equals_many(
    game: str, mode: str, n: int, num_threads: int, seed: int, limit: int
) -> None:
    histories = []
    for count in (1, num_threads):
        pool = fastrl.make(game, n, num_threads=count, autoreset_mode=mode, max_episode_steps=limit)
        pool.reset(seed=seed)
        histories.append(play(pool, 40))
        pool.close()
    assert histories[0] == histories[1]


@settings(max_examples=25)
@given(games, st.sampled_from(["NextStep", "SameStep"]), st.integers(1, 9), threads, st.data())
def test_asynchronous_equals_synchronous(
    game: str, mode: str, n: int, num_threads: int, data: st.DataObject
) -> None:
    batch_size = data.draw(st.integers(1, n))
    pool = fastrl.make(game, n, autoreset_mode=mode)
    pool.reset(seed=3)
    expected = play(pool, 30)
    other = fastrl.make(
        game, n, num_threads=num_threads, batch_size=batch_size, autoreset_mode=mode
    )
    assert play_async(other, 3, 30) == expected


@settings(max_examples=25)
@given(games, modes, st.integers(1, 6), st.integers(0, 30), st.data())
def test_a_restored_snapshot_is_as_if_never_left(
    game: str, mode: str, n: int, before: int, data: st.DataObject
) -> None:
    pool = fastrl.make(game, n, num_threads=2, autoreset_mode=mode)
    pool.reset(seed=1)
    play(pool, before)
    chosen = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    state = pickle.loads(pickle.dumps(pool.get_state(chosen)))
    expected = play(pool, 25, before)
    pool.set_state(state, chosen)
    again = play(pool, 25, before)
    for env in chosen:
        assert again[env] == expected[env]

    fresh = fastrl.make(game, len(chosen), autoreset_mode=mode)
    fresh.set_state(state)
    assert fresh.get_state() == state


def test_one_snapshot_goes_into_many_environments() -> None:
    pool = fastrl.make("MinAtar/Breakout-v1", 4)
    pool.reset(seed=0)
    play(pool, 5)
    pool.set_state(pool.get_state([2]), [0, 1, 3])
    for _ in range(50):
        obs, *_ = pool.step([1, 1, 1, 1])
        assert all(np.array_equal(obs[0], one) for one in obs)


def test_a_snapshot_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    pool = fastrl.make("MinAtar/Breakout-v1", 3)
    pool.reset(seed=0)
    state = pool.get_state()
    other = fastrl.make("MinAtar/Breakout-v1", 3, sticky_action_prob=0.0)
    other.reset(seed=5)
    before = other.get_state()
    with pytest.raises(ValueError, match=r"sticky_action_prob=0\.1"):
        other.set_state(state)
    for broken in (b"", state[:-1], state + b"x", b"x" * len(state)):
        with pytest.raises(ValueError, match="state"):
            pool.set_state(broken)
    with pytest.raises(ValueError, match="3 environments, env_ids names 2"):
        pool.set_state(state, [0, 1])
    with pytest.raises(ValueError, match="named twice"):
        pool.set_state(state, [0, 1, 1])
    with pytest.raises(ValueError, match="empty"):
        pool.get_state([])
    assert pool.get_state() == state
    assert other.get_state() == before


@given(games, st.integers(1, 8), st.integers(0, 2**32), st.data())
def test_a_masked_reset_touches_the_chosen_only(
    game: str, n: int, seed: int, data: st.DataObject
) -> None:
    pool = fastrl.make(game, n, num_threads=2)
    pool.reset(seed=0)
    play(pool, 7)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    states = [pool.get_state([env]) for env in range(n)]
    before, _ = pool.reset(options={"reset_mask": np.zeros(n, bool)})
    obs, info = pool.reset(seed=seed, options={"reset_mask": mask})
    alone = fastrl.make(game, n)
    fresh, _ = alone.reset(seed=seed)
    for env in range(n):
        if mask[env]:
            assert info["episode_length"][env] == 0
            np.testing.assert_array_equal(obs[env], fresh[env])
        else:
            assert pool.get_state([env]) == states[env]
            np.testing.assert_array_equal(obs[env], before[env])


@settings(max_examples=20)
@given(st.integers(2, 8), st.data())
def test_a_full_reset_drops_what_is_in_flight(n: int, data: st.DataObject) -> None:
    batch_size = data.draw(st.integers(1, n))
    pool = fastrl.make("MinAtar/Breakout-v1", n, num_threads=3, batch_size=batch_size)
    expected, _ = fastrl.make("MinAtar/Breakout-v1", n).reset(seed=9)
    pool.reset(seed=1)
    ids = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True)))
    pool.send(np.zeros(len(ids), int), ids)
    with pytest.raises(ValueError, match=f"{len(ids)} are in flight"):
        pool.reset(options={"reset_mask": np.ones(n, bool)})
    with pytest.raises(ValueError, match="in flight"):
        pool.send([0], ids[:1])
    with pytest.raises(ValueError, match="in flight"):
        pool.get_state(ids)
    obs, _ = pool.reset(seed=9)
    np.testing.assert_array_equal(obs, expected)


def test_an_integer_seed_gives_environment_i_seed_plus_i() -> None:
    pool = fastrl.make("MinAtar/Asterix-v0", 4)
    pool.reset(seed=10)
    expected = play(pool, 60)
    pool.reset(seed=[13, 12, 11, 10])
    first, alone = fastrl.make("MinAtar/Asterix-v0", 1), fastrl.make("MinAtar/Asterix-v0", 1)
    first.set_state(pool.get_state([0]))
    alone.reset(seed=13)
    assert play(first, 60) == play(alone, 60)
    pool.reset(seed=np.arange(10, 14))
    assert play(pool, 60) == expected


def test_pools_without_a_seed_differ() -> None:
    histories = []
    for _ in range(3):
        pool = fastrl.make("MinAtar/Asterix-v0", 8)
        pool.reset()
        histories.append(play(pool, 60))
    assert histories[0] != histories[1] != histories[2] != histories[0]


def test_next_step_autoreset_row_by_row() -> None:
    pool = fastrl.make("Catch-v0", 1)
    pool.reset(seed=0)
    for _ in range(8):
        _, reward, terminated, _, _ = pool.step([1])
        assert not terminated
        assert reward == 0
    obs, reward, terminated, truncated, info = pool.step([1])
    assert terminated
    assert not truncated
    assert abs(reward) == 1
    assert info["game_over"]
    assert obs[0, 0, 9].sum() in (1, 2)  # The ball has landed: the last observation.
    assert (info["episode_return"], info["episode_length"]) == (reward, 9)
    obs, reward, terminated, _, info = pool.step([2])
    assert obs[0, 0, 0].sum() == 1  # A new ball; the action did nothing.
    assert obs[0, 0, 9, 2] == 1
    assert (reward, terminated, info["episode_length"]) == (0, False, 0)
    assert "final_obs" not in info


def test_same_step_autoreset_row_by_row() -> None:
    pool = fastrl.make("Catch-v0", 2, autoreset_mode="SameStep")
    pool.reset(seed=0)
    for _ in range(8):
        assert "final_obs" not in pool.step([1, 1])[-1]
    obs, reward, terminated, _, info = pool.step([1, 1])
    assert terminated.all()
    assert (obs[:, 0, 0].sum(axis=1) == 1).all()
    np.testing.assert_array_equal(info["episode_length"], [0, 0])
    assert (info["final_obs"][:, 0, 9].sum(axis=1) >= 1).all()
    assert info["_final_obs"].all()
    assert info["_final_info"].all()
    np.testing.assert_array_equal(info["final_info"]["episode_return"], reward)
    np.testing.assert_array_equal(info["final_info"]["episode_length"], [9, 9])


def test_disabled_autoreset_refuses_to_step_an_ended_episode() -> None:
    pool = fastrl.make("Catch-v0", 2, autoreset_mode="Disabled")
    pool.reset(seed=0)
    for _ in range(9):
        pool.step([1, 1])
    with pytest.raises(ValueError, match="environment 0 has ended"):
        pool.step([1, 1])
    pool.reset(options={"reset_mask": np.array([True, True])})
    pool.step([1, 1])


def test_a_time_limit_truncates_and_does_not_terminate() -> None:
    pool = fastrl.make("Catch-v0", 3, max_episode_steps=4)
    pool.reset(seed=0)
    for t in range(1, 11):
        _, _, terminated, truncated, info = pool.step([1, 1, 1])
        assert not terminated.any()
        assert truncated.all() == (t % 5 == 4)
        assert info["game_over"].all() == (t % 5 == 4)
    pool = fastrl.make("Catch-v0", 1, max_episode_steps=9)
    pool.reset(seed=0)
    for _ in range(9):
        _, _, terminated, truncated, _ = pool.step([1])
    assert terminated[0]
    assert not truncated[0]


def test_returned_arrays_are_not_written_again_while_held() -> None:
    pool = fastrl.make("MinAtar/Breakout-v1", 16, num_threads=2)
    held = [pool.reset(seed=0)[0]]
    copies = [held[0].copy()]
    for _ in range(50):
        held.append(pool.step(np.ones(16, int))[0])
        copies.append(held[-1].copy())
    for one, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(one, copy)
    pool.close()
    del pool
    np.testing.assert_array_equal(held[7], copies[7])


def test_memory_is_used_again_once_dropped() -> None:
    pool = fastrl.make("Catch-v0", 8)
    pool.reset(seed=0)
    addresses = set()
    for _ in range(100):
        addresses.add(pool.step(np.ones(8, int))[0].ctypes.data)
    assert len(addresses) <= 3


def _numpy(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.zeros(shape, dtype)


def _torch(shape: tuple[int, ...], dtype: Any) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.zeros(shape, dtype))


@pytest.mark.parametrize("new", [_numpy, _torch])
def test_out_is_written_in_place(new: Callable[..., Any]) -> None:
    ours = fastrl.make("MinAtar/Breakout-v1", 5, num_threads=2)
    plain = fastrl.make("MinAtar/Breakout-v1", 5)
    shape = (5, 10, 10, 4)
    out = {
        "obs": new(shape, np.uint8),
        "reward": new((5,), np.float32),
        "terminated": new((5,), np.bool_),
        "truncated": new((5,), np.bool_),
    }
    expected, _ = plain.reset(seed=4)
    ours.reset(seed=4, out=out["obs"])
    np.testing.assert_array_equal(np.asarray(out["obs"]), expected)
    for t in range(60):
        actions = actions_for(np.arange(5), t, 3)
        result = plain.step(actions)
        if t % 2:
            returned = ours.step(actions, out=out)
        else:
            ours.send(actions, np.arange(5), out=out)
            returned = ours.recv()
        for name, wanted, got in zip(out, result, returned, strict=False):
            np.testing.assert_array_equal(np.asarray(out[name]), wanted)
            np.testing.assert_array_equal(got, wanted)
        assert returned[0].ctypes.data == np.asarray(out["obs"]).ctypes.data


def test_out_of_an_asynchronous_recv_is_a_copy_in_the_callers_memory() -> None:
    pool = fastrl.make("Catch-v0", 4, batch_size=2)
    pool.async_reset(seed=0)
    obs = np.zeros((2, 1, 10, 5), np.uint8)
    assert pool.recv(out=obs)[0] is obs
    assert obs.sum() == 4
    with pytest.raises(ValueError, match="batch_size == num_envs"):
        pool.send([0], [0], out=obs)


def test_out_takes_dlpack_and_the_buffer_protocol() -> None:
    class OnlyDLPack:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **kwargs: Any) -> Any:
            return self.array.__dlpack__(**kwargs)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    pool = fastrl.make("Catch-v0", 2)
    memory = np.zeros((2, 1, 10, 5), np.uint8)
    expected, _ = pool.reset(seed=0, out=OnlyDLPack(memory))
    assert memory.sum() == 4
    np.testing.assert_array_equal(memory, expected)
    raw = bytearray(100)
    pool.reset(seed=0, out=memoryview(raw).cast("B", (2, 1, 10, 5)))
    assert bytes(raw) == memory.tobytes()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((2, 1, 10, 4), np.uint8), r"shape \(2, 1, 10, 4\)"),
        (np.zeros((2, 1, 10, 5), np.float32), "float32"),
        (np.zeros((2, 1, 10, 10), np.uint8)[..., ::2], "non-contiguous"),
        (np.broadcast_to(np.uint8(0), (2, 1, 10, 5)), "read-only"),
        ({"observation": np.zeros(2)}, "no field 'observation'"),
        ("text", "got str"),
    ],
)
def test_out_that_does_not_fit_is_refused(out: Any, message: str) -> None:
    pool = fastrl.make("Catch-v0", 2)
    pool.reset(seed=0)
    before = pool.get_state()
    with pytest.raises(ValueError, match=message):
        pool.step([1, 1], out=out)
    assert pool.get_state() == before


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 3, 0], r"actions\[1\] is 3; 'Catch-v0' has actions 0 to 2"),
        ([0, -1, 0], r"actions\[1\] is -1"),
        ([0, 1], "3 actions, got 2"),
        ([0.0, 1.0, 2.0], "integers, got dtype float64"),
        ([[0, 1, 2]], r"shape \(1, 3\)"),
        ([True, False, True], "dtype bool"),
        ("abc", "integers"),
        (None, "integers"),
    ],
)
def test_bad_actions_are_refused_and_step_nothing(actions: Any, message: str) -> None:
    pool = fastrl.make("Catch-v0", 3)
    pool.reset(seed=0)
    before = pool.get_state()
    with pytest.raises(ValueError, match=message):
        pool.step(actions)
    assert pool.get_state() == before


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint64])
def test_actions_may_be_integers_of_any_width(dtype: Any) -> None:
    pool = fastrl.make("Catch-v0", 3)
    pool.reset(seed=0)
    pool.step(np.array([0, 1, 2], dtype))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, r"num_envs must be in \[1, \d+\], got 0"),
        ({"num_envs": 2.5}, "num_envs must be an integer, got 2.5"),
        ({"num_threads": -1}, "num_threads must be in"),
        ({"num_envs": 4, "batch_size": 5}, r"batch_size must be in \[0, 4\], got 5"),
        ({"autoreset_mode": "Never"}, "'NextStep', 'SameStep', 'Disabled'.*got 'Never'"),
        ({"max_episode_steps": -1}, "max_episode_steps=-1: allowed is 0 to"),
        ({"sticky_action_prob": 1.5}, r"sticky_action_prob=1\.5: allowed is 0\.0 to 1\.0"),
        ({"sticky_action_prob": float("nan")}, "sticky_action_prob=nan"),
        ({"difficulty_ramping": 1}, "difficulty_ramping=1: needs a bool"),
        ({"frameskip": 4}, "no option 'frameskip'; it has max_episode_steps, sticky"),
    ],
)
def test_bad_arguments_are_refused_before_a_thread_starts(
    arguments: dict[str, Any], message: str
) -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/task"))
    with pytest.raises(ValueError, match=message):
        fastrl.make("MinAtar/Breakout-v1", **arguments)
    assert (threading.active_count(), len(os.listdir("/proc/self/task"))) == before


def test_an_unknown_id_names_the_closest() -> None:
    with pytest.raises(ValueError, match=r"did you mean.*MinAtar/Breakout-v1"):
        fastrl.make("minatar/breakout-v1")


@pytest.mark.parametrize(
    ("seed", "message"),
    [(-1, "got -1 to"), ([1, 2], "needs 3 values, got 2"), ([0, 1, 2**64], "must be in")],
)
def test_bad_seeds_are_refused(seed: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastrl.make("Catch-v0", 3).reset(seed=seed)


def test_calls_out_of_order_say_what_to_do() -> None:
    pool = fastrl.make("Catch-v0", 4, batch_size=2)
    with pytest.raises(RuntimeError, match="never reset"):
        pool.send([0], [0])
    with pytest.raises(RuntimeError, match="never reset"):
        pool.get_state()
    with pytest.raises(RuntimeError, match=r"wait for ever.*0 are"):
        pool.recv()
    pool.reset(seed=0)
    with pytest.raises(ValueError, match="use send and recv"):
        pool.step([0, 0, 0, 0])
    with pytest.raises(ValueError, match="env_id 4 is outside"):
        pool.send([0], [4])
    with pytest.raises(ValueError, match="as many actions as env_id, got 1 and 2"):
        pool.send([0], [0, 1])
    with pytest.raises(ValueError, match="reset has no option"):
        pool.reset(options={"mask": 1})
    with pytest.raises(ValueError, match="reset_mask must be bool"):
        pool.reset(options={"reset_mask": [1, 0, 0, 0]})
    with pytest.raises(ValueError, match="timeout"):
        pool.recv(timeout=-1)
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.reset()


def test_recv_times_out_when_the_batch_is_not_complete() -> None:
    # One million environments are not stepped in a microsecond.
    pool = fastrl.make("Catch-v0", 2**20, num_threads=1)
    pool.async_reset(seed=0)
    with pytest.raises(TimeoutError, match="waited"):
        pool.recv(timeout=1e-6)
    assert len(pool.recv(timeout=60)[0]) == 2**20


def _wait_status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_pool_from_before_a_fork_is_refused_in_the_child() -> None:
    pool = fastrl.make("Catch-v0", 4, num_threads=2)
    pool.reset(seed=0)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            pool.step([1, 1, 1, 1])
        except RuntimeError as error:
            code = 0 if "after the fork" in str(error) else 2
        pool.close()
        del pool
        gc.collect()
        own = fastrl.make("Catch-v0", 2)
        own.reset(seed=0)
        own.close()
        os._exit(code)
    assert _wait_status(pid) == 0
    pool.step([1, 1, 1, 1])


def test_a_second_thread_is_refused_while_one_waits() -> None:
    pool = fastrl.make("Catch-v0", 2**20, num_threads=1)
    pool.reset(seed=0)
    errors: list[Exception] = []

    def step() -> None:
        for _ in range(20):
            try:
                pool.step(np.ones(2**20, int))
            except RuntimeError as error:
                errors.append(error)

    both = [threading.Thread(target=step) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert errors
    assert all("another thread is inside" in str(error) for error in errors)


@pytest.mark.timeout(30)
def test_ctrl_c_stops_a_waiting_call() -> None:
    program = (
        "import fastrl, numpy as np, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & ignores it\n"
        "pool = fastrl.make('MinAtar/Seaquest-v0', 2**18, num_threads=1)\n"
        "pool.reset(seed=0)\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    while True:\n"
        "        pool.send(np.zeros(2**18, int), np.arange(2**18))\n"
        "        pool.recv()\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=20)[0] == "stopped\n"
    assert child.returncode == 0


def test_a_thousand_pools_leave_no_thread_and_no_memory() -> None:
    def one(i: int) -> None:
        pool = fastrl.make("MinAtar/Breakout-v1", 64, num_threads=4, batch_size=(0, 16)[i % 2])
        pool.async_reset(seed=i)
        if i % 3:
            pool.recv()
        if i % 5:
            pool.close()

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    for i in range(100):
        one(i)
    gc.collect()
    tasks, before = len(os.listdir("/proc/self/task")), resident()
    for i in range(1000):
        one(i)
    gc.collect()
    assert len(os.listdir("/proc/self/task")) <= tasks
    assert resident() - before < 8 * 2**20


def test_an_open_pool_does_not_hold_up_the_end_of_the_program() -> None:
    program = (
        "import fastrl\n"
        "pool = fastrl.make('Catch-v0', 64, num_threads=3, batch_size=8)\n"
        "pool.async_reset(seed=0)\n"
        "keep = pool.recv()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 0
