"""The native MinAtar games against the `minatar` package, step by step, on the package's draws.

The package is a black box: it is stepped with a random source of ours that writes down every draw,
and its public attributes are read. The native game then replays the recording, and after every
event the observation, reward, end, whole state and number of draws used must be the same.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import minatar
import native_module
import numpy as np
import pytest

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
NOOP, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
RESET, SET, STEP = range(3)
COLUMN_BITS = 1 << np.arange(10)


@pytest.fixture(scope="session")
def native() -> ModuleType:
    return native_module.build("minatar_replay", "minatar")


class Recorder:
    """Stands in for the package's numpy RandomState and writes each draw down.

    A draw is (0, u) for a real number in [0, 1) and (n, k) for an integer 0 <= k < n. A method the
    native games know nothing about is not here, so that the package's use of it would fail.
    """

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)
        self.ranges: list[int] = []
        self.values: list[float] = []

    def rand(self, size: int | None = None) -> Any:
        if size is not None:
            return np.array([self.rand() for _ in range(size)])
        value = self.source.random()
        self.ranges.append(0)
        self.values.append(value)
        return value

    def randint(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        if size is not None:
            return np.array([self.randint(low, high) for _ in range(size)])
        low, high = (0, low) if high is None else (low, high)
        value = self.source.randrange(high - low)
        self.ranges.append(high - low)
        self.values.append(value)
        return low + value


def rows(board: np.ndarray) -> list[int]:
    """The rows of a 10 by 10 board of 0 and 1 as integers, bit 0 the first column."""
    return (board @ COLUMN_BITS).astype(int).tolist()


def encode_asterix(env: Any) -> list[int]:
    state = [env.player_y, env.player_x, env.spawn_speed, env.spawn_timer]
    state += [env.move_speed, env.move_timer, env.ramp_timer, env.ramp_index]
    for lane, entity in enumerate(env.entities):
        if entity is None:
            state.append(0)
        else:
            x, y, right, gold = entity
            assert y == lane + 1
            state += [1, x, int(right), int(gold)]
    return state


def encode_breakout(env: Any) -> list[int]:
    # ball_dir: 0 up left, 1 up right, 2 down right, 3 down left.
    wall = rows(env.brick_map)
    assert not any(wall[:1] + wall[4:])
    state = [int(env.ball_dir in (1, 2)), int(env.ball_dir in (2, 3)), int(env.strike), env.pos]
    state += [env.ball_y, env.ball_x, env.last_y, env.last_x]
    return [*state, wall[1] | wall[2] << 10 | wall[3] << 20]


def encode_freeway(env: Any) -> list[int]:
    state = [env.pos, env.move_timer, env.terminate_timer]
    for lane, (x, y, timer, speed) in enumerate(env.cars):
        assert y == lane + 1
        state += [x, abs(speed), timer, int(speed > 0)]
    return state


def encode_seaquest(env: Any) -> list[int]:
    state = [int(env.sub_or), int(env.surface), env.sub_y, env.sub_x, env.shot_timer]
    state += [env.e_spawn_speed, env.e_spawn_timer, env.d_spawn_timer, env.move_speed]
    state += [env.ramp_index, env.oxygen, env.diver_count]
    for things in (env.f_bullets, env.e_bullets, env.divers, env.e_fish, env.e_subs):
        state.append(len(things))
        for thing in things:
            state += thing
    return state


def encode_space_invaders(env: Any) -> list[int]:
    state = [int(env.alien_dir > 0), env.pos, env.enemy_move_interval, int(env.alien_move_timer)]
    state += [env.alien_shot_timer, env.shot_timer, env.ramp_index]
    return state + rows(np.concatenate((env.alien_map, env.f_bullet_map, env.e_bullet_map)))


ENCODE: dict[str, Callable[[Any], list[int]]] = {
    "asterix": encode_asterix,
    "breakout": encode_breakout,
    "freeway": encode_freeway,
    "seaquest": encode_seaquest,
    "space_invaders": encode_space_invaders,
}


# Policies: good enough to reach what random play does not. Each reads the package's attributes.


def play_asterix(env: Any) -> int:
    """Walks to the gold through lanes where no enemy is near."""

    def value(action: int) -> float:
        x = min(max(env.player_x + (action == RIGHT) - (action == LEFT), 0), 9)
        y = min(max(env.player_y + (action == DOWN) - (action == UP), 1), 8)
        worth = -0.01 * abs(x - 5)
        for entity in env.entities:
            if entity is None:
                continue
            ex, ey, right, gold = entity
            ahead = (x - ex) if right else (ex - x)
            if gold:
                worth += 1.0 / (1 + abs(ex - x) + abs(ey - y))
            elif ey == y and 0 <= ahead <= 3:
                worth -= 10.0 / (1 + ahead)
            elif abs(ey - y) == 1 and 0 <= ahead <= 2:
                worth -= 0.1
        return worth

    return max((NOOP, LEFT, UP, RIGHT, DOWN), key=value)


def play_breakout(env: Any) -> int:
    """Follows the ball, sometimes one column ahead so that it is met with the corner."""
    ahead = (1 if env.ball_dir in (1, 2) else -1) if env.ball_x % 3 == 0 else 0
    target = min(max(env.ball_x + ahead, 0), 9)
    return LEFT if env.pos > target else RIGHT if env.pos < target else NOOP


def play_freeway(env: Any) -> int:
    """Goes up unless a car is about to be where that leads."""
    if 2 <= env.pos <= 9:
        x, _, timer, speed = env.cars[env.pos - 2]
        if x == 4 or (timer <= 1 and x + (1 if speed > 0 else -1) == 4):
            return NOOP
    return UP


def play_seaquest(env: Any) -> int:
    """Keeps out of lanes that are about to be dangerous, shoots, fetches divers, surfaces.

    It surfaces when full or when air runs short, except that every fifth dive it stays down.
    """
    hostile = [*env.e_fish, *env.e_subs, *env.e_bullets]
    stay_down = env.ramp_index % 5 == 4 and env.oxygen < 60
    go_up = env.diver_count >= 6 or (env.diver_count > 0 and env.oxygen < 50)
    goal = None
    if go_up and not stay_down:
        goal = (env.sub_x, 0)
    elif env.divers:
        goal = min(((d[0], d[1]) for d in env.divers), key=lambda d: abs(d[1] - env.sub_y))

    def value(action: int) -> float:
        x = min(max(env.sub_x + (action == RIGHT) - (action == LEFT), 0), 9)
        y = min(max(env.sub_y + (action == DOWN) - (action == UP), 0), 8)
        right = action == RIGHT or (env.sub_or and action != LEFT)
        worth = -20.0 if y == 0 and env.sub_y > 0 and not go_up else 0.0
        for ex, ey, goes_right, *_ in hostile:
            ahead = (x - ex) if goes_right else (ex - x)
            if ey == y and 0 <= ahead <= 2:
                worth -= 10.0 / (1 + ahead)
            if ey == y and ahead > 1 and action == FIRE and goes_right != right:
                worth += 3.0 if env.shot_timer == 0 else 0.0
        if goal is not None:
            worth -= abs(goal[0] - x) + 1.5 * abs(goal[1] - y)
        else:
            worth -= 0.3 * abs(y - 4) + 0.1 * abs(x - 5)
        return worth

    return max((NOOP, LEFT, UP, RIGHT, DOWN, FIRE), key=value)


def shot_hits(env: Any) -> bool:
    """Whether a bullet fired now meets an alien, if they go on marching as they do."""
    aliens, right = env.alien_map, env.alien_dir > 0
    period, timer = min(int(aliens.sum()), env.enemy_move_interval), env.alien_move_timer
    for row in range(8, -1, -1):
        if timer == 0:
            timer = period
            if aliens[:, 9 if right else 0].any():
                aliens, right = np.roll(aliens, 1, axis=0), not right
            else:
                aliens = np.roll(aliens, 1 if right else -1, axis=1)
        timer -= 1
        if aliens[row, env.pos]:
            return True
    return False


def play_space_invaders(env: Any) -> int:
    """Steps out from under bullets, shoots when that will hit, otherwise goes to the aliens."""
    falling = env.e_bullet_map[6:].any(axis=0) | env.alien_map[8:].any(axis=0)
    left_is_free = env.pos > 0 and not falling[env.pos - 1]
    right_is_free = env.pos < 9 and not falling[env.pos + 1]
    if falling[env.pos] and (left_is_free or right_is_free):
        return RIGHT if right_is_free else LEFT
    if env.shot_timer == 0 and shot_hits(env):
        return FIRE
    columns = np.flatnonzero(env.alien_map.any(axis=0))
    target = int(columns[np.abs(columns - env.pos).argmin()])
    if target < env.pos and left_is_free:
        return LEFT
    return RIGHT if target > env.pos and right_is_free else NOOP


PLAY: dict[str, Callable[[Any], int]] = {
    "asterix": play_asterix,
    "breakout": play_breakout,
    "freeway": play_freeway,
    "seaquest": play_seaquest,
    "space_invaders": play_space_invaders,
}


# States set by hand: anything that the rules might meet, likely or not.


def imagine_asterix(env: Any, rng: random.Random) -> None:
    env.player_x, env.player_y = rng.randrange(10), rng.randrange(1, 9)
    env.spawn_speed, env.move_speed = rng.randint(1, 10), rng.randint(1, 5)
    env.spawn_timer, env.move_timer = rng.randint(0, 3), rng.randint(0, 3)
    env.ramp_timer, env.ramp_index = rng.randint(-1, 3), rng.randint(0, 9)
    density = rng.choice((0.2, 0.7, 1.0))
    env.entities = [
        [rng.randrange(10), lane + 1, rng.random() < 0.5, rng.random() < 0.5]
        if rng.random() < density
        else None
        for lane in range(8)
    ]


def imagine_breakout(env: Any, rng: random.Random) -> None:
    env.ball_x, env.ball_y = rng.randrange(10), rng.choice((0, 1, 2, 3, 4, 7, 8))
    env.last_x, env.last_y = rng.randrange(10), rng.randrange(10)
    env.pos, env.ball_dir = rng.randrange(10), rng.randrange(4)
    env.ball_dir = env.ball_dir if env.ball_y < 9 else env.ball_dir % 2
    env.strike = rng.random() < 0.5
    density = rng.choice((0.0, 0.0, 0.3, 0.9))
    env.brick_map = np.zeros((10, 10))
    env.brick_map[1:4] = np.array([rng.random() < density for _ in range(30)]).reshape(3, 10)


def imagine_freeway(env: Any, rng: random.Random) -> None:
    env.pos, env.move_timer = rng.randint(1, 9), rng.choice((0, 0, 1, 3))
    env.terminate_timer = rng.choice((0, 1, 5, 1000))
    env.cars = []
    for lane in range(8):
        speed = rng.choice((-1, 1)) * rng.randint(1, 5)
        env.cars.append([rng.choice((0, 3, 4, 5, 9)), lane + 1, rng.randint(0, abs(speed)), speed])


def imagine_seaquest(env: Any, rng: random.Random) -> None:
    env.sub_x, env.sub_y = rng.randrange(10), rng.choice((0, 1, 1, 2, 5, 8))
    env.sub_or = env.sub_x == 9 or (env.sub_x > 0 and rng.random() < 0.5)
    env.surface = env.sub_y == 0 and rng.random() < 0.5
    env.oxygen, env.diver_count = rng.choice((0, 1, 19, 100, 150, 200)), rng.randint(-2, 6)
    env.e_spawn_speed, env.move_speed = rng.randint(1, 20), rng.randint(2, 5)
    env.e_spawn_timer, env.d_spawn_timer = rng.randint(0, 3), rng.randint(0, 3)
    env.ramp_index = rng.randint(0, 19)
    lanes = rng.sample(range(1, 9), 3)

    def things(most: int, *timers: int) -> list[list[Any]]:
        return [
            [rng.randrange(10), rng.choice(lanes), rng.random() < 0.5]
            + [rng.randint(0, longest) for longest in timers]
            for _ in range(rng.randint(0, most))
        ]

    # The package removes a bullet by its value, which tells only between bullets that cannot meet
    # in play. So each has a row of its own, and the sub holds its fire meanwhile.
    env.f_bullets = [
        [rng.randrange(10), row, rng.random() < 0.5] for row in rng.sample(lanes, rng.randint(0, 3))
    ]
    env.shot_timer = 5 if env.f_bullets else rng.randint(0, 2)
    env.e_bullets = things(3)
    env.divers, env.e_fish, env.e_subs = things(3, 5), things(5, 3), things(5, 3, 3)


def imagine_space_invaders(env: Any, rng: random.Random) -> None:
    env.pos, env.alien_dir = rng.randrange(10), rng.choice((-1, 1))
    env.enemy_move_interval, env.ramp_index = rng.randint(6, 12), rng.randint(0, 6)
    env.alien_move_timer, env.alien_shot_timer = rng.randint(0, 3), rng.randint(0, 3)
    env.shot_timer = rng.choice((0, 0, 3))

    def board(density: float, first: int, last: int) -> np.ndarray:
        cells = np.zeros((10, 10))
        for row in range(first, last):
            cells[row] = [rng.random() < density for _ in range(10)]
        return cells

    lowest = rng.choice((4, 8, 9, 10))
    env.alien_map = board(rng.choice((0.03, 0.3)), max(0, lowest - 4), lowest)
    env.alien_map[rng.randrange(lowest), rng.randrange(10)] = 1
    env.f_bullet_map, env.e_bullet_map = board(0.15, 0, 10), board(0.1, 0, 10)


IMAGINE: dict[str, Callable[[Any, random.Random], None]] = {
    "asterix": imagine_asterix,
    "breakout": imagine_breakout,
    "freeway": imagine_freeway,
    "seaquest": imagine_seaquest,
    "space_invaders": imagine_space_invaders,
}


@dataclass
class Recording:
    """What happened to the package: one entry per event, draws and states in one row each."""

    game: str
    sticky_action_prob: float
    difficulty_ramping: bool
    draws: Recorder
    events: list[int] = field(default_factory=list)
    arguments: list[int] = field(default_factory=list)
    observations: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)
    draws_used: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    state_ends: list[int] = field(default_factory=list)
    set_states: list[int] = field(default_factory=list)

    def write(self, env: Any, event: int, argument: int, reward: float, terminated: bool) -> None:
        """Adds one event and what `env` is afterwards."""
        state = [env.last_action, *ENCODE[self.game](env.env)]
        self.events.append(event)
        self.arguments.append(argument)
        self.observations.append(env.state())
        self.rewards.append(reward)
        self.terminated.append(terminated)
        self.draws_used.append(len(self.draws.values))
        self.states += state
        self.state_ends.append(len(self.states))
        if event == SET:
            self.set_states += state

    def state(self, event: int) -> list[int]:
        return self.states[self.state_ends[event - 1] if event else 0 : self.state_ends[event]]

    def column(self, index: int) -> np.ndarray:
        """Number `index` of the state's fixed part, at each event."""
        starts = np.array([0, *self.state_ends[:-1]])
        return np.array(self.states)[starts + index]


