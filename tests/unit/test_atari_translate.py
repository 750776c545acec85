"""Translated cartridges in a pool: the bytes of interpreted ones, safe pages, verified on request.

What machine code does is held to ale-py and to the plain console in tests/oracle/test_atari.py.
"""

import struct
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

import fastrl

PONG = "ALE/Pong-v5"


def act(pool: fastrl.EnvPool, num_steps: int) -> list[NDArray[np.uint8]]:
    """What the agents see while they do anything."""
    draws = np.random.default_rng(7)
    actions = draws.integers(pool.single_action_space.n, size=(num_steps, pool.num_envs))
    return [np.asarray(pool.step(each)[0]).copy() for each in actions]


@pytest.mark.parametrize("obs_type", ["screen", "ram"])
@pytest.mark.parametrize("game", ["Pong", "Breakout", "MontezumaRevenge", "UpNDown", "Pitfall2"])
def test_translation_changes_no_byte(game: str, obs_type: str) -> None:
    pools = [
        fastrl.make(f"ALE/{game}-v5", 2, translate=translate, obs_type=obs_type)
        for translate in ("on", "off")
    ]
    translated, interpreted = pools
    for pool in pools:
        pool.reset(seed=3)
    np.testing.assert_array_equal(act(translated, 60), act(interpreted, 60))
    interpreted.set_state(translated.get_state())
    np.testing.assert_array_equal(act(translated, 20), act(interpreted, 20))


def test_no_page_is_writable_and_executable() -> None:
    code = f"""
import fastrl
def pages():
    lines = [line.split() for line in open("/proc/self/maps")]
    return [line[1] for line in lines if len(line) == 5]  # Of no file.
before = pages()
pool = fastrl.make({PONG!r}, 2, translate="off")
pool.reset(seed=1)
assert "r-xp" not in pages(), pages()
pool = fastrl.make({PONG!r}, 2)
pool.reset(seed=1)
assert "r-xp" in pages(), pages()
assert not any("w" in page and "x" in page for page in pages()), pages()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def fnv1a(body: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in body:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def with_byte(state: bytes, at: int, value: int) -> bytes:
    """A snapshot in which a byte is another one. The head's last 8 bytes are the checksum."""
    head, body = state[:24], bytearray(state[32:])
    body[at - 32] = value
    return head + struct.pack("<Q", fnv1a(body)) + bytes(body)


def test_verification_raises_where_the_consoles_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRL_VERIFY", "1")
    pool = fastrl.make(PONG, 2, batch_size=1, num_threads=1, obs_type="ram")
    pool.async_reset(seed=1)
    for _ in range(20):
        memory, *_, info = pool.recv()
        pool.send([0], info["env_id"])
    memory, *_, info = pool.recv()
    env = info["env_id"]
    state = pool.get_state(env)
    score = 14
    damaged = with_byte(state, state.index(memory.tobytes()) + score, 7)
    pool.recv()

    pool.set_state(state, env)
    pool.send([0], env)
    pool.recv()
    pool.set_state(damaged, env)
    pool.send([0], env)
    with pytest.raises(RuntimeError, match=r"pong, frame \d+ .*RAM\[14\] is 7, but .* console 0"):
        pool.recv()


def test_verification_is_asked_for_by_a_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRL_VERIFY", "yes")
    with pytest.raises(ValueError, match="FASTRL_VERIFY='yes': allowed is 0 or 1"):
        fastrl.make(PONG)


@pytest.mark.parametrize("game", ["Pong", "Breakout", "MontezumaRevenge"])
def test_verification_changes_no_byte(game: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[NDArray[np.uint8]]] = []
    for verify in ("0", "1"):
        monkeypatch.setenv("FASTRL_VERIFY", verify)
        pool = fastrl.make(f"ALE/{game}-v5", 2)
        pool.reset(seed=5)
        seen.append(act(pool, 60))
    np.testing.assert_array_equal(*seen)
