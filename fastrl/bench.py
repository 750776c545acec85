"""Speed, measured beside the peers: `fastrl bench pool|train|kernels`.

Contenders take turns (A B C, A B C, ...), so that whatever else the machine does hits all of them.
A figure is the median over repeats, given with the smallest and the largest; ratios are of medians,
and their range is that of the single rounds. Nothing here judges: timings on a shared machine are
reported, not tested.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fastrl.cpus import available_cpus
from fastrl.machine import describe, hardware_slug, provenance
from fastrl.peers import Contender, Ours, OursAsync, peers_of

WARM_UP_SECONDS = 0.3
FRAMESKIP = 4
"""Emulator frames per agent step of the Atari contenders."""
OVERHEAD_ENVS = 64
"""The synchronisation share is always shown for this many environments too."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for the terminal and for Markdown."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """The table as Markdown, its title above it."""
        lines = [self.header, ("---",) + ("---:",) * (len(self.header) - 1), *self.rows]
        return "\n".join([f"**{self.title}**", "", *("| " + " | ".join(x) + " |" for x in lines)])


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchReport:
    """What one benchmark measured, and where."""

    what: str
    """pool, train or kernels."""
    origin: dict[str, Any]
    """`fastrl.machine.provenance`."""
    results: dict[str, Any]
    """Every number, as JSON holds it."""
    tables: list[Table]

    def to_json(self) -> str:
        """Everything, as one JSON object."""
        return json.dumps({"what": self.what, **self.origin, **self.results}, indent=1) + "\n"

    def write_markdown(self, out_dir: Path) -> Path:
        """Writes `<what>[-<env>]_<hardware>_<date>.md`; returns its path."""
        out_dir.mkdir(parents=True, exist_ok=True)
        env = str(self.results.get("env_id", "")).lower().replace("/", "-")
        what = f"{self.what}-{env}" if env else self.what
        name = f"{what}_{hardware_slug(self.origin['hardware'])}_{self.origin['date']}.md"
        parts = [f"# fastrl bench {self.what}", "\n".join(describe(self.origin))]
        parts += [table.markdown() for table in self.tables]
        (out_dir / name).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        return out_dir / name


@dataclass(frozen=True, slots=True)
class Rate:
    """Agent steps per second of one contender."""

    name: str
    threads: int
    num_envs: int
    samples: list[float] = field(default_factory=list[float])

    @property
    def median(self) -> float:
        """Median over the repeats."""
        return statistics.median(self.samples)

    @property
    def cores(self) -> int:
        """Cores that its threads can occupy."""
        return min(self.threads, available_cpus())

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "name": self.name,
            "threads": self.threads,
            "num_envs": self.num_envs,
            "steps_per_second": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "samples": self.samples,
        }


def steps_per_second(contender: Contender, seconds: float) -> float:
    """Steps for at least `seconds` and returns agent steps per second."""
    return contender.num_envs * calls_per_second(contender.step, seconds)


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """Calls for at least `seconds`."""
    calls, start = 0, time.perf_counter()
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return calls / elapsed


def take_turns(contenders: Sequence[Contender], *, seconds: float, repeats: int) -> list[Rate]:
    """Warms every contender up, then measures them in rounds."""
    rates = [Rate(x.name, x.threads, x.num_envs) for x in contenders]
    for contender in contenders:
        steps_per_second(contender, min(WARM_UP_SECONDS, seconds))
    for _ in range(repeats):
        for contender, rate in zip(contenders, rates, strict=True):
            rate.samples.append(steps_per_second(contender, seconds))
    return rates


def compare(ours: Rate, peer: Rate) -> dict[str, Any]:
    """How many times faster ours is, as a whole and per core used."""
    rounds = [a / b for a, b in zip(ours.samples, peer.samples, strict=True)]
    ratio = ours.median / peer.median
    return {
        "ours": ours.name,
        "peer": peer.name,
        "ratio": ratio,
        "ratio_min": min(rounds),
        "ratio_max": max(rounds),
        "ratio_per_core": ratio * peer.cores / ours.cores,
    }


def default_threads() -> tuple[int, ...]:
    """1, 2, 4, ... up to four times the usable CPUs."""
    limit = 4 * available_cpus()
    return (*(2**k for k in range(limit.bit_length()) if 2**k < limit), limit)