def record(
    game: str,
    *,
    num_steps: int,
    seed: int,
    skill: float = 0.0,
    sticky_action_prob: float = 0.1,
    difficulty_ramping: bool = True,
    steps_between_set: int = 0,
) -> Recording:
    """Plays the package.

    Args:
        game: Its name there.
        num_steps: Steps to take; resets and states set by hand come on top.
        seed: Of the package's draws and of the actions.
        skill: Chance that an action is the policy's and not a random one.
        sticky_action_prob: Passed to the package.
        difficulty_ramping: Passed to the package.
        steps_between_set: Steps from one state set by hand to the next; 0 for none.
    """
    env = minatar.Environment(game, sticky_action_prob, difficulty_ramping)
    draws = Recorder(seed)
    env.random = env.env.random = draws
    recording = Recording(game, sticky_action_prob, difficulty_ramping, draws)
    rng = random.Random(seed + 1)
    terminated = True
    for t in range(num_steps):
        if terminated:
            env.reset()
            env.last_action = NOOP  # Known departure: ours forgets the last episode's action.
            recording.write(env, RESET, 0, 0.0, False)
        if steps_between_set and t % steps_between_set == 0:
            IMAGINE[game](env.env, rng)
            env.last_action = rng.randrange(6)
            recording.write(env, SET, 0, 0.0, False)
        action = PLAY[game](env.env) if rng.random() < skill else rng.randrange(6)
        reward, terminated = env.act(action)
        recording.write(env, STEP, action, reward, terminated)
    return recording


