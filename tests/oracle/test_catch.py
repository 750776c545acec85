"""Every start and every action string of Catch, against the rules written out in Python."""

import itertools

import numpy as np

import fastrl

ROWS, COLS = 10, 5


def play(ball_col: int, actions: tuple[int, ...]) -> tuple[list[np.ndarray], float]:
    """The boards before and after each move, and the one reward, at the end."""
    paddle = COLS // 2
    boards = []
    for row in range(ROWS):
        if row:
            paddle = min(max(paddle + actions[row - 1] - 1, 0), COLS - 1)
        board = np.zeros((1, ROWS, COLS), np.uint8)
        board[0, row, ball_col] = 1
        board[0, ROWS - 1, paddle] = 1
        boards.append(board)
    return boards, 1.0 if paddle == ball_col else -1.0


def test_every_game_of_catch_follows_the_rules() -> None:
    strings = list(itertools.product(range(3), repeat=ROWS - 1))
    pool = fastrl.make("Catch-v0", num_envs=len(strings), autoreset_mode="SameStep")
    starts = set()
    for seed in range(4):
        obs, _ = pool.reset(seed=seed)
        balls = obs[:, 0, 0].argmax(axis=1)
        starts |= set(balls.tolist())
        games = [play(ball, string) for ball, string in zip(balls, strings, strict=True)]
        np.testing.assert_array_equal(obs, [boards[0] for boards, _ in games])
        for t in range(ROWS - 1):
            obs, reward, terminated, truncated, info = pool.step([s[t] for s in strings])
            last = t == ROWS - 2
            np.testing.assert_array_equal(
                info["final_obs"] if last else obs, [boards[t + 1] for boards, _ in games]
            )
            assert terminated.all() == last
            assert terminated.any() == last
            assert not truncated.any()
            np.testing.assert_array_equal(reward, [end if last else 0.0 for _, end in games])
    assert starts == set(range(COLS))
