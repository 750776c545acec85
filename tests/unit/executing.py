"""An executor without processes, for the tests of sweeps and studies."""

import json
from collections.abc import Callable
from typing import Any

from fastrl.executors import INTERRUPTED, Job

Play = Callable[[Job], list[float] | None]
"""The mean returns that a run logs, evenly over its steps; None: it fails."""


class FakeExecutor:
    """Takes one step of every running job at each poll."""

    def __init__(self, play: Play, num_slots: int = 1) -> None:
        self.play = play
        self.num_slots = num_slots
        self.started: list[Job] = []
        self.events: list[tuple[str, str]] = []
        """("start" or "end", run_dir), as they happened."""
        self.lines: list[str] = []
        self.most_at_once = 0
        self._left: dict[Job, list[float]] = {}
        self._stopping: set[Job] = set()

    def start(self, job: Job) -> None:
        self.started.append(job)
        self.events.append(("start", job.config.run_dir))
        self._left[job] = []
        self.most_at_once = max(self.most_at_once, len(self._left))
        assert self.most_at_once <= self.num_slots
        job.log.parent.mkdir(parents=True, exist_ok=True)
        returns = self.play(job)
        if returns is None:
            job.log.write_text("Traceback ...\nValueError: it cannot be\n", encoding="utf-8")
            self._left[job] = []
            return
        (job.run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        (job.run_dir / "metrics.jsonl").write_text("", encoding="utf-8")
        for step in (0, 64, 128):
            (job.run_dir / "checkpoints" / f"step_{step:012d}.pt").touch()
        self._left[job] = returns

    def poll(self) -> list[tuple[Job, int]]:
        ended: list[tuple[Job, int]] = []
        for job, left in list(self._left.items()):
            if job in self._stopping:
                code = INTERRUPTED
            elif not left:
                code = 1
            else:
                code = self._step(job, left)
                if code is None:
                    continue
            del self._left[job]
            self.events.append(("end", job.config.run_dir))
            ended.append((job, code))
        return ended

    def _step(self, job: Job, left: list[float]) -> int | None:
        file = job.run_dir / "metrics.jsonl"
        logged = file.read_text(encoding="utf-8").count("\n") + 1
        total = job.config.total_steps
        mean = left.pop(0)
        line: dict[str, Any] = {
            "global_step": total * logged // (logged + len(left)),
            "sps": 10.0,
            "mean_return": mean,
        }
        with file.open("a", encoding="utf-8") as metrics:
            metrics.write(json.dumps(line) + "\n")
        if left:
            return None
        summary = {"global_step": total, "mean_return": mean}
        (job.run_dir / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        return 0

    def stop(self, job: Job) -> None:
        self._stopping.add(job)

    def kill(self) -> None:
        self._stopping |= set(self._left)

    def close(self) -> None:
        assert not self._left