def check(native: ModuleType, theirs: Recording) -> None:
    """Replays on the native game and compares everything, naming the first event that differs."""
    ours = getattr(native, theirs.game).replay(
        theirs.sticky_action_prob,
        theirs.difficulty_ramping,
        np.array(theirs.events, np.int32),
        np.array(theirs.arguments, np.int32),
        np.array(theirs.draws.ranges, np.int32),
        np.array(theirs.draws.values, np.float64),
        np.array(theirs.set_states, np.int32),
    )
    n = len(theirs.events)
    observations = np.array(theirs.observations, np.uint8).reshape(n, -1)
    state_ends = ours["state_ends"]
    differs = {
        "draws used": ours["draws_used"] != np.array(theirs.draws_used),
        "reward": ours["rewards"] != np.array(theirs.rewards),
        "terminated": ours["terminated"] != np.array(theirs.terminated),
        "observation": (ours["observations"] != observations).any(axis=1),
        "state size": state_ends != np.array(theirs.state_ends),
    }
    if not differs["state size"].any():
        cells = np.flatnonzero(ours["states"] != np.array(theirs.states))
        differs["state"] = np.zeros(n, bool)
        differs["state"][np.searchsorted(state_ends, cells, side="right")] = True
    firsts = {what: int(where.argmax()) for what, where in differs.items() if where.any()}
    if not firsts:
        return
    i = min(firsts.values())
    begin = state_ends[i - 1] if i else 0
    pytest.fail(
        f"{theirs.game}: event {i} of {n} differs in {[w for w in firsts if firsts[w] == i]}\n"
        f"event {theirs.events[i]} argument {theirs.arguments[i]}\n"
        f"before: {theirs.state(i - 1) if i else None}\n"
        f"theirs: {theirs.state(i)} reward {theirs.rewards[i]} end {theirs.terminated[i]}\n"
        f"ours:   {ours['states'][begin : state_ends[i]].tolist()}"
        f" reward {ours['rewards'][i]} end {ours['terminated'][i]}\n"
        f"draws:  theirs {theirs.draws_used[i]}, ours {ours['draws_used'][i]} (-1: another kind)"
    )


