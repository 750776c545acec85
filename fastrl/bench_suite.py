"""Many games, the same contenders: `fastrl bench pool --suite`.

For each game and thread count the pool, the pool on RAM observations, ale_py.AtariVectorEnv and
EnvPool take turns; what counts is the ratio to the faster peer, as a geometric mean over the games.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from fastrl.bench import FRAMESKIP, BenchReport, Rate, Table, take_turns
from fastrl.cpus import available_cpus
from fastrl.evaluate import human_scores
from fastrl.machine import provenance
from fastrl.peers import Contender, Ours, peers_of

# Games of every cartridge scheme but the rarest, with few and with many objects on the screen.
ATARI16 = (
    "Pong", "Breakout", "SpaceInvaders", "Qbert", "MsPacman", "Seaquest", "BeamRider", "Enduro",
    "Freeway", "Asteroids", "Boxing", "Pitfall", "Riverraid", "MontezumaRevenge", "UpNDown",
    "StarGunner",
)  # fmt: skip
OURS = "fastrl"
RAM = "fastrl, RAM"


def suites() -> Mapping[str, tuple[str, ...]]:
    """The games of each suite. atari57: those with published human scores."""
    return {"atari16": ATARI16, "atari57": tuple(sorted(human_scores()))}


def bench_suite(
    suite: str,
    *,
    num_envs: int = 0,
    num_threads: Sequence[int] = (),
    seconds: float = 1.0,
    repeats: int = 5,
    command: str,
) -> BenchReport:
    """Steps every game of a suite with random actions, on our pool and on its peers.

    Args:
        suite: A key of `suites()`.
        num_envs: Environments of each contender; 0 takes 64.
        num_threads: Thread counts, the same for all contenders; empty takes one and all CPUs.
        seconds: Length of one measurement.
        repeats: Measurements of each contender.
        command: The command line, for the record.

    Raises:
        ValueError: The suite is unknown, or a number is out of range.
    """
    if suite not in suites():
        raise ValueError(f"suite must be one of {', '.join(suites())}, got {suite!r}")
    if num_envs < 0 or repeats < 1 or seconds <= 0 or min(num_threads, default=1) < 1:
        raise ValueError(
            "bench pool needs num_envs >= 0, num_threads >= 1, seconds > 0 and repeats >= 1, got "
            f"{num_envs=} num_threads={tuple(num_threads)} {seconds=} {repeats=}"
        )
    num_envs = num_envs or 64
    threads = sorted(set(num_threads)) or sorted({1, min(available_cpus(), num_envs)})
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for game in suites()[suite]:
        for count in threads:
            row, missing = _measure(f"ALE/{game}-v5", num_envs, count, seconds, repeats)
            rows.append({"game": game, "threads": count, **row})
    means = [_means(rows, count) for count in threads]
    return BenchReport(
        what="pool",
        origin=provenance(command),
        results={
            "env_id": suite,
            "unit": "agent steps per second",
            "frames_per_step": FRAMESKIP,
            "num_envs": num_envs,
            "seconds": seconds,
            "repeats": repeats,
            "games": rows,
            "geometric_means": means,
            "peers_not_installed": missing,
        },
        tables=[_table(suite, rows, mean) for mean in means],
    )


def _measure(
    env_id: str, num_envs: int, threads: int, seconds: float, repeats: int
) -> tuple[dict[str, Any], list[str]]:
    with ExitStack() as stack:
        contenders: list[Contender] = [
            Ours(env_id, num_envs, threads, name=OURS),
            Ours(env_id, num_envs, threads, name=RAM, obs_type="ram"),
        ]
        peers, missing = peers_of(env_id, num_envs, threads, own_backend=False)
        contenders += peers
        for contender in contenders:
            stack.callback(contender.close)
        rates = take_turns(contenders, seconds=seconds, repeats=repeats)
    ours, ram, *others = rates
    row: dict[str, Any] = {"rates": [rate.to_dict() for rate in rates]}
    if others:
        best = max(others, key=lambda rate: rate.median)
        row |= {"best_peer": best.name, "ratio": _ratio(ours, best), "ram_ratio": _ratio(ram, best)}
        row["ratios"] = {rate.name: _ratio(ours, rate) for rate in others}
    return row, missing


def _ratio(ours: Rate, peer: Rate) -> dict[str, float]:
    """The median over the rounds, in each of which both had their turn, and its range."""
    rounds = [a / b for a, b in zip(ours.samples, peer.samples, strict=True)]
    return {"median": statistics.median(rounds), "min": min(rounds), "max": max(rounds)}


def _means(rows: list[dict[str, Any]], threads: int) -> dict[str, Any]:
    chosen = [row for row in rows if row["threads"] == threads and "ratio" in row]
    mean: dict[str, Any] = {"threads": threads}
    if chosen:
        for name in ("ratio", "ram_ratio"):
            mean[name] = statistics.geometric_mean(row[name]["median"] for row in chosen)
        mean["lowest"] = min(row["ratio"]["median"] for row in chosen)
    return mean


def _table(suite: str, rows: list[dict[str, Any]], mean: dict[str, Any]) -> Table:
    chosen = [row for row in rows if row["threads"] == mean["threads"]]
    names = [rate["name"] for rate in chosen[0]["rates"]]
    header = ("game", *(f"{name}, steps/s" for name in names))
    lines = [
        (row["game"], *(f"{rate['steps_per_second']:,.0f}" for rate in row["rates"]))
        for row in chosen
    ]
    if "ratio" in mean:
        peers = list(chosen[0]["ratios"])
        header = (*header, *(f"fastrl / {peer}" for peer in peers))
        header = (*header, "fastrl / faster peer", "range", "RAM / faster peer")
        lines = [
            (
                *line,
                *(f"{row['ratios'][peer]['median']:.2f}" for peer in peers),
                f"{row['ratio']['median']:.2f}",
                f"{row['ratio']['min']:.2f}-{row['ratio']['max']:.2f}",
                f"{row['ram_ratio']['median']:.2f}",
            )
            for line, row in zip(lines, chosen, strict=True)
        ]
        blanks = ("",) * (len(names) + len(peers))
        lines.append(
            ("geometric mean", *blanks, f"{mean['ratio']:.2f}", "", f"{mean['ram_ratio']:.2f}")
        )
    count = mean["threads"]
    threads = f"{count} thread{'s' * (count > 1)}"
    title = f"{suite}, {threads}, random actions, a step is {FRAMESKIP} frames"
    return Table(title, header, lines)
