"""What was compared and how it went: one JSON line a check, from which the table is made.

Any test may call `record`. Nothing is written unless FASTRL_RECORDS names a file.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("envs/atari/*.h", "envs/atari/*.json", "envs/atari/*.py", "csrc/core/*.h")

Record = dict[str, Any]


@cache
def state_of_sources() -> str:
    """A hash of what decides the result: the console's sources and the version of ale-py."""
    digest = hashlib.sha256(f"ale-py {version('ale-py')}".encode())
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def make(
    game: str,
    check: str,
    detail: str,
    *,
    ok: bool,
    frames: int,
    note: str = "",
    machine: str = "translated",
) -> Record:
    """One record.

    Args:
        game: As games.json calls it.
        check: A column of the table: "mode", "difficulty", "snapshot", "vectors", "pool", ..
        detail: What tells this check from the others of the game and column.
        ok: Whether every byte agreed.
        frames: How many frames were compared; agent steps for the pool.
        note: If not `ok`, the first difference.
        machine: The console: "plain", "fast" or "translated".
    """
    return {
        "key": state_of_sources(),
        "machine": machine,
        "game": game,
        "check": check,
        "detail": detail,
        "ok": ok,
        "frames": frames,
        "note": note,
    }


def name_of(record: Record) -> tuple[str, ...]:
    """What makes two records the same check, done twice."""
    return tuple(record[field] for field in ("key", "machine", "game", "check", "detail"))


def append(path: Path, record: Record) -> None:
    """Adds a line to the file; a line is written whole, so that processes may share the file."""
    line = json.dumps(record) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def record(game: str, check: str, detail: str, *, ok: bool, frames: int, **more: Any) -> None:
    """Writes down a check in the file that FASTRL_RECORDS names, if it names one."""
    path = os.environ.get("FASTRL_RECORDS")
    if path:
        append(Path(path), make(game, check, detail, ok=ok, frames=frames, **more))


@contextmanager
def recorded(game: str, check: str, detail: str, *, frames: int) -> Iterator[None]:
    """Writes down the check that the block makes, when it has ended or failed."""
    try:
        yield
    except AssertionError as error:
        record(game, check, detail, ok=False, frames=0, note=str(error))
        raise
    record(game, check, detail, ok=True, frames=frames)


def read(path: Path) -> dict[tuple[str, ...], Record]:
    """The last record of every check."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return {name_of(record): record for record in found}