def reached(recordings: Sequence[Recording]) -> dict[str, float]:
    """Evidence that rare branches were played, from the package's own numbers."""
    ends = np.concatenate([r.terminated for r in recordings])
    column = {
        name: np.concatenate([r.column(index) for r in recordings])
        for name, index in {
            "asterix": {"ramps": 8},
            "breakout": {"bricks": 9},
            "freeway": {"time_left": 3},
            "seaquest": {"ramps": 10, "oxygen": 11, "divers": 12},
            "space_invaders": {"ramps": 7},
        }[recordings[0].game].items()
    }
    facts = {"episodes": float(ends.sum())}
    if "ramps" in column:
        facts["ramps"] = float(column["ramps"].max())
    if "bricks" in column:
        rebuilt = (column["bricks"][:-1] == 0) & (column["bricks"][1:] == 2**30 - 1)
        facts["walls cleared"] = float((rebuilt & ~ends[:-1]).sum())
    if "time_left" in column:
        facts["time limits"] = float((column["time_left"] < 0).sum())
        facts["crossings"] = float(sum(sum(r.rewards) for r in recordings))
    if "oxygen" in column:
        facts["empty tanks"] = float((ends & (column["oxygen"] < 0)).sum())
        facts["full crews landed"] = float((np.diff(column["divers"]) == -7).sum())
        facts["surfacings with a crew below zero"] = float((column["divers"] < -1).any())
    return facts


