"""The proof that the native console is exact: every game and mode in lockstep with ale-py.

    python tests/oracle/atari_exactness.py --jobs 2            # plays what is not recorded yet
    python tests/oracle/atari_exactness.py --table-only        # writes the table from the records

A queue that can be killed and started again: every finished check is a line in the file of
records, under a hash of the console's sources and ale-py's version (records.py). Other tests may
add records of their own columns; the table has them all.
"""

import argparse
import hashlib
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import records
from atari_native import MACHINES, ROOT, build
from atari_vectors import FILES, GAMES, Native, differences, read
from lockstep import Pair, held_actions, load_native

FRAMES = 20_000
"""Frames of every mode."""
DIFFICULTY_FRAMES = 2_000
SNAPSHOT_ACTS = 1_000
KINDS = ("mode", "sticky", "difficulty", "vectors", "snapshot")
"""The checks made here."""
COLUMNS = (*KINDS, "pool")
"""Columns of the table that are always there; records of other checks follow."""


@dataclass(frozen=True)
class Check:
    """One line of the records. Everything random in it comes from its name."""

    machine: str
    game: str
    kind: str
    detail: str
    mode: int = 0
    difficulty: int = 0
    sticky: float = 0.25
    frames: int = 0

    @property
    def seed(self) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.game} {self.detail}".encode()).digest()[:4])

    @property
    def name(self) -> tuple[str, ...]:
        return records.name_of(self.record(ok=True, frames=0))

    def record(self, *, ok: bool, frames: int, note: str = "") -> records.Record:
        return records.make(
            self.game, self.kind, self.detail, ok=ok, frames=frames, note=note, machine=self.machine
        )

    def run(self) -> records.Record:
        """Plays it, up to the first difference."""
        match self.kind:
            case "snapshot":
                return self._snapshot()
            case "vectors":
                return self._vectors()
            case _:
                return self._lockstep()

    def _lockstep(self) -> records.Record:
        played = 0
        try:
            pair = Pair(self.game, machine=self.machine, repeat_action_probability=self.sticky)
            if self.mode != build().games[self.game]["modes"][0] or self.difficulty != 0:
                pair.set_mode(self.mode)
                pair.set_difficulty(self.difficulty)
                pair.reset()
            for action in held_actions(self.seed, self.frames):
                pair.act(action)
                played += 1
                if pair.over:
                    pair.reset()
        except (AssertionError, RuntimeError) as difference:
            return self.record(ok=False, frames=played, note=str(difference))
        return self.record(ok=True, frames=played)

    def _snapshot(self) -> records.Record:
        """Save, act, restore, act: the same bytes; and the same in another place."""
        session = load_native(self.machine, self.game, random_seed=self.seed % 1000)
        for action in held_actions(self.seed, 300):
            session.act(action)
        saved = session.save()

        def play(session: Any) -> str:
            seen = hashlib.sha256()
            for action in held_actions(self.seed + 1, self.frames):
                reward = session.act(action)
                seen.update(f"{reward} {session.counts()}".encode())
                seen.update(session.ram())
                seen.update(session.screen())
                if session.counts()[1]:
                    session.reset()
            return seen.hexdigest()

        first = play(session)
        session.restore(saved)
        again = play(session)
        other = load_native(self.machine, self.game)
        other.restore(saved)
        ok = first == again == play(other)
        return self.record(ok=ok, frames=3 * self.frames, note="" if ok else "plays on otherwise")

    def _vectors(self) -> records.Record:
        def load(game: str, **settings: Any) -> Native:
            return Native(game, self.machine, **settings)

        expected = read(self.detail)[self.game]
        found = json.loads(json.dumps(FILES[self.detail](load, self.game)))
        wrong = list(differences(expected, found))
        frames = 600 if "rows" in expected else expected["episode"]["frames"]
        return self.record(ok=not wrong, frames=frames, note="; ".join(wrong[:3]))


