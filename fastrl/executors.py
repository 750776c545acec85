"""Where the runs of a sweep happen: processes of this machine, or a Ray cluster.

Every run is a process of its own that calls `fastrl.train.train`, as `fastrl train` does:

    python -m fastrl.executors CONFIG.json

Imports neither torch nor ray. A process ends, after saving, when its parent does: whoever starts it
holds the other end of its standard input.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fastrl.config import TrainConfig

INTERRUPTED = 130
"""Exit code of a run that was asked to stop, and saved."""
INTERRUPT_S = 0.1
"""Seconds between two looks for an interrupt."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Job:
    """One run to start, or to continue if its folder has a checkpoint. Equal only to itself."""

    config: TrainConfig
    """Its `run_dir` is absolute."""
    log: Path
    """What the process prints is appended to this file."""

    @property
    def run_dir(self) -> Path:
        """Folder of the run."""
        return Path(self.config.run_dir)


class Executor(Protocol):
    """Runs jobs, each in its own process. Used from one thread; nothing blocks but `close`."""

    @property
    def num_slots(self) -> int:
        """Jobs that may run at once."""
        ...

    def start(self, job: Job) -> None:
        """Starts a job; there must be a free slot."""
        ...

    def poll(self) -> list[tuple[Job, int]]:
        """The jobs that ended since the last call, with their exit codes (-n: by signal n)."""
        ...

    def stop(self, job: Job) -> None:
        """Asks a running job to save a checkpoint and end."""
        ...

    def kill(self) -> None:
        """Ends every running job without waiting for it to save."""
        ...

    def close(self) -> None:
        """Ends what still runs and gives the resources back."""
        ...


class LocalExecutor:
    """Processes of this machine. With GPUs, job slot i sees the GPU i modulo their number."""

    def __init__(self, num_slots: int, gpus: Sequence[str] = ()) -> None:
        """Starts nothing yet.

        Args:
            num_slots: Jobs at once.
            gpus: What CUDA_VISIBLE_DEVICES may name; empty leaves it as it is.
        """
        self._slots: list[tuple[Job, subprocess.Popen[bytes]] | None] = [None] * num_slots
        self._gpus = tuple(gpus)

    @property
    def num_slots(self) -> int:
        """Jobs that may run at once."""
        return len(self._slots)

    def start(self, job: Job) -> None:
        """Starts a process in the first free slot."""
        slot = self._slots.index(None)
        gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
        self._slots[slot] = job, start_process(job, gpu=gpu)

    def poll(self) -> list[tuple[Job, int]]:
        """Those that ended."""
        ended: list[tuple[Job, int]] = []
        for slot, entry in enumerate(self._slots):
            if entry is None:
                continue
            job, process = entry
            code = process.poll()
            if code is not None:
                _close_stdin(process)
                self._slots[slot] = None
                ended.append((job, code))
        return ended

    def stop(self, job: Job) -> None:
        """SIGTERM, which `train` answers by saving."""
        for entry in self._slots:
            if entry is not None and entry[0] is job:
                entry[1].terminate()

    def kill(self) -> None:
        """SIGKILL."""
        for entry in self._slots:
            if entry is not None:
                entry[1].kill()

    def close(self) -> None:
        """Kills what still runs."""
        self.kill()
        for slot, entry in enumerate(self._slots):
            if entry is not None:
                entry[1].wait()
                _close_stdin(entry[1])
                self._slots[slot] = None