# What 100,000 steps of play must have met, at least; the states set by hand come on top.
MUST_REACH: dict[str, dict[str, float]] = {
    "asterix": {"episodes": 300, "ramps": 9},
    "breakout": {"episodes": 1_000, "walls cleared": 15},
    "freeway": {"time limits": 30, "crossings": 1_000},
    "seaquest": {
        "episodes": 500,
        "ramps": 8,
        "full crews landed": 1,
        "surfacings with a crew below zero": 1,
        "empty tanks": 20,
    },
    "space_invaders": {"episodes": 300, "ramps": 6},
}


@pytest.mark.parametrize("game", GAMES)
def test_a_hundred_thousand_steps_of_play_are_the_same(native: ModuleType, game: str) -> None:
    recordings = []
    for seed, skill in enumerate((0.0, 0.0, 0.5, 0.8, 0.9, 0.95, 1.0, 1.0, 1.0, 1.0)):
        recordings.append(record(game, num_steps=10_000, seed=seed, skill=skill))
        check(native, recordings[-1])
        recordings[-1].observations.clear()

    facts = reached(recordings)

    for what, least in MUST_REACH[game].items():
        assert facts[what] >= least, (what, facts)


@pytest.mark.parametrize("game", GAMES)
def test_states_set_by_hand_go_on_the_same(native: ModuleType, game: str) -> None:
    check(native, record(game, num_steps=12_000, seed=100, skill=0.3, steps_between_set=4))
    check(native, record(game, num_steps=3_000, seed=101, skill=0.3, steps_between_set=60))


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(
    ("sticky_action_prob", "difficulty_ramping"), [(0.0, True), (0.1, False), (1.0, True)]
)
def test_every_option_plays_the_same(
    native: ModuleType, game: str, sticky_action_prob: float, difficulty_ramping: bool
) -> None:
    options = {
        "sticky_action_prob": sticky_action_prob,
        "difficulty_ramping": difficulty_ramping,
    }
    check(native, record(game, num_steps=2_000, seed=200, skill=0.9, **options))
    check(native, record(game, num_steps=1_000, seed=201, steps_between_set=7, **options))


