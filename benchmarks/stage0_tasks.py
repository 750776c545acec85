"""The small tasks of stage 0: tables whose advantages are known exactly.

Every task is episodic, starts in state 0 and has two actions. Only state 0 is a decision: elsewhere
both actions do the same, so that their advantage is 0.

Shapes: S states, A = 2 actions, O = 2 outcomes of an action, T steps, N environments.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_ACTIONS = 2
END = -1
"""Next state of an outcome that is terminal."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A Markov decision process, what is seen of its state, and a time limit that it ignores."""

    name: str
    probability: NDArray[np.float64]
    """(S, A, O)."""
    next_state: NDArray[np.int64]
    """(S, A, O), END for a terminal outcome."""
    reward: NDArray[np.float64]
    """(S, A, O) mean."""
    noise: NDArray[np.float64]
    """(S, A, O) standard deviation of the Gaussian added to it."""
    observed: NDArray[np.int64]
    """(S,) observation of each state."""
    longest_limit: int = 0
    """An episode is cut after a number of steps drawn from 1 to this; 0 does not cut."""
    delay: int = 0
    """Steps from the decision to the reward that it changes."""

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.observed)

    @property
    def num_observations(self) -> int:
        """Different observations."""
        return int(self.observed.max()) + 1


def _blank(num_states: int) -> dict[str, NDArray]:
    shape = (num_states, NUM_ACTIONS, 2)
    probability = np.zeros(shape)
    probability[..., 0] = 1.0
    return {
        "probability": probability,
        "next_state": np.full(shape, END),
        "reward": np.zeros(shape),
        "noise": np.zeros(shape),
        "observed": np.arange(num_states),
    }


def chain(
    delay: int, *, noise: float = 0.1, length: int = 80, blind: bool = False, limit: int = 0
) -> Task:
    """(a) and (d): the decision pays +1 or -1 `delay` steps later; every reward has noise.

    The critic sees the position and, until it is paid, the choice; `blind` hides the choice. The
    episode goes on without any payoff until it has lasted `length` steps.
    """
    tail = length - delay - 1
    num_states = 1 + 2 * delay + tail
    tables = _blank(num_states)
    tables["noise"][:] = noise
    first_of_tail = 1 + 2 * delay
    for choice in range(2):
        first = 1 + choice * delay
        tables["next_state"][0, choice] = first
        for i in range(delay):
            tables["next_state"][first + i] = first + i + 1
        tables["next_state"][first + delay - 1] = first_of_tail if tail else END
        tables["reward"][first + delay - 1] = 1.0 if choice else -1.0
    for i in range(tail - 1):
        tables["next_state"][first_of_tail + i] = first_of_tail + i + 1
    if blind:
        seen = np.arange(num_states)
        seen[1 + delay : 1 + 2 * delay] = seen[1 : 1 + delay]
        seen[1 + 2 * delay :] -= delay
        tables["observed"] = seen
    name = f"chain-{delay}" + "-blind" * blind + "-limit" * (limit > 0)
    name += f"-noise{noise:g}" * (noise != 0.1)
    return Task(name=name, longest_limit=limit, delay=delay, **tables)


def corridor(
    *, quiet: float, noisy: float, name: str, noise: float = 0.3, length: int = 16
) -> Task:
    """(b): two paths of equal length; each step pays `quiet` or `noisy`, the latter with noise."""
    tables = _blank(1 + 2 * length)
    for path, reward in enumerate((quiet, noisy)):
        first = 1 + path * length
        tables["next_state"][0, path] = first
        for i in range(length):
            tables["next_state"][first + i] = first + i + 1 if i < length - 1 else END
            tables["reward"][first + i] = reward
            tables["noise"][first + i] = noise * path
    return Task(name=name, delay=length, **tables)


def payoff(*, length: int = 16) -> Task:
    """(c): rewards that are certain but nobody's doing, then +-1 with odds that the decision sets.

    The chosen branch pays +1 with probability .6 and -1 with .4, the other the reverse. On the way
    every other step pays .3.
    """
    tables = _blank(1 + 2 * length)
    for choice in range(2):
        first = 1 + choice * length
        tables["next_state"][0, choice] = first
        for i in range(length - 1):
            tables["next_state"][first + i] = first + i + 1
            tables["reward"][first + i] = 0.3 * (i % 2)
        last = first + length - 1
        tables["probability"][last] = (0.6, 0.4) if choice else (0.4, 0.6)
        tables["reward"][last] = (1.0, -1.0)
    return Task(name="payoff", delay=length, **tables)