class RayExecutor:
    """Tasks of a Ray cluster, one process each. All machines must see the sweep's folder."""

    def __init__(self, num_slots: int, *, threads: int, gpu_share: float, address: str) -> None:
        """Connects to a cluster, or starts a Ray on this machine.

        Args:
            num_slots: Jobs at once; 0: as many as the cluster's CPUs and GPUs allow.
            threads: CPUs that a job reserves.
            gpu_share: GPUs that a job reserves; may be a fraction.
            address: Of the cluster; empty: $RAY_ADDRESS, or else a Ray of this machine's own.

        Raises:
            ValueError: Ray is not installed, the cluster cannot be reached, or it is too small.
        """
        try:
            import ray
        except ImportError:
            raise ValueError(
                "the ray executor needs Ray: pip install 'fastrl[ray]', or --executor local"
            ) from None
        self._ray: Any = ray
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if address or os.environ.get("RAY_ADDRESS"):
            options["address"] = address or None
        else:
            options["include_dashboard"] = False
            options["_system_config"] = {"worker_niceness": 0}  # Ray's own default is 15.
            if num_slots:
                options["num_cpus"] = num_slots * threads
        try:
            self._ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(f"cannot reach the Ray cluster {address}: {error}") from error
        found = self._ray.cluster_resources()
        fits = int(found.get("CPU", 0)) // threads
        if gpu_share:
            fits = min(fits, int(found.get("GPU", 0) / gpu_share))
        if not fits:
            self._ray.shutdown()
            raise ValueError(
                f"the Ray cluster has {found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs"
                f": too few for a run with {threads} threads and {gpu_share:g} GPUs"
            )
        self.num_slots: int = num_slots or fits
        self._task: Any = self._ray.remote(
            num_cpus=threads, num_gpus=gpu_share, max_retries=0, max_calls=1
        )(run_process)
        self._running: dict[Any, Job] = {}

    def start(self, job: Job) -> None:
        """Submits a task."""
        self._running[self._task.remote(job)] = job

    def poll(self) -> list[tuple[Job, int]]:
        """Those whose result is there."""
        if not self._running:
            return []
        pending = list(self._running)
        ready, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        ended = [(ref, self._running.pop(ref)) for ref in ready]
        return [(job, self._exit_code(ref, job)) for ref, job in ended]

    def _exit_code(self, ref: Any, job: Job) -> int:
        try:
            return int(self._ray.get(ref))
        except self._ray.exceptions.TaskCancelledError:
            return INTERRUPTED
        except self._ray.exceptions.RayError as error:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("a", encoding="utf-8") as log:
                log.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
            return 1

    def stop(self, job: Job) -> None:
        """Raises KeyboardInterrupt in the task, which passes it on and waits."""
        for ref, running in self._running.items():
            if running is job:
                self._ray.cancel(ref, force=False)

    def kill(self) -> None:
        """Ends the tasks; their processes see it, save and end."""
        for ref in self._running:
            self._ray.cancel(ref, force=True)

    def close(self) -> None:
        """Disconnects; a Ray that was started here ends."""
        self._ray.shutdown()


def start_process(job: Job, *, gpu: str | None = None) -> "subprocess.Popen[bytes]":
    """Starts the process of a job, in a session of its own so that Ctrl-C does not reach it."""
    package = str(Path(__file__).resolve().parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fastrl.executors", job.config.to_json()],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def run_process(job: Job) -> int:
    """Runs a job to its end and returns its exit code; an interrupt is passed on to it."""
    process = start_process(job)
    try:
        while (code := process.poll()) is None:
            time.sleep(INTERRUPT_S)  # Ray's interrupt does not end a wait in the kernel.
        return code
    except KeyboardInterrupt:
        process.terminate()
        return process.wait()
    finally:
        _close_stdin(process)


def train_run(config: TrainConfig) -> int:
    """Trains the run of `config.run_dir`, from its newest checkpoint if it has one.

    Returns:
        0: finished; `INTERRUPTED`: stopped by a signal, and saved.
    """
    from fastrl import checkpoint
    from fastrl.dashboard import make_dashboard
    from fastrl.train import train

    run_dir = Path(config.run_dir)
    _wait_until_free(run_dir)
    resume = run_dir if checkpoint.all_paths(run_dir) else None
    if resume is None:
        shutil.rmtree(run_dir, ignore_errors=True)  # It was killed before its first checkpoint.
    summary = train(config, resume=resume, observer=make_dashboard(sys.stdout))
    return 0 if summary.status == "finished" else INTERRUPTED


def _wait_until_free(run_dir: Path) -> None:
    """Waits for the process of a killed sweep, which still saves its run."""
    if not run_dir.is_dir():
        return
    folder = os.open(run_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
    finally:
        os.close(folder)


def _end_with_parent() -> None:
    """SIGTERM to this process once nobody holds the other end of its standard input."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _close_stdin(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


if __name__ == "__main__":
    _end_with_parent()
    sys.exit(train_run(TrainConfig.from_json(sys.argv[1])))