def checks_of(machine: str, game: str, frames: int = FRAMES) -> Iterator[Check]:
    """All checks of a game. Sticky actions are on in every other mode; the default has both."""
    facts = build().games[game]
    parity = GAMES.index(game)
    for i, mode in enumerate(facts["modes"]):
        sticky = 0.25 if (i + parity) % 2 == 0 else 0.0
        detail = f"mode {mode}, sticky {sticky}, {frames} frames"
        yield Check(machine, game, "mode", detail, mode=mode, sticky=sticky, frames=frames)
    mode = facts["modes"][0]
    sticky = 0.25 if parity % 2 else 0.0
    detail = f"mode {mode}, sticky {sticky}, {frames} frames"
    yield Check(machine, game, "sticky", detail, mode=mode, sticky=sticky, frames=frames)
    for difficulty in facts["difficulties"]:
        if difficulty != 0:
            shorter = min(frames, DIFFICULTY_FRAMES)
            detail = f"difficulty {difficulty}, {shorter} frames"
            yield Check(
                machine, game, "difficulty", detail, mode, difficulty=difficulty, frames=shorter
            )
    yield Check(machine, game, "snapshot", f"{SNAPSHOT_ACTS} acts", frames=SNAPSHOT_ACTS)
    for name in FILES:
        yield Check(machine, game, "vectors", name)


def all_checks(machine: str, games: list[str], frames: int) -> list[Check]:
    """Those of all games, round and round: a queue cut short has something of every game."""
    rounds = itertools.zip_longest(*(checks_of(machine, game, frames) for game in games))
    return [check for one_round in rounds for check in one_round if check is not None]


def run_game(machine: str, game: str, frames: int = FRAMES) -> list[str]:
    """Plays what is not recorded yet, and records it if asked to; what went wrong."""
    path = Path(os.environ["FASTRL_RECORDS"]) if "FASTRL_RECORDS" in os.environ else None
    finished = records.read(path) if path else {}
    failed = []
    for check in checks_of(machine, game, frames):
        record = finished.get(check.name)
        if record is None:
            record = check.run()
            if path:
                records.append(path, record)
        if not record["ok"]:
            failed.append(f"{record['check']}, {record['detail']}: {record['note']}")
    return failed


def work_off(path: Path, checks: list[Check], jobs: int) -> None:
    """Plays the checks that have no record yet, `jobs` at a time."""
    finished = records.read(path)
    waiting = [check for check in checks if check.name not in finished]
    say(f"{len(checks) - len(waiting)} of {len(checks)} checks are on record in {path}")
    start, frames = time.perf_counter(), 0
    with multiprocessing.Pool(jobs, maxtasksperchild=50) as pool:
        for i, record in enumerate(pool.imap_unordered(Check.run, waiting), start=1):
            records.append(path, record)
            frames += record["frames"]
            if not record["ok"]:
                say(f"DIFFERENT: {record['game']} {record['detail']}: {record['note']}")
            if i % 25 == 0 or i == len(waiting):
                rate = frames / (time.perf_counter() - start)
                say(f"{i} of {len(waiting)}, {frames:,} frames, {rate:,.0f} a second")


