"""The training loop and the run folder.

runs/<run>/config.json     the TrainConfig
           metrics.jsonl   one line per update
           episodes.jsonl  one line per finished full game
           checkpoints/    the last two full checkpoints
           reference.pt    the frozen policy of kl_ref or teacher, in runs that have one
           summary.json    what the run came to, once it has ended
           curve.png       its return curve

A resumed run cuts both .jsonl files back to its checkpoint and writes the same lines again: apart
from wall-clock fields nothing tells it from a run that was never interrupted.
"""

import contextlib
import dataclasses
import json
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl import checkpoint
from fastrl.accelerate import captured_parts, prepare
from fastrl.config import MAY_CHANGE_ON_RESUME, TrainConfig, load_config
from fastrl.discount import make_estimator
from fastrl.distill import DistillStats, distill_update
from fastrl.estimators import Estimate, fetch
from fastrl.folders import locked, write_text
from fastrl.group import Groups, require_snapshots
from fastrl.metrics import JsonLines, Metric, Observer, Progress, RunSummary, Sink, open_sinks
from fastrl.models import make_policy
from fastrl.ppo import Batch, CapturedSteps, GradientSteps, UpdateStats, ppo_update
from fastrl.ranks import Ranks, joined
from fastrl.reference import Interface, open_reference
from fastrl.rewards import RewardScaler
from fastrl.rollout import Episodes, Rollout, RolloutCollector, Seconds


class RunInUseError(RuntimeError):
    """Another process is training in the run folder."""


class TrainingStoppedError(RuntimeError):
    """Something that a run needs failed: the GPU, the disk, an environment. It can go on later."""


MakePool = Callable[[TrainConfig, int], Any]
"""From the config and the number of environments."""


@dataclass(slots=True)
class Counters:
    """Where a run is; all of it goes into the checkpoint."""

    update: int = 0
    global_step: int = 0
    num_episodes: int = 0
    wall_s: float = 0.0
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    lengths: deque[int] = field(default_factory=lambda: deque(maxlen=100))

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"returns": list(self.returns), "lengths": list(self.lengths)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.update = state["update"]
        self.global_step = state["global_step"]
        self.num_episodes = state["num_episodes"]
        self.wall_s = state["wall_s"]
        self.returns.extend(state["returns"])
        self.lengths.extend(state["lengths"])

    def mean_return(self) -> float | None:
        """Of the last 100 full games."""
        return sum(self.returns) / len(self.returns) if self.returns else None

    def mean_length(self) -> float | None:
        """Of the last 100 full games, in agent steps."""
        return sum(self.lengths) / len(self.lengths) if self.lengths else None


def train(
    config: TrainConfig,
    *,
    resume: str | Path | None = None,
    observer: Observer | None = None,
    make_pool: MakePool | None = None,
) -> RunSummary:
    """Trains a policy; SIGINT and SIGTERM save a checkpoint and end it early.

    Args:
        config: What to train. With `resume` it may differ from the run's own config only in the
            fields of `MAY_CHANGE_ON_RESUME`; a larger `total_steps` trains on.
        resume: Folder of a run to continue from its newest readable checkpoint.
        observer: Is told of every update; None prints messages alone, to stderr.
        make_pool: Makes one of the pools that share the environments, showing one frame at a time
            of those that `config.stack` stacks; None uses `fastrl.make`.

    Returns:
        What the run came to.

    Raises:
        FileExistsError: The folder of a new run exists already.
        FileNotFoundError: `resume` is not a run, or has no checkpoint.
        FloatingPointError: The loss became NaN or infinite; the last checkpoint is still good.
        OSError: The run folder cannot be made.
        RunInUseError: Another process is training in the folder of `resume`.
        RuntimeError: CUDA was asked for and there is none.
        TrainingStoppedError: The GPU, the disk or an environment failed; the message names the
            checkpoint from which the run can go on.
        ValueError: The config does not fit the environment or the run that is resumed.
    """
    with opened(config, resume=resume, observer=observer, make_pool=make_pool) as run:
        return run.run()