@pytest.mark.parametrize("draw", [0.1, 0.4])
def test_the_fullest_board_of_seaquest_has_room(native: ModuleType, draw: float) -> None:
    """The bounds in seaquest.h hold: an enemy every step, all subs (0.1) or all fish (0.4)."""
    env = minatar.Environment("seaquest", sticky_action_prob=0.0)
    draws = Recorder(seed=0)
    draws.source.random = lambda: draw
    env.random = env.env.random = draws
    env.env.e_spawn_speed, env.env.e_spawn_timer, env.env.move_speed = 1, 0, 2
    recording = Recording("seaquest", 0.0, True, draws)
    recording.write(env, SET, 0, 0.0, False)
    most = [0, 0, 0]
    for _ in range(300):  # At the surface nothing meets the player.
        recording.write(env, STEP, FIRE, *env.act(FIRE))
        lists = env.env.e_fish, env.env.e_subs, env.env.e_bullets
        most = [max(n, len(things)) for n, things in zip(most, lists, strict=True)]

    check(native, recording)

    assert most == ([29, 0, 0] if draw > 1 / 3 else [0, 29, 8])


@pytest.mark.parametrize("game", GAMES)
def test_shapes_and_action_sets_are_the_same(native: ModuleType, game: str) -> None:
    env = minatar.Environment(game)
    ours = getattr(native, game)

    played = [ours.played_by_minimal_action(i) for i in range(ours.minimal_num_actions)]

    assert tuple(ours.obs_shape) == tuple(env.state_shape())
    assert ours.num_actions == env.num_actions()
    assert played == env.minimal_action_set()


def test_an_episode_does_not_begin_with_the_last_ones_action(native: ModuleType) -> None:
    """The one known departure in play: the package keeps the sticky action across a reset."""
    env = minatar.Environment("breakout", sticky_action_prob=1.0)
    env.last_action = RIGHT
    env.reset()
    assert env.last_action == RIGHT

    events = np.array([RESET, SET, RESET], np.int32)
    state = np.array([RIGHT, *encode_breakout(env.env)], np.int32)
    ranges, values = np.array([2, 2], np.int32), np.zeros(2)
    ours = native.breakout.replay(1.0, True, events, events * 0, ranges, values, state)

    starts = [0, *ours["state_ends"][:-1]]
    assert ours["states"][starts].tolist() == [NOOP, RIGHT, NOOP]


@pytest.mark.parametrize("game", GAMES)
def test_the_same_seed_plays_the_same_game(native: ModuleType, game: str) -> None:
    play = getattr(native, game).fingerprint

    prints = [play(seed, 5_000) for seed in range(20)]

    assert prints == [play(seed, 5_000) for seed in range(20)]
    assert len(set(prints)) == 20


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 8])
def test_integers_are_drawn_evenly_below_their_bound(native: ModuleType, n: int) -> None:
    counts = np.bincount(native.below(n, n, 60_000), minlength=n)

    assert len(counts) == n
    # Six standard deviations of a binomial count: by chance once in 10^8.
    np.testing.assert_allclose(counts, 60_000 / n, atol=6 * np.sqrt(60_000 * (n - 1)) / n)