def table(found: list[records.Record], origin: dict[str, Any], machine: str) -> list[str]:
    """Markdown: a row a game, a column a kind of check."""
    from fastrl.machine import describe

    by_cell: dict[tuple[str, str], list[records.Record]] = defaultdict(list)
    for record in found:
        by_cell[record["game"], record["check"]].append(record)
    planned = Counter((c.game, c.kind) for game in GAMES for c in checks_of(machine, game))
    columns = [*COLUMNS, *sorted({check for _, check in by_cell} - set(COLUMNS))]

    def passed(game: str, column: str) -> int:
        return sum(record["ok"] for record in by_cell[game, column])

    def total(game: str, column: str) -> int:
        return max(planned[game, column], len(by_cell[game, column]))

    def frames(game: str) -> int:
        return sum(record["frames"] for column in columns for record in by_cell[game, column])

    def exact(game: str) -> bool:
        return all(passed(game, column) == total(game, column) for column in columns)

    def row(name: str, games: list[str], verdict: str) -> str:
        cells = []
        for column in columns:
            of = sum(total(game, column) for game in games)
            cells.append(f"{sum(passed(game, column) for game in games)}/{of}" if of else "-")
        return f"| {name} | {' | '.join(cells)} | {sum(map(frames, games)):,} | {verdict} |"

    num_exact = sum(map(exact, GAMES))
    failed = [record for record in found if not record["ok"]]
    differences = [f"- {r['game']}, {r['check']}, {r['detail']}: {r['note']}" for r in failed]
    return [
        f"# Is the native Atari 2600 ale-py's? The {machine} console",
        "",
        *describe(origin),
        f"- state of the console's sources: {records.state_of_sources()}",
        "",
        f"**{num_exact} of {len(GAMES)} games are exact in every check**: "
        f"{len(found) - len(failed)} of {sum(total(g, c) for g in GAMES for c in columns)} checks "
        f"passed, {len(failed)} failed; {sum(map(frames, GAMES)):,} frames compared.",
        "",
        f"- mode: every mode of the game, default difficulty, {FRAMES:,} frames of random actions "
        "out of all 18, in lockstep with `ale_py.ALEInterface`: RAM, screen, reward, lives, "
        "terminal and frame counters after every frame; nothing is synchronised. Sticky actions "
        "(0.25) in every other mode.",
        "- sticky: the default mode again, with sticky actions the other way round.",
        f"- difficulty: every other difficulty, {DIFFICULTY_FRAMES:,} frames, as mode.",
        "- vectors: `tests/golden/atari_console.json` and `atari_rules.json`.",
        f"- snapshot: save, {SNAPSHOT_ACTS:,} acts, restore, {SNAPSHOT_ACTS:,} acts.",
        "- pool: the slow tests of `tests/oracle/test_atari_pool.py`: 1,000 steps with each of "
        "three sets of options against `ale_py.AtariVectorEnv`, and snapshots; `-`: no record.",
        "",
        "| game | " + " | ".join(columns) + " | frames | exact |",
        "|---" + "|---:" * (len(columns) + 1) + "|---|",
        *(row(game, [game], "yes" if exact(game) else "no") for game in GAMES),
        row("all", GAMES, str(num_exact)),
        "",
        "## First differences",
        "",
        *(differences or ["None."]),
        "",
    ]


def write_table(path: Path, out: Path, machine: str) -> bool:
    """The Markdown and the JSON. True if every check there is passed."""
    sys.path.insert(0, str(ROOT))
    from fastrl.machine import hardware_slug, provenance

    key = records.state_of_sources()
    checks = {check.name for check in all_checks(machine, GAMES, FRAMES)}
    found = sorted(
        (
            record
            for name, record in records.read(path).items()
            if (record["key"], record["machine"]) == (key, machine)
            and (name in checks or record["check"] not in KINDS)
        ),
        key=records.name_of,
    )
    origin = provenance(f"python {' '.join(sys.argv)}")
    stem = f"atari-exactness-{machine}_{hardware_slug(origin['hardware'])}_{origin['date']}"
    lines = table(found, origin, machine)
    (out / f"{stem}.md").write_text("\n".join(lines), encoding="utf-8")
    body = ",\n".join(json.dumps(record) for record in found)
    text = f'{{"origin": {json.dumps(origin)},\n"records": [\n{body}\n]}}\n'
    (out / f"{stem}.json").write_text(text, encoding="utf-8")
    verdict = next(line for line in lines if line.startswith("**"))
    say(f"{out / stem}.md: {verdict}")
    return verdict.startswith(f"**{len(GAMES)} of")


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", default="translated", choices=MACHINES)
    parser.add_argument("--games", nargs="+", default=GAMES, choices=GAMES, metavar="GAME")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of every mode")
    parser.add_argument("--jobs", type=int, default=2, help="checks at a time")
    parser.add_argument("--records", type=Path, default=ROOT / "runs/atari-exactness.jsonl")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--table-only", action="store_true", help="plays nothing")
    args = parser.parse_args()
    args.records.parent.mkdir(parents=True, exist_ok=True)
    if not args.table_only:
        work_off(args.records, all_checks(args.machine, args.games, args.frames), args.jobs)
    return 0 if write_table(args.records, args.out, args.machine) else 1


if __name__ == "__main__":
    sys.exit(main())