@contextlib.contextmanager
def opened(
    config: TrainConfig,
    *,
    resume: str | Path | None = None,
    observer: Observer | None = None,
    make_pool: MakePool | None = None,
) -> Generator["Run"]:
    """A run that is ready to train, and what it has open; as `train`, which see."""
    choose_device(config)
    if config.torch_threads:
        torch.set_num_threads(config.torch_threads)
    with joined(config.device) as ranks:
        config.check_ranks(ranks.size)
        watcher: Observer = (observer or _Messages()) if ranks.first else _Silent()
        made: Path | None = None
        if resume is not None:
            run_dir = Path(resume)
            _check_resumable(config, run_dir, write=ranks.first)
        else:
            made = _create_run_dir(config) if ranks.first else None
            run_dir = Path(ranks.of_first(str(made)))
        try:
            with contextlib.ExitStack() as stack:
                if ranks.first:
                    in_use = RunInUseError(f"another process is training in {run_dir}")
                    stack.enter_context(locked(run_dir, in_use))
                pools: list[Any] = []
                for _ in range(config.num_pools):
                    share = config.num_envs // (config.num_pools * ranks.size)
                    pools.append((make_pool or _make_pool)(config, share))
                    stack.enter_context(contextlib.closing(pools[-1]))
                run = Run(config, run_dir, pools, watcher, ranks, resumed=resume is not None)
                stack.callback(run.close)
                yield run
        except BaseException:
            if made is not None and not checkpoint.all_paths(made):
                shutil.rmtree(made, ignore_errors=True)  # nothing came of it
            raise


def choose_device(config: TrainConfig) -> torch.device:
    """The device of a run.

    Raises:
        RuntimeError: CUDA was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise RuntimeError(
            "device is cuda, but torch sees no CUDA GPU: use device cpu or auto, or install a CUDA"
            " build of torch (https://pytorch.org/get-started/locally)"
        )
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def environment_seeds(seed: int, num_envs: int) -> list[int]:
    """One 31-bit seed per environment, so that no two runs share an environment's stream."""
    words = np.random.SeedSequence(seed).generate_state(num_envs)
    return [int(word) & 0x7FFFFFFF for word in words]