def bench_pool(
    env_id: str = "MinAtar/Breakout-v1",
    *,
    num_envs: int = 0,
    num_threads: Sequence[int] = (),
    seconds: float = 1.0,
    repeats: int = 5,
    command: str,
) -> BenchReport:
    """Steps pools and peers with random actions.

    Args:
        env_id: What to step.
        num_envs: Environments per contender; 0 takes 1024, or 64 for ALE.
        num_threads: Thread counts of the scaling table; empty takes `default_threads()`.
        seconds: Length of one measurement.
        repeats: Measurements of each contender.
        command: The command line, for the record.

    Raises:
        ValueError: The id is unknown, or a number is out of range.
    """
    import fastrl

    fastrl.spec(env_id)
    if num_envs < 0 or repeats < 1 or seconds <= 0 or min(num_threads, default=1) < 1:
        raise ValueError(
            "bench pool needs num_envs >= 0, num_threads >= 1, seconds > 0 and repeats >= 1, got "
            f"{num_envs=} num_threads={tuple(num_threads)} {seconds=} {repeats=}"
        )
    is_ale = env_id.startswith("ALE/")
    num_envs = num_envs or (OVERHEAD_ENVS if is_ale else 1024)
    scaling_threads = [n for n in num_threads or default_threads() if n <= num_envs]
    if not scaling_threads:
        raise ValueError(
            f"num_threads must be at most num_envs = {num_envs}, got {tuple(num_threads)}"
        )

    rates, missing = _measure_peers(env_id, num_envs, seconds, repeats)
    ours = [rate for rate in rates if rate.name.startswith("fastrl")]
    peers = [rate for rate in rates if not rate.name.startswith("fastrl")]
    ratios = [compare(our, peer) for our in ours for peer in peers]
    scaling = _measure_scaling(env_id, num_envs, scaling_threads, seconds, repeats)
    asynchronous = _measure_asynchronous(env_id, num_envs, seconds, repeats)
    sizes = sorted({min(OVERHEAD_ENVS, num_envs), num_envs})
    overheads = [
        measure_overhead(env_id, size, threads, seconds)
        for size in sizes
        for threads in sorted({1, min(available_cpus(), size)})
    ]

    return BenchReport(
        what="pool",
        origin=provenance(command),
        results={
            "env_id": env_id,
            "unit": "agent steps per second",
            "frames_per_step": FRAMESKIP if is_ale else 1,
            "num_envs": num_envs,
            "seconds": seconds,
            "repeats": repeats,
            "rates": [rate.to_dict() for rate in rates],
            "ratios": ratios,
            "peers_not_installed": missing,
            "scaling": scaling,
            "asynchronous": asynchronous,
            "overhead": overheads,
        },
        tables=[
            _rates_table(env_id, rates, FRAMESKIP if is_ale else 0),
            *([_ratios_table(ratios)] if ratios else []),
            _scaling_table(env_id, scaling),
            _ratios_table([asynchronous], "Asynchronous mode"),
            _overhead_table(overheads),
        ],
    )


def measure_overhead(
    env_id: str, num_envs: int, num_threads: int, seconds: float
) -> dict[str, Any]:
    """The share of the threads' time inside `step` in which no game was being stepped.

        overhead = 1 - time in games, summed over threads / (time inside step * threads)

    Waking, waiting for the slowest thread, and handing the batch over are all in it. `share` is
    None where the backend has no clocks.
    """
    pool = Ours(env_id, num_envs, num_threads)
    try:
        steps_per_second(pool, min(WARM_UP_SECONDS, seconds))
        before = pool.stats()
        rate = steps_per_second(pool, seconds)
        after = pool.stats()
    finally:
        pool.close()
    share = None
    if before is not None and after is not None:
        work = after["work_ns"] - before["work_ns"]
        wall = after["wall_ns"] - before["wall_ns"]
        share = 1.0 - work / (wall * num_threads)
    return {
        "num_envs": num_envs,
        "threads": num_threads,
        "share": share,
        "steps_per_second": rate,
    }


def bench_kernels(*, device: str = "cpu", command: str) -> BenchReport:
    """The advantage kernels against the plain Python loop (`fastrl.bench_kernels`).

    Args:
        device: "cpu" or "cuda".
        command: The command line, for the record.

    Raises:
        ValueError: CUDA was asked for and there is none.
    """
    import torch

    from fastrl.bench_kernels import KERNELS, bench_kernel

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch sees no CUDA GPU")
    results = {kernel: bench_kernel(kernel, device=device) for kernel in KERNELS}
    tables = [
        Table(kernel, ("", "value"), [(key, _plain(value)) for key, value in _flatten(result)])
        for kernel, result in results.items()
    ]
    return BenchReport(what="kernels", origin=provenance(command), results=results, tables=tables)