COST_WORSE = corridor(quiet=-0.1, noisy=-0.11, name="corridor-cost-worse")
"""The noisy path costs 10 % more."""
COST_EQUAL = corridor(quiet=-0.1, noisy=-0.1, name="corridor-cost-equal")
GAIN_EQUAL = corridor(quiet=0.1, noisy=0.1, name="corridor-gain-equal")

EVALUATED = (
    chain(4),
    chain(16),
    chain(64),
    chain(16, blind=True),
    chain(16, limit=80),
    COST_WORSE,
    payoff(),
)
"""Tasks of the policy evaluation (e)."""
LEARNED = (COST_WORSE, COST_EQUAL, GAIN_EQUAL, payoff())
"""Tasks on which a policy is learned."""


class ActionValues(NamedTuple):
    """Exact values of a policy."""

    q: NDArray[np.float64]
    """(S, A)."""
    v: NDArray[np.float64]
    """(S,)."""

    @property
    def advantage(self) -> NDArray[np.float64]:
        """(S, A)."""
        return self.q - self.v[:, None]


def action_values(task: Task, policy: NDArray[np.float64], gamma: float) -> ActionValues:
    """Q and V by solving Bellman's equation; time limits are no part of the task.

    Args:
        task: Ends with probability 1, so that gamma may be 1.
        policy: (observations, A) probabilities.
        gamma: In [0, 1].
    """
    ahead = task.next_state != END
    reward = (task.probability * task.reward).sum(-1)
    pi = policy[task.observed]
    moves = np.zeros((task.num_states, NUM_ACTIONS, task.num_states))
    for s, a, o in np.argwhere(ahead):
        moves[s, a, task.next_state[s, a, o]] += task.probability[s, a, o]
    transition = np.einsum("sa,sat->st", pi, moves)
    v = np.linalg.solve(np.eye(task.num_states) - gamma * transition, (pi * reward).sum(-1))
    return ActionValues(q=reward + gamma * moves @ v, v=v)


class Steps(NamedTuple):
    """T steps of N environments: what happened, without what anyone thought of it."""

    states: NDArray[np.int64]
    """(T, N)."""
    next_states: NDArray[np.int64]
    """(T, N) before any autoreset; the next episode's start after a terminal step."""
    actions: NDArray[np.int64]
    """(T, N)."""
    rewards: NDArray[np.float64]
    """(T, N)."""
    terminated: NDArray[np.bool_]
    """(T, N)."""
    truncated: NDArray[np.bool_]
    """(T, N)."""


class Simulator:
    """N environments of one task, stepped together, reset within the step that ends an episode."""

    def __init__(self, task: Task, num_envs: int, rng: np.random.Generator) -> None:
        """Starts every environment in state 0."""
        self.task = task
        self.rng = rng
        self.state = np.zeros(num_envs, dtype=np.int64)
        self.steps_left = self._limits(num_envs)

    def _limits(self, count: int) -> NDArray[np.int64]:
        longest = self.task.longest_limit
        if not longest:
            return np.full(count, np.iinfo(np.int64).max)
        return self.rng.integers(1, longest + 1, count)

    def play(self, policy: NDArray[np.float64], num_steps: int) -> Steps:
        """T steps with (observations, A) probabilities."""
        task, shape = self.task, (num_steps, len(self.state))
        draws = self.rng.random((3, *shape))
        normal = self.rng.standard_normal(shape)
        first = policy[task.observed, 0]
        states, next_states, actions = (np.empty(shape, dtype=np.int64) for _ in range(3))
        outcomes = np.empty(shape, dtype=np.int64)
        terminated, truncated = (np.empty(shape, dtype=np.bool_) for _ in range(2))
        for t in range(num_steps):
            state = states[t] = self.state
            action = actions[t] = (draws[0, t] >= first[state]).astype(np.int64)
            unlikely = draws[1, t] >= task.probability[state, action, 0]
            outcome = outcomes[t] = unlikely.astype(np.int64)
            reached = task.next_state[state, action, outcome]
            terminated[t] = reached == END
            self.steps_left -= 1
            truncated[t] = (self.steps_left == 0) & ~terminated[t]
            next_states[t] = np.where(terminated[t], 0, reached)
            ended = terminated[t] | truncated[t]
            self.state = np.where(ended, 0, reached)
            if task.longest_limit and ended.any():
                self.steps_left[ended] = self._limits(int(ended.sum()))
        at = states, actions, outcomes
        rewards = task.reward[at] + task.noise[at] * normal
        return Steps(states, next_states, actions, rewards, terminated, truncated)


def uniform_policy(task: Task) -> NDArray[np.float64]:
    """(observations, A)."""
    return np.full((task.num_observations, NUM_ACTIONS), 1.0 / NUM_ACTIONS)