class Run:
    """One sitting of one run."""

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        pools: list[Any],
        observer: Observer,
        ranks: Ranks,
        *,
        resumed: bool,
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.pools = pools
        self.observer = observer
        self.ranks = ranks
        self.counters = Counters()
        device = choose_device(config)
        self.action_generator = torch.Generator(device).manual_seed(config.seed)
        self.order_generator = torch.Generator(device).manual_seed(config.seed + 2**32)
        interface = Interface.of(pools[0], config.stack)
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.manual_seed(config.seed)  # pyright: ignore[reportUnknownMemberType]
            self.policy = make_policy(
                config, interface.obs_shape, interface.num_actions, obs_high=interface.obs_high
            ).to(device)
        self.reference = open_reference(
            config.teacher or config.kl_ref, config, run_dir, interface, device, resumed=resumed
        )
        self.left_out = prepare(self.policy, config, device, interface.obs_shape)
        captures = captured_parts(config, device, ranks)
        self.left_out += captures.left_out
        # A graph keeps numbers and reads tensors: so the rate that is lowered must be one.
        rate = torch.tensor(config.learning_rate, device=device)
        self.optimizer = torch.optim.Adam(
            self.policy.parameters(),
            lr=rate if captures.learning else config.learning_rate,
            eps=config.adam_eps,
            fused=True,
            capturable=captures.learning,
        )
        self.estimator = make_estimator(config, device, self.policy)
        steps = CapturedSteps if captures.learning else GradientSteps
        self.steps = steps(self.policy, self.optimizer, config, self.estimator, ranks)
        num_envs = config.num_envs // ranks.size
        self.scaler = RewardScaler(config.reward_scaling, num_envs, config.gamma)
        self.collector = RolloutCollector(
            *pools,
            num_steps=config.num_steps,
            autoreset_mode=config.autoreset_mode,
            scaler=self.scaler,
            generator=self.action_generator,
            stack=config.stack,
            cuda_graphs=captures.inference,
            ranks=ranks,
            groups=Groups(pools[0], config.group_size) if config.advantage == "group" else None,
        )
        self.saved_at = -1
        metrics_bytes = episodes_bytes = 0
        if resumed:
            metrics_bytes, episodes_bytes = self._restore()
        else:
            self.collector.reset(self._seeds(config.seed))
            if config.advantage == "group":
                require_snapshots(pools[0])
        if ranks.first:
            self.metrics = JsonLines(run_dir / "metrics.jsonl", metrics_bytes)
            self.episodes = JsonLines(run_dir / "episodes.jsonl", episodes_bytes)
            (run_dir / "summary.json").unlink(missing_ok=True)

    def run(self) -> RunSummary:
        """Trains to the end, or to a signal."""
        summary: RunSummary | None = None
        self.observer.start(self.config, self.run_dir, self.counters.global_step)
        try:
            self._loop()
            summary = self._finish()
            return summary
        finally:
            self.observer.close(summary)

    def close(self) -> None:
        """Closes the run's files."""
        if self.ranks.first:
            for file in (self.metrics, self.episodes):
                with contextlib.suppress(OSError):  # A full disk has been reported.
                    file.close()

    def _loop(self) -> None:
        config, counters = self.config, self.counters
        sinks: list[Sink] = []
        try:
            if self.ranks.first:
                sinks += open_sinks(config, self.run_dir, counters.global_step)
            if counters.update == 0:
                self._save()
            for message in self.left_out:
                self.observer.message(message)
            with _stop_signals(self.observer) as stop:
                while counters.global_step < config.total_steps and not self._sum(stop.is_set()):
                    progress, metrics = self._update()
                    if self.ranks.first:
                        self.metrics.write([metrics])
                    for sink in sinks:
                        sink.write(metrics)
                    self.observer.update(progress)
                    if counters.update % config.checkpoint_every == 0:
                        self._save()
                if self.saved_at != counters.update:
                    self._save()
        except FloatingPointError as error:
            raise FloatingPointError(
                f"training diverged in update {counters.update + 1}: {error}. The checkpoint"
                f" {checkpoint.latest(self.run_dir)} is from before; a lower learning_rate may help"
            ) from error
        except (OSError, RuntimeError, MemoryError) as error:
            kept = checkpoint.all_paths(self.run_dir)
            if not kept:
                raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise TrainingStoppedError(
                f"training stopped in update {counters.update + 1}: {reason[0]}. {kept[0]} is"
                f" complete; fastrl train --resume {self.run_dir} goes on from it"
            ) from error
        finally:
            with contextlib.suppress(OSError):  # A full disk has been reported above.
                for sink in sinks:
                    sink.close()

    def _update(self) -> tuple[Progress, dict[str, Metric]]:
        """One rollout and what is learned from it."""
        config, counters = self.config, self.counters
        begin = time.perf_counter()
        rate = config.learning_rate
        if config.anneal_lr:
            rate *= 1.0 - counters.global_step / config.total_steps
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

        rollout, finished, seconds = self.collector.collect(self.policy)
        learning = time.perf_counter()
        num_steps, stats, estimated = self.learn(rollout)
        end = time.perf_counter()

        self._log_episodes(finished, counters.wall_s + learning - begin)
        counters.update += 1
        counters.global_step += num_steps
        counters.wall_s += end - begin
        progress, metrics = self._report(
            num_steps, rate, stats, seconds, end - learning, end - begin
        )
        return progress, metrics | estimated

    def learn(self, rollout: Rollout) -> tuple[int, UpdateStats | DistillStats, dict[str, Any]]:
        """An update on a rollout.

        Returns:
            Agent steps of it, what the update did, and the estimator's metrics.
        """
        estimate = self.estimator.estimate(rollout)
        batch, num_steps = make_batch(rollout, estimate)
        num_steps = self._sum(num_steps)
        stats = self._learn(batch)
        return num_steps, stats, fetch(estimate.metrics)

    def _sum(self, number: int) -> int:
        """Over the ranks."""
        if self.ranks.size == 1:
            return number
        return int(self.ranks.sum(torch.tensor(number, device=self.action_generator.device)))

    def _seeds(self, seed: int) -> list[int]:
        """Of this rank's environments."""
        return environment_seeds(seed, self.config.num_envs)[self.ranks.share(self.config.num_envs)]

    def _learn(self, batch: Batch) -> UpdateStats | DistillStats:
        """The gradient steps on one rollout."""
        learner = self.policy, self.optimizer
        if self.reference is not None and self.config.teacher:
            log_probs = self.reference.log_probs(batch.obs)
            return distill_update(*learner, batch.obs, log_probs, self.config, self.order_generator)
        if self.reference is not None:
            ref_logprobs = self.reference.logprobs(batch.obs, batch.actions)
            batch = dataclasses.replace(batch, ref_logprobs=ref_logprobs)
        return ppo_update(
            *learner, batch, self.config, self.order_generator, self.estimator, self.steps
        )

    def _report(
        self,
        num_steps: int,
        rate: float,
        stats: UpdateStats | DistillStats,
        seconds: Seconds,
        learning_s: float,
        total_s: float,
    ) -> tuple[Progress, dict[str, Metric]]:
        counters = self.counters
        parts = asdict(seconds) | {"learning": learning_s}
        parts["copy"] += total_s - sum(parts.values())
        shares = {name: part / total_s for name, part in parts.items()}
        progress = Progress(
            update=counters.update,
            global_step=counters.global_step,
            total_steps=self.config.total_steps,
            wall_s=counters.wall_s,
            steps_per_second=num_steps / total_s,
            time_shares=shares,
            mean_return=counters.mean_return(),
            num_episodes=counters.num_episodes,
        )
        metrics: dict[str, Metric] = {
            "update": counters.update,
            "global_step": counters.global_step,
            "wall_s": round(counters.wall_s, 3),
            "sps": round(progress.steps_per_second, 1),
            **{f"{name}_share": round(share, 4) for name, share in shares.items()},
            "learning_rate": rate,
            **asdict(stats),
            "num_episodes": counters.num_episodes,
            "mean_return": counters.mean_return(),
            "mean_length": counters.mean_length(),
        }
        return progress, metrics

    def _log_episodes(self, finished: Episodes, wall_s: float) -> None:
        if self.config.advantage == "group":
            finished = finished.of(finished.env_ids % self.config.group_size == 0)
        finished = self._of_all(finished)
        if not self.ranks.first:
            return
        columns = zip(
            (finished.steps + self.counters.global_step).tolist(),
            finished.env_ids.tolist(),
            finished.returns.tolist(),
            finished.lengths.tolist(),
            strict=True,
        )
        wall_s = round(wall_s, 3)
        self.episodes.write(
            {"global_step": step, "env_id": env, "return": total, "length": n, "wall_s": wall_s}
            for step, env, total, n in columns
        )
        self.counters.num_episodes += len(finished.returns)
        self.counters.returns.extend(finished.returns.tolist())
        self.counters.lengths.extend(finished.lengths.tolist())

    def _of_all(self, finished: Episodes) -> Episodes:
        """The games of all ranks, on rank 0, as if one process had played them."""
        if self.ranks.size == 1:
            return finished
        parts = self.ranks.gathered(finished)
        if not parts:
            return finished
        each = self.collector.num_envs
        steps = np.concatenate([part.steps for part in parts]) * self.ranks.size
        env_ids = np.concatenate([part.env_ids + i * each for i, part in enumerate(parts)])
        order = np.lexsort((env_ids, steps))
        return Episodes(
            steps=steps[order],
            env_ids=env_ids[order].astype(np.int32),
            returns=np.concatenate([part.returns for part in parts])[order],
            lengths=np.concatenate([part.lengths for part in parts])[order],
        )

    def _save(self) -> None:
        mine = {
            "scaler": self.scaler.state_dict(),
            "collector": self.collector.state_dict(),
            "pools": self._pool_states(),
        }
        parts = self.ranks.gathered(mine)
        self.saved_at = self.counters.update
        if not self.ranks.first:
            return
        state = {
            "config": self.config.to_json(),
            "counters": self.counters.state_dict(),
            "metrics_bytes": self.metrics.sync(),
            "episodes_bytes": self.episodes.sync(),
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "action_generator": self.action_generator.get_state(),
            "order_generator": self.order_generator.get_state(),
            "estimator": self.estimator.state_dict(),
            "ranks": parts,
        }
        checkpoint.save(checkpoint.path_for(self.run_dir, self.counters.global_step), state)

    def _pool_states(self) -> list[Tensor] | None:
        """The environments of each pool as bytes; None when the backend has no snapshots."""
        try:
            states = [pool.get_state() for pool in self.pools]
        except NotImplementedError:
            return None
        return [torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in states]

    def _restore(self) -> tuple[int, int]:
        """Loads the newest good checkpoint; returns the lengths of metrics and episodes."""
        path, state, warnings = checkpoint.load_newest_good(self.run_dir)
        for warning in warnings:
            self.observer.message(warning)
        self.counters.load_state_dict(state["counters"])
        self.policy.load_state_dict(state["policy"])
        groups = self.optimizer.param_groups
        kinds = [{name: group[name] for name in ("lr", "capturable")} for group in groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, kind in zip(self.optimizer.param_groups, kinds, strict=True):
            group |= kind  # those of this sitting; the rate is set before each update
        self.action_generator.set_state(state["action_generator"])
        self.order_generator.set_state(state["order_generator"])
        self.estimator.load_state_dict(state.get("estimator", {}))  # not in older checkpoints
        if len(state["ranks"]) != self.ranks.size:
            raise ValueError(
                f"{path} is of {len(state['ranks'])} ranks: resume it with as many, not with"
                f" {self.ranks.size}"
            )
        mine = state["ranks"][self.ranks.rank]
        self.scaler.load_state_dict(mine["scaler"])
        seeds = self._seeds(self.config.seed + self.counters.global_step)
        self.collector.reset(seeds)
        if mine["pools"] is None:
            self.observer.message(
                f"{self.config.env_id}: this backend has no snapshots, so the environments start"
                f" new episodes from fresh seeds; everything else continues from {path.name}"
            )
        else:
            for pool, saved in zip(self.pools, mine["pools"], strict=True):
                pool.set_state(saved.numpy().tobytes())
            self.collector.load_state_dict(mine["collector"])
        self.saved_at = self.counters.update
        self._sum(0)  # All have read it.
        for newer in checkpoint.all_paths(self.run_dir):
            if self.ranks.first and newer.name > path.name:
                newer.unlink()
        return state["metrics_bytes"], state["episodes_bytes"]

    def _finish(self) -> RunSummary:
        counters = self.counters
        summary = RunSummary(
            env_id=self.config.env_id,
            seed=self.config.seed,
            status=(
                "finished" if counters.global_step >= self.config.total_steps else "interrupted"
            ),
            global_step=counters.global_step,
            num_episodes=counters.num_episodes,
            mean_return=counters.mean_return(),
            mean_length=counters.mean_length(),
            wall_s=round(counters.wall_s, 3),
            steps_per_second=counters.global_step / max(counters.wall_s, 1e-9),
            run_dir=str(self.run_dir),
        )
        if not self.ranks.first:
            return summary
        write_text(self.run_dir / "summary.json", json.dumps(asdict(summary), indent=2) + "\n")
        if counters.num_episodes:
            from fastrl.report import plot_curve

            plot_curve([self.run_dir], self.run_dir / "curve.png")
        return summary


def make_batch(rollout: Rollout, estimate: Estimate) -> tuple[Batch, int]:
    """Flattens a rollout and its estimate, leaving out the steps not to learn from.

    Those are the reset steps and, in groups, what members do after their end.

    Returns:
        The batch and the number of steps of the rollout without the reset steps.
    """
    learned = rollout.valid if estimate.learned is None else rollout.valid & estimate.learned
    columns = {
        "actions": rollout.actions,
        "logprobs": rollout.logprobs,
        "advantages": estimate.advantages,
        "returns": estimate.returns,
        "values": estimate.values,
    }
    if estimate.head_targets is not None:
        columns["head_targets"] = estimate.head_targets
    flat = {name: column.flatten(0, 1) for name, column in columns.items()}
    obs = rollout.obs.at(slice(-1)).flatten()
    if not bool(learned.all()):
        kept = learned.flatten().nonzero().squeeze(-1)
        flat = {name: column[kept] for name, column in flat.items()}
        obs = obs.at(kept)
    return Batch(obs=obs, **flat), int(rollout.valid.sum())


class _Silent:
    """The observer of a rank that keeps no books."""

    def start(self, config: TrainConfig, run_dir: Path, global_step: int) -> None: ...

    def update(self, progress: Progress) -> None: ...

    def message(self, text: str) -> None: ...

    def close(self, summary: RunSummary | None) -> None: ...


class _Messages(_Silent):
    """The observer of a run that nobody watches."""

    def message(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _make_pool(config: TrainConfig, num_envs: int) -> Any:
    import fastrl

    options = dict(config.make_options)
    if config.stack > 1:
        options["stack_num"] = 1
    return fastrl.make(
        config.env_id,
        num_envs=num_envs,
        num_threads=config.env_threads,
        autoreset_mode=config.autoreset_mode,
        **options,
    )


def _create_run_dir(config: TrainConfig) -> Path:
    name = f"{config.preset}-s{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    default = Path("runs") / config.env_id.replace("/", "-") / name
    run_dir = Path(config.run_dir) if config.run_dir else default
    try:
        run_dir.mkdir(parents=True)
        write_text(run_dir / "config.json", config.to_json())
    except FileExistsError:
        raise FileExistsError(
            f"run folder {run_dir} exists already: choose another, or resume it"
        ) from None
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write run folder {run_dir}: {error.strerror}"
        ) from error
    return run_dir


def _check_resumable(config: TrainConfig, run_dir: Path, *, write: bool) -> None:
    saved, asked = load_config(run_dir).to_dict(), config.to_dict()
    changed = sorted(
        key for key in saved if saved[key] != asked[key] and key not in MAY_CHANGE_ON_RESUME
    )
    if changed:
        differences = ", ".join(f"{key} {saved[key]!r} -> {asked[key]!r}" for key in changed)
        raise ValueError(f"cannot resume {run_dir} as another experiment: {differences}")
    checkpoint.latest(run_dir)
    if write and saved != asked:
        write_text(run_dir / "config.json", config.to_json())


@contextlib.contextmanager
def _stop_signals(observer: Observer) -> Generator[threading.Event]:
    """Turns the first SIGINT or SIGTERM into a flag; a second one acts as it did before."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        stop.set()
        restore()
        observer.message(
            f"{signal.Signals(number).name}: finishing this update, then saving;"
            " once more stops at once without saving"
        )

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()
