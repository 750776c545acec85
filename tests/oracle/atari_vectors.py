"""What ale-py answers to fixed questions, as numbers: tests/golden/atari_*.json.

    python tests/oracle/atari_vectors.py          # asks ale-py again and says what changed
    python tests/oracle/atari_vectors.py --write  # and writes the files

The questions (console_spec.md 15, games_format.md 9) are written once, for anything that plays
like ale-py; the tests ask the native console. The files spare a test that knows no ale-py.
"""

import argparse
import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ale_py import ALEInterface
from atari_native import ROOT, build
from lockstep import load_ale, load_native, rom_path

FOLDER = ROOT / "tests/golden"
GAMES = sorted(json.loads((ROOT / "envs/atari/games.json").read_text())["games"])
FRAMES = 2000
"""The longest episode of the second file."""


class Player(Protocol):
    """A loaded game."""

    def act(self, action: int) -> int: ...
    def reset(self, mode: int | None = None, difficulty: int | None = None) -> None: ...
    def ram(self) -> bytes: ...
    def screen(self) -> bytes: ...
    def lives(self) -> int: ...
    def over(self) -> bool: ...
    def frame_numbers(self) -> tuple[int, int]: ...


class Ale:
    def __init__(self, game: str, **settings: Any) -> None:
        self.ale: ALEInterface = load_ale(rom_path(game), **settings)

    def act(self, action: int) -> int:
        return self.ale.act(action)

    def reset(self, mode: int | None = None, difficulty: int | None = None) -> None:
        if mode is not None:
            self.ale.setMode(mode)
        if difficulty is not None:
            self.ale.setDifficulty(difficulty)
        self.ale.reset_game()

    def ram(self) -> bytes:
        return self.ale.getRAM().tobytes()

    def screen(self) -> bytes:
        return self.ale.getScreen().tobytes()

    def lives(self) -> int:
        return self.ale.lives()

    def over(self) -> bool:
        return self.ale.game_over()

    def frame_numbers(self) -> tuple[int, int]:
        return self.ale.getFrameNumber(), self.ale.getEpisodeFrameNumber()


class Native:
    def __init__(self, game: str, machine: str = "plain", **settings: Any) -> None:
        self.session = load_native(machine, game, **settings)

    def act(self, action: int) -> int:
        return self.session.act(action)

    def reset(self, mode: int | None = None, difficulty: int | None = None) -> None:
        if mode is not None:
            self.session.mode = mode
        if difficulty is not None:
            self.session.difficulty = difficulty
        self.session.reset()

    def ram(self) -> bytes:
        return self.session.ram().tobytes()

    def screen(self) -> bytes:
        return self.session.screen().tobytes()

    def lives(self) -> int:
        return self.session.counts()[0]

    def over(self) -> bool:
        return self.session.counts()[1] or self.session.counts()[2]

    def frame_numbers(self) -> tuple[int, int]:
        return self.session.counts()[3:]


Load = Callable[..., Player]


def golden_rows(load: Load, game: str, num_frames: int = 600) -> dict[str, Any]:
    """Memory after load, and a row of numbers every 60 frames."""
    player = load(game, random_seed=123, repeat_action_probability=0.25)
    legal = build().games[game]["legal_actions"]
    x, action, total, resets = 12345, 0, 0, 0

    def row(frame: int) -> list[int]:
        sums = zlib.crc32(player.ram()), zlib.crc32(player.screen())
        return [frame, *sums, total, player.lives(), *player.frame_numbers(), resets]

    answer = {"ram_after_load": player.ram().hex(), "rows": [row(0)]}
    for frame in range(1, num_frames + 1):
        if frame % 5 == 1:
            x = (x * 1103515245 + 12345) & 0x7FFFFFFF
            action = legal[(x >> 16) % len(legal)]
        total += player.act(action)
        if frame % 60 == 0:
            answer["rows"].append(row(frame))
        if player.over():
            resets += 1
            player.reset()
    return answer


def rules_vectors(load: Load, game: str) -> dict[str, Any]:
    """Load, an episode, every mode and every difficulty, without sticky actions."""
    facts = build().games[game]
    settings = {"random_seed": 0, "repeat_action_probability": 0.0}

    def md5(player: Player) -> str:
        return hashlib.md5(player.ram()).hexdigest()

    def begin(player: Player) -> dict[str, Any]:
        return {
            "ram_md5": md5(player),
            "episode_frame": player.frame_numbers()[1],
            "lives": player.lives(),
            "game_over": player.over(),
        }

    def play(player: Player) -> dict[str, Any]:
        minimal = facts["minimal_actions"]
        rewards: list[list[int]] = []
        sums: dict[str, str] = {}
        frame = 0
        while frame < FRAMES and not player.over():
            step = frame * frame // 61 + frame // 9 * 7 + frame // 37
            reward = player.act(minimal[step % len(minimal)])
            frame += 1
            if reward:
                rewards.append([frame, reward])
            if frame in (1, 60, 300, 1000, 2000):
                sums[str(frame)] = md5(player)
        return {
            "frames": frame,
            "game_over": player.over(),
            "return": sum(reward for _, reward in rewards),
            "final_lives": player.lives(),
            "ram_md5_after": sums,
            "rewards": rewards[:40],
            "n_rewards": len(rewards),
        }

    def chosen(mode: int, difficulty: int | None = None) -> Player:
        player = load(game, **settings)
        player.reset(mode, difficulty)
        return player

    def difficulty_sums(difficulty: int) -> dict[str, Any]:
        player = chosen(facts["modes"][0], difficulty)
        first = {key: begin(player)[key] for key in ("episode_frame", "ram_md5")}
        for _ in range(30):
            player.act(facts["minimal_actions"][-1])
        return first | {"ram_md5_after_30_frames_of_last_minimal_action": md5(player)}

    player = load(game, **settings)
    return {
        "load": begin(player),
        "episode": play(player),
        "modes": {str(mode): begin(chosen(mode)) for mode in facts["modes"]},
        "difficulties": {str(d): difficulty_sums(d) for d in facts["difficulties"]},
    }


FILES: dict[str, Callable[[Load, str], dict[str, Any]]] = {
    "atari_console.json": golden_rows,
    "atari_rules.json": rules_vectors,
}


def read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text())


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """Where two answers differ, a line each."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from differences(expected.get(key), found.get(key), f"{where} {key}")
    elif expected != found:
        yield f"{where.strip()}: {found}, not {expected}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    changed = False
    for name, ask in FILES.items():
        answers = {game: ask(Ale, game) for game in GAMES}
        path = FOLDER / name
        for line in differences(read(name) if path.exists() else {}, answers):
            print(f"{name}: {line}"[:200])
            changed = True
        if args.write:
            lines = (
                f'"{game}":{json.dumps(answers[game], separators=(",", ":"))}' for game in GAMES
            )
            path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return int(changed and not args.write)


if __name__ == "__main__":
    sys.exit(main())
