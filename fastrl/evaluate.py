"""How good a trained policy is: full games, unclipped returns, seeds that it never saw.

Protocol (Machado et al. 2018, arXiv:1709.06009, section 4, and what Atari-57 tables use):

- Games start from seeds that the run was not trained on (`EVAL_SEED_OFFSET`).
- A game is a full one: a lost life does not end it. Its return is undiscounted and unclipped.
- Atari stops at 108,000 frames. Other games stop at 27,000 agent steps, or after 10,000 agent steps
  without a reward (a policy that has locked itself into a loop).
- Each environment plays a number of games fixed beforehand. Taking the first games that finish
  would favour short ones.
- Actions are drawn from the policy, as in training, unless `greedy` asks for the likeliest one.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

import fastrl
from fastrl.config import TrainConfig, load_config
from fastrl.folders import write_text
from fastrl.video import VideoWriter, draw, enlarge

if TYPE_CHECKING:
    from rich.table import Table

EVAL_SEED_OFFSET = 1_000_000
"""An evaluation of a run with seed s seeds its environments s + this, s + this + 1, ... Training
draws its seeds from all 31-bit numbers; should one of them be among these, the next free row of
seeds is taken."""
MAX_FRAMES = 108_000
"""Emulator frames of an Atari game: half an hour."""
MAX_STEPS = 27_000
"""Agent steps of any other game."""
NO_PROGRESS_STEPS = 10_000
"""Agent steps without a reward after which a game that is not Atari is stopped."""
MAX_PARALLEL_GAMES = 64
MAX_SEED = 2**31 - 1 - MAX_PARALLEL_GAMES
"""So that every environment's seed fits 31 bits, which is all that ale-py takes."""

Ending = Literal["terminated", "truncated", "no_progress"]
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Game:
    """One full game."""

    env_id: int
    """Which environment of the pool played it."""
    episode_return: float
    """Undiscounted, unclipped."""
    length: int
    """Agent steps."""
    ending: Ending
    """truncated: by the step cap; no_progress: no reward for too long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalReport:
    """What an evaluation found; `eval.json` holds the same."""

    env_id: str
    checkpoint: str
    global_step: int
    """Agent steps that the policy had been trained for."""
    episodes: int
    seed: int
    """Environment i was seeded with seed + i."""
    num_envs: int
    """Environments that shared the games."""
    greedy: bool
    max_steps: int
    """Agent steps after which a game was cut."""
    no_progress_steps: int
    """Agent steps without a reward after which a game was cut; 0: never."""
    env_options: dict[str, Any]
    """Options of `fastrl.make`: the run's, but full games."""
    mean: float
    std: float
    """Over games, with Bessel's correction; 0 for one game."""
    median: float
    min: float
    max: float
    ci_low: float
    """95 % bootstrap interval of the mean over games; says nothing about other training seeds."""
    ci_high: float
    mean_length: float
    """Agent steps."""
    random_score: float | None
    """Score of random play, where the game has a published one (Atari-57)."""
    human_score: float | None
    human_normalized: float | None
    """(mean - random) / (human - random): 0 plays like random, 1 like a human tester."""
    games: tuple[Game, ...]

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def table(self) -> Table:
        """The report for the terminal."""
        from rich.table import Table

        table = Table(show_header=False)
        cut = sum(game.ending != "terminated" for game in self.games)
        rows = [
            ("environment", self.env_id),
            ("trained for", f"{self.global_step:,} agent steps"),
            ("games", f"{self.episodes}, {'greedy' if self.greedy else 'sampled'} actions"),
            ("mean return", f"{self.mean:.2f}"),
            ("95 % interval", f"[{self.ci_low:.2f}, {self.ci_high:.2f}]"),
            ("standard deviation", f"{self.std:.2f}"),
            ("median", f"{self.median:.2f}"),
            ("range", f"{self.min:g} to {self.max:g}"),
            ("mean length", f"{self.mean_length:,.0f} agent steps"),
            ("games cut short", str(cut)),
        ]
        if self.random_score is not None:
            rows += [
                ("random play", f"{self.random_score:g}"),
                ("human", f"{self.human_score:g}"),
                ("human-normalised", f"{self.human_normalized:.1%}"),
            ]
        for row in rows:
            table.add_row(*row)
        return table