def _measure_peers(
    env_id: str, num_envs: int, seconds: float, repeats: int
) -> tuple[list[Rate], list[str]]:
    threads = min(available_cpus(), num_envs)
    with ExitStack() as stack:
        contenders: list[Contender] = []
        for count in sorted({threads, 1}, reverse=True):
            contenders.append(Ours(env_id, num_envs, count))
            stack.callback(contenders[-1].close)
        peers, missing = peers_of(env_id, num_envs, threads)
        for peer in peers:
            stack.callback(peer.close)
        return take_turns([*contenders, *peers], seconds=seconds, repeats=repeats), missing


def _measure_scaling(
    env_id: str, num_envs: int, threads: Sequence[int], seconds: float, repeats: int
) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        pools = [Ours(env_id, num_envs, count) for count in threads]
        for pool in pools:
            stack.callback(pool.close)
        rates = take_turns(pools, seconds=seconds, repeats=repeats)
    best = max(rate.median for rate in rates)
    return [
        rate.to_dict() | {"of_best": rate.median / best, "of_first": rate.median / rates[0].median}
        for rate in rates
    ]


def _measure_asynchronous(
    env_id: str, num_envs: int, seconds: float, repeats: int
) -> dict[str, Any]:
    """Half of the environments at a time against all of them, with the same threads."""
    threads = min(available_cpus(), num_envs)
    with ExitStack() as stack:
        contenders = [
            OursAsync(env_id, num_envs, threads),
            Ours(env_id, num_envs, threads, name="step()"),
        ]
        for contender in contenders:
            stack.callback(contender.close)
        halves, whole = take_turns(contenders, seconds=seconds, repeats=repeats)
    return compare(halves, whole) | {"threads": threads}


def _rates_table(env_id: str, rates: list[Rate], frameskip: int) -> Table:
    """`frameskip` 0 leaves the column of frames out."""
    header = ("contender", "threads", "agent steps/s", "range")
    rows = [
        (x.name, f"{x.threads}", f"{x.median:,.0f}", f"{min(x.samples):,.0f}-{max(x.samples):,.0f}")
        for x in rates
    ]
    if frameskip:
        header = (*header, "frames/s")
        rows = [
            (*row, f"{rate.median * frameskip:,.0f}") for row, rate in zip(rows, rates, strict=True)
        ]
    return Table(f"{env_id}, {rates[0].num_envs} environments, random actions", header, rows)


def _ratios_table(ratios: list[dict[str, Any]], title: str = "Ratios") -> Table:
    rows = [
        (
            f"{x['ours']} / {x['peer']}",
            f"{x['ratio']:.2f}",
            f"{x['ratio_min']:.2f}-{x['ratio_max']:.2f}",
            f"{x['ratio_per_core']:.2f}",
        )
        for x in ratios
    ]
    return Table(title, ("ours / peer", "ratio", "range", "per core"), rows)


def _scaling_table(env_id: str, scaling: list[dict[str, Any]]) -> Table:
    rows = [
        (
            str(x["threads"]),
            f"{x['steps_per_second']:,.0f}",
            f"{x['min']:,.0f}-{x['max']:,.0f}",
            f"{x['of_first']:.2f}",
            f"{x['of_best']:.2f}",
        )
        for x in scaling
    ]
    title = f"fastrl threads, {env_id}, {scaling[0]['num_envs']} environments"
    first = scaling[0]["threads"]
    header = ("threads", "agent steps/s", "range", f"of {first} thread(s)", "of best")
    return Table(title, header, rows)


def _overhead_table(overheads: list[dict[str, Any]]) -> Table:
    rows = [
        (
            str(x["num_envs"]),
            str(x["threads"]),
            "not measured by this backend" if x["share"] is None else f"{x['share']:.1%}",
            f"{x['steps_per_second']:,.0f}",
        )
        for x in overheads
    ]
    header = ("environments", "threads", "share of a step", "agent steps/s")
    return Table("Synchronisation: threads not stepping a game inside step()", header, rows)


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(cast(dict[str, Any], value), f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
