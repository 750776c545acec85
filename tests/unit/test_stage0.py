"""Stage 0 of the learned discount: is the yardstick right, and is the study what it says?"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import stage0
import torch
from stage0_learning import Judgement, Learner, evaluate, learn, play_frozen
from stage0_report import verdict
from stage0_tasks import (
    COST_WORSE,
    EVALUATED,
    Simulator,
    Task,
    action_values,
    chain,
    payoff,
    uniform_policy,
)

UNLIMITED = [task for task in EVALUATED if not task.longest_limit]
by_name = pytest.mark.parametrize("task", UNLIMITED, ids=lambda task: task.name)


def episode_length(task: Task) -> int:
    """Every episode of a task without a time limit has the same number of steps."""
    steps = Simulator(task, 1, np.random.default_rng(0)).play(uniform_policy(task), 200)
    return int(np.flatnonzero(steps.terminated[:, 0])[0]) + 1


@by_name
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_exact_values_are_the_mean_of_sampled_returns(task: Task, gamma: float) -> None:
    policy = np.tile((0.7, 0.3), (task.num_observations, 1))
    length, num_envs = episode_length(task), 2000
    steps = Simulator(task, num_envs, np.random.default_rng(1)).play(policy, length)
    assert steps.terminated[-1].all()

    returns = (gamma ** np.arange(length)[:, None] * steps.rewards).sum(0)
    exact = action_values(task, policy, gamma)

    for action in range(2):
        mine = returns[steps.actions[0] == action]
        error = mine.std(ddof=1) / np.sqrt(len(mine))
        # 4.5 standard errors: 1 in 150,000 for each of the 24 means.
        assert abs(mine.mean() - exact.q[0, action]) < 4.5 * error + 1e-9
    np.testing.assert_allclose(exact.v[0], 0.7 * exact.q[0, 0] + 0.3 * exact.q[0, 1], atol=1e-12)


def advantages_with_exact_critic(
    task: Task, gamma: float, gae_lambda: float, *, episodes: int
) -> tuple[np.ndarray, np.ndarray]:
    """First-step advantages of many whole episodes, undiscounted values; and the actions."""
    config = stage0.arm_config(0, 4, gamma=gamma, gae_lambda=gae_lambda)
    learner = Learner(task, config, frozen=True)
    exact = action_values(task, uniform_policy(task), 1.0)
    learner.policy.critic.weight.data[:, 0] = torch.from_numpy(exact.v).float()
    simulator = Simulator(task, episodes, np.random.default_rng(2))
    steps = simulator.play(uniform_policy(task), episode_length(task))
    found = learner.estimator.estimate(learner.rollout(steps)).advantages[0].double().numpy()
    return found, steps.actions[0]


@pytest.mark.parametrize("task", [chain(16), COST_WORSE, payoff()], ids=lambda task: task.name)
def test_gae_1_1_has_no_bias_for_the_undiscounted_objective(task: Task) -> None:
    found, actions = advantages_with_exact_critic(task, 1.0, 1.0, episodes=2000)
    exact = action_values(task, uniform_policy(task), 1.0).advantage[0]
    for action in range(2):
        mine = found[actions == action]
        error = mine.std(ddof=1) / np.sqrt(len(mine))
        # Float32 sums of 80 rewards: 1e-5.
        assert abs(mine.mean() - exact[action]) < 4.5 * error + 1e-5


def test_a_short_discount_has_a_bias() -> None:
    found, actions = advantages_with_exact_critic(chain(16), 0.9, 1.0, episodes=2000)
    assert abs(found[actions == 1].mean() - 1.0) > 0.5


@pytest.mark.parametrize(
    "overrides",
    [
        {"advantage": "variance-gamma", "vd_eta": 0.0},
        {"advantage": "variance-lambda", "vd_zeta": 0.0},
        {"advantage": "variance-lambda", "control": "head-only"},
    ],
    ids=["eta 0", "zeta 0", "head-only"],
)
def test_without_effect_an_arm_is_gae_exactly(overrides: dict[str, object]) -> None:
    task = chain(16, limit=40)
    plain = stage0.arm_config(3, 6)
    data = play_frozen(task, plain)
    ours = evaluate(task, stage0.arm_config(3, 6, **overrides), data).windows
    theirs = evaluate(task, plain, data).windows
    for window, numbers in theirs.items():
        assert numbers == {key: ours[window][key] for key in numbers}


@pytest.mark.parametrize("arm", ["gae", "variance-gamma", "variance-horizon", "stream-time"])
def test_the_fast_critic_step_is_that_of_ppo_update(arm: str) -> None:
    task = COST_WORSE
    config = stage0.arm_config(7, 4, **stage0.ARMS[arm], num_envs=4, vd_horizon=8)
    data = play_frozen(task, config)[:3]
    fast, full = (Learner(task, config, frozen=True) for _ in range(2))
    full.frozen = False
    full.policy.actor.requires_grad_(False)
    for steps in data:
        fast.update(steps)
        full.update(steps)
    assert any(bool(x.any()) for x in fast.policy.parameters())
    for ours, theirs in zip(fast.policy.parameters(), full.policy.parameters(), strict=True):
        # Adam divides by the root of the squares: sums in another order may differ by 1e-5.
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_with_effect_an_arm_is_not_gae() -> None:
    task = chain(16, limit=40)
    data = play_frozen(task, stage0.arm_config(3, 6))
    for arm in ("variance-gamma", "variance-lambda", "variance-horizon"):
        ours = evaluate(task, stage0.arm_config(3, 6, **stage0.ARMS[arm]), data).windows
        theirs = evaluate(task, stage0.arm_config(3, 6), data).windows
        assert ours["settled"]["mse_gamma0"] != theirs["settled"]["mse_gamma0"]


@pytest.mark.parametrize("task", EVALUATED, ids=lambda task: task.name)
def test_a_step_leads_to_the_next_unless_a_time_limit_cuts(task: Task) -> None:
    steps = Simulator(task, 8, np.random.default_rng(4)).play(uniform_policy(task), 200)
    goes_on = ~steps.truncated[:-1]
    assert (steps.next_states[:-1] == steps.states[1:])[goes_on].all()
    assert (steps.states[1:] == 0)[(steps.terminated | steps.truncated)[:-1]].all()
    assert steps.truncated.any() == bool(task.longest_limit)
    assert not (steps.truncated & steps.terminated).any()
    assert steps.terminated.any() or task.longest_limit


@pytest.mark.parametrize("task", EVALUATED, ids=lambda task: task.name)
def test_only_the_first_state_is_a_decision(task: Task) -> None:
    advantage = action_values(task, uniform_policy(task), 1.0).advantage
    assert abs(advantage[0, 1]) > 0.01
    np.testing.assert_allclose(advantage[1:], 0.0, atol=1e-12)


def test_a_blind_critic_sees_the_choice_when_it_is_paid() -> None:
    task = chain(16, blind=True)
    assert task.observed[1] == task.observed[17]
    assert len(set(task.observed[[0, 1, 16, 33]])) == 4
    assert task.num_observations == task.num_states - 16


def test_bias_and_variance_add_up_to_the_error() -> None:
    task = payoff()
    exact = {"undiscounted": action_values(task, uniform_policy(task), 1.0)}
    judged = Judgement(exact=exact)
    steps = Simulator(task, 8, np.random.default_rng(5)).play(uniform_policy(task), 64)
    true = exact["undiscounted"].advantage[steps.states, steps.actions]

    judged.add(steps, torch.from_numpy(true + 0.5))

    numbers = judged.numbers()
    assert numbers["mse_undiscounted"] == pytest.approx(0.25)
    assert numbers["bias2_undiscounted"] == pytest.approx(0.25)
    assert numbers["variance_undiscounted"] == pytest.approx(0.0)
    assert numbers["corr_undiscounted"] == pytest.approx(1.0)


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(0.99, 0.95), (0.9, 0.5), (0.999, 0.0)])
def test_fixed_rates_have_the_contraction_asked_for(gamma: float, gae_lambda: float) -> None:
    contraction = gamma * (1.0 - gae_lambda) / (1.0 - gamma * gae_lambda)
    for given in ({"gamma": gamma}, {"gae_lambda": gae_lambda}):
        found = stage0.fixed_at_contraction(contraction, **given)
        assert found == pytest.approx((gamma, gae_lambda), abs=1e-9)


def test_a_verdict_needs_the_whole_interval() -> None:
    assert verdict((0.2, 0.1, 0.3), less_is_better=False) == 1
    assert verdict((0.2, 0.1, 0.3), less_is_better=True) == -1
    assert verdict((0.1, -0.1, 0.3), less_is_better=True) == 0


def test_ppo_learns_the_better_side() -> None:
    easy = dataclasses.replace(payoff(), probability=payoff().probability.copy())
    easy.probability[16] = (0.0, 1.0)
    easy.probability[32] = (1.0, 0.0)
    found = learn(easy, stage0.arm_config(6, 8))
    assert found.curve[0] == 0.5
    assert found.curve[-1] > 0.9


def test_a_quick_study_writes_its_table_and_figure(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        assert stage0.main(["--quick", "--out", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    (numbers,) = tmp_path.glob("*.json")
    results = json.loads(numbers.read_text(encoding="utf-8"))
    arms = results["evaluation"]["chain-16-limit"]
    assert {"gae", "yoked-gamma", "matched-lambda", "best-suite", "gae-limit-is-end"} <= set(arms)
    assert "| variance-lambda |" in numbers.with_suffix(".md").read_text(encoding="utf-8")
    assert numbers.with_suffix(".png").stat().st_size > 10_000


def test_quick_numbers_do_not_go_where_results_are_published() -> None:
    with pytest.raises(SystemExit):
        stage0.main(["--quick"])
