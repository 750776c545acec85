"""Scores that can be averaged over games: 0 plays at random, 1 like the game's reference."""

import math
from collections.abc import Mapping
from types import MappingProxyType

MINATAR_SCORES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "Asterix": (0.50, 35.67),
        "Breakout": (0.39, 38.35),
        "Freeway": (0.44, 64.53),
        "Seaquest": (0.10, 58.94),
        "SpaceInvaders": (4.07, 370.20),
    }
)
"""Mean return of uniformly random play (256 environments x 6,000 steps, seed 7, version v1) and of
PPO with the `minatar` preset after 5M steps (benchmarks/results/minatar_*.md, three seeds)."""

CATCH_SCORES = (-1.0, 1.0)
"""Every ball missed, every ball caught."""


def score_range(env_id: str) -> tuple[float, float]:
    """Returns that count as 0 and as 1: random and human for Atari, random and PPO for MinAtar.

    Raises:
        ValueError: Nothing is known of the game.
    """
    family, _, name = env_id.rpartition("/")
    game = name.rpartition("-")[0]
    found: tuple[float, float] | None = None
    if family == "MinAtar":
        found = MINATAR_SCORES.get(game)
    elif family == "ALE":
        from fastrl.evaluate import published_scores

        found = published_scores(env_id)
    elif game == "Catch":
        found = CATCH_SCORES
    if found is None:
        raise ValueError(f"{env_id} has no normalised score: MinAtar, Atari-57 and Catch have")
    return found


def normalized_score(env_id: str, mean_return: float) -> float:
    """The return on the game's own scale; NaN stays NaN.

    Args:
        env_id: What was played.
        mean_return: Undiscounted and unclipped.

    Raises:
        ValueError: Nothing is known of the game.
    """
    low, high = score_range(env_id)
    return (mean_return - low) / (high - low) if math.isfinite(mean_return) else math.nan