class Pool(Protocol):
    """The part of `fastrl.EnvPool` that an evaluation uses, in autoreset mode Disabled."""

    @property
    def num_envs(self) -> int:
        """N."""
        ...

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Array, dict[str, Any]]:
        """Starts all games, or those in `options["reset_mask"]`."""
        ...

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Steps every environment."""
        ...


def evaluate(
    run_dir: str | Path,
    episodes: int = 30,
    *,
    seed: int | None = None,
    greedy: bool = False,
    video: Path | None = None,
    device: str = "cpu",
) -> EvalReport:
    """Plays full games with a run's newest checkpoint and writes `eval.json` into its folder.

    Args:
        run_dir: Folder of the run.
        episodes: Games, exactly.
        seed: Environment i is seeded with seed + i; None takes the run's + `EVAL_SEED_OFFSET`.
        greedy: Take the likeliest action instead of drawing one.
        video: MP4 file for the first game of environment 0.
        device: Where the policy runs; the CPU does for some dozens of games.

    Raises:
        FileNotFoundError: No such run, or it has no checkpoint yet.
        ValueError: A number is out of range, the seeds are those of training, the checkpoint is
            damaged, there is no such device, or the video cannot be written.
    """
    import torch

    from fastrl import checkpoint
    from fastrl.models import make_policy
    from fastrl.ppo import sample_actions
    from fastrl.train import environment_seeds

    run_dir = Path(run_dir)
    config = load_config(run_dir)
    if episodes < 1:
        raise ValueError(f"episodes must be >= 1, got {episodes}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch sees no CUDA GPU: use device cpu")
    num_envs = min(episodes, MAX_PARALLEL_GAMES)
    trained_on = environment_seeds(config.seed, config.num_envs)
    seed = unseen_seed(config.seed, num_envs, trained_on) if seed is None else seed
    _refuse_training_seeds(seed, num_envs, trained_on)
    path, state, _ = checkpoint.load_newest_good(run_dir)
    options, max_steps, no_progress_steps = _protocol(config)

    with ExitStack() as stack:
        film = None
        if video is not None:
            film = stack.enter_context(VideoWriter(video, frames_per_second=15))
        pool: Any = fastrl.make(
            config.env_id, num_envs=num_envs, autoreset_mode="Disabled", **options
        )
        stack.callback(pool.close)
        space = pool.single_observation_space
        policy = make_policy(
            config,
            tuple(space.shape),
            int(pool.single_action_space.n),
            obs_high=int(space.high.max()),
        )
        policy.load_state_dict(state["policy"])
        policy.to(device).eval()
        generator = torch.Generator(device).manual_seed(seed)

        @torch.inference_mode()
        def choose(obs: Array) -> Array:
            logits = policy(torch.as_tensor(obs).to(device))[0]
            if greedy:
                return logits.argmax(-1).cpu().numpy()
            return sample_actions(logits, generator)[0].cpu().numpy()

        def watch(obs: Array) -> None:
            assert film is not None
            has_screen = pool.render_mode == "rgb_array"
            film.write(enlarge(pool.render()[0]) if has_screen else draw(obs))

        games = play(
            pool,
            choose,
            seed=seed,
            episodes=episodes,
            max_steps=max_steps,
            no_progress_steps=no_progress_steps,
            watch=watch if film is not None else None,
        )

    report = _summarise(
        games,
        env_id=config.env_id,
        checkpoint=path.name,
        global_step=int(state["counters"]["global_step"]),
        seed=seed,
        num_envs=num_envs,
        greedy=greedy,
        max_steps=max_steps,
        no_progress_steps=no_progress_steps,
        env_options=options,
    )
    write_text(run_dir / "eval.json", report.to_json())
    return report


def play(
    pool: Pool,
    choose: Callable[[Array], Array],
    *,
    seed: int,
    episodes: int,
    max_steps: int,
    no_progress_steps: int = 0,
    watch: Callable[[Array], None] | None = None,
) -> list[Game]:
    """Plays exactly `episodes` full games, shared out over the environments beforehand.

    Args:
        pool: Environments in autoreset mode Disabled.
        choose: Observations (N, *shape) to actions (N,).
        seed: Environment i is seeded with seed + i.
        episodes: Games in all; the first `episodes % N` environments play one more than the rest.
        max_steps: Agent steps after which a game is cut.
        no_progress_steps: Agent steps without a reward after which a game is cut; 0: never.
        watch: Is shown every observation of the first game of environment 0.

    Returns:
        The games by environment, each environment's in the order of play.
    """
    num_envs = pool.num_envs
    quota = episodes // num_envs + (np.arange(num_envs) < episodes % num_envs)
    games: list[list[Game]] = [[] for _ in range(num_envs)]
    idle = np.zeros(num_envs, dtype=np.int64)
    obs, _ = pool.reset(seed=seed)
    while any(len(played) < due for played, due in zip(games, quota, strict=True)):
        if watch is not None and not games[0]:
            watch(obs[0])
        obs, _, terminated, truncated, info = pool.step(choose(obs))
        idle = np.where(info["reward"] != 0, 0, idle + 1)
        capped = truncated | (info["episode_length"] >= max_steps)
        stuck = (idle >= no_progress_steps) if no_progress_steps else np.zeros_like(capped)
        ended = terminated | capped | stuck
        if not ended.any():
            continue
        if watch is not None and ended[0] and not games[0]:
            watch(obs[0])
        for i in np.flatnonzero(ended).tolist():
            if len(games[i]) == quota[i]:
                continue
            ending = "terminated" if terminated[i] else "truncated" if capped[i] else "no_progress"
            games[i].append(
                Game(
                    env_id=i,
                    episode_return=float(info["episode_return"][i]),
                    length=int(info["episode_length"][i]),
                    ending=ending,
                )
            )
        obs, _ = pool.reset(options={"reset_mask": ended})
        idle[ended] = 0
    return [game for played in games for game in played]


def unseen_seed(seed: int, num_envs: int, trained_on: Collection[int]) -> int:
    """The first seed of an evaluation of a run with this seed.

    Args:
        seed: The run's.
        num_envs: Seeds needed in a row.
        trained_on: Seeds of the run's environments.
    """
    first = (seed + EVAL_SEED_OFFSET) % MAX_SEED
    while not set(range(first, first + num_envs)).isdisjoint(trained_on):
        first += num_envs
    return first


def bootstrap_interval(values: Sequence[float], *, resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; the same values give the same interval."""
    sample = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(0)
    means = rng.choice(sample, size=(resamples, len(sample))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return low, high


def published_scores(env_id: str) -> tuple[float, float] | None:
    """Random and human score of an id such as `ALE/Pong-v5`; None outside Atari-57.

    Source: dqn_zoo's atari_data.py (up to 30 no-ops, 108,000 frames), in data/human_scores.json.
    """
    family, _, name = env_id.rpartition("/")
    return human_scores().get(name.rpartition("-")[0]) if family == "ALE" else None


@cache
def human_scores() -> dict[str, tuple[float, float]]:
    """Random and human score of each game of Atari-57, by its name in `ALE/<name>-v5`."""
    text = files("fastrl").joinpath("data/human_scores.json").read_text(encoding="utf-8")
    games = json.loads(text)["games"].values()
    return {game["gym_id"]: (float(game["random"]), float(game["human"])) for game in games}


def _protocol(config: TrainConfig) -> tuple[dict[str, Any], int, int]:
    """Options of `fastrl.make`, agent steps per game, and agent steps without a reward."""
    options = config.make_options
    if not config.is_ale:
        return options, MAX_STEPS, NO_PROGRESS_STEPS
    options |= {
        "episodic_life": False,
        "life_loss_info": False,
        "max_num_frames_per_episode": MAX_FRAMES,
    }
    return options, MAX_FRAMES // int(options.get("frameskip", 4)), 0


def _refuse_training_seeds(seed: int, num_envs: int, trained_on: Collection[int]) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be an integer in [0, {MAX_SEED}], got {seed}")
    shared = sorted(set(range(seed, seed + num_envs)) & set(trained_on))
    if shared:
        raise ValueError(
            f"seed {seed} gives environments {seed} to {seed + num_envs - 1}, but the run was "
            f"trained on {', '.join(map(str, shared))}: choose another"
        )


def _summarise(games: list[Game], **facts: Any) -> EvalReport:
    returns = [game.episode_return for game in games]
    mean = statistics.fmean(returns)
    low, high = bootstrap_interval(returns)
    scores = published_scores(facts["env_id"])
    random_score, human_score = scores if scores is not None else (None, None)
    normalized = None
    if random_score is not None and human_score is not None:
        normalized = (mean - random_score) / (human_score - random_score)
    return EvalReport(
        **facts,
        episodes=len(games),
        mean=mean,
        std=statistics.stdev(returns) if len(returns) > 1 else 0.0,
        median=statistics.median(returns),
        min=min(returns),
        max=max(returns),
        ci_low=low,
        ci_high=high,
        mean_length=statistics.fmean(game.length for game in games),
        random_score=random_score,
        human_score=human_score,
        human_normalized=normalized,
        games=tuple(games),
    )
