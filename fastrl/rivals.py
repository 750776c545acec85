"""One gamma and one lambda for all states, adapted while training: rivals of a learned discount.

Both are published methods, rebuilt from their papers; where a paper leaves something open, the
class says what was chosen. With `fastrl.discount` they share the question, not the answer: neither
looks at single states.

Shapes: T rollout steps, N environments, M chosen steps.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from fastrl import ops
from fastrl.config import TrainConfig
from fastrl.estimators import (
    Ema,
    Estimate,
    Gae,
    Warmup,
    fixed_gae,
    flat_steps,
    gae_of,
    masked_variance,
    one_gamma_metrics,
)
from fastrl.ppo import Batch, ppo_loss
from fastrl.rollout import Rollout


class ExplainedLambda(Gae):
    """GAE with a lambda that falls as the critic explains more of the returns.

        lambda = high - (high - low) * EV,     EV = 1 - Var(G - V) / Var(G)  in [0, 1]

    EV is a running mean over updates, of returns at the configured gamma and lambda, so that
    lambda does not judge itself. After Mohammadpour et al. 2026 (doi 10.22124/jmm.2025.29704.2654),
    whose abstract names the signals, explained variance and value loss, but no formula: this one is
    ours, and so is the warm-up.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Starts with the configured lambda."""
        super().__init__(config)
        self.warmup = Warmup(config, "lambda_mean")
        self.explained = Ema((), device)

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> Estimate:
        """See `Estimator`."""
        config = self.config
        low, high = config.lambda_low, config.lambda_high
        trust = torch.where(self.explained.weight > 0.0, self.warmup.factor(), 0.0)
        learned = high - (high - low) * self.explained.value()
        gae_lambda = ((1.0 - trust) * config.gae_lambda + trust * learned).float()
        advantages = gae_of(
            rollout,
            rollout.values,
            rollout.next_values,
            config.gamma,
            gae_lambda.expand_as(rollout.rewards),
        )

        errors = fixed_gae(rollout, config)
        unexplained = masked_variance(errors, rollout.valid)
        share = unexplained / masked_variance(errors + rollout.values, rollout.valid)
        self.explained.update((1.0 - share).clamp(0.0, 1.0))
        self.warmup.updates += 1
        skill = {"skill": self.explained.value()}
        gamma = torch.full_like(gae_lambda, config.gamma)  # On the device, as `fetch` needs it.
        return _judged(rollout, advantages, gamma, gae_lambda, skill)

    def state_dict(self) -> dict[str, Any]:
        """See `Estimator`."""
        return {"updates": self.warmup.updates, "explained": self.explained.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Estimator`."""
        self.warmup.updates = state["updates"]
        self.explained.load_state_dict(state["explained"])


class MetaGradient(Gae):
    """GAE whose gamma and lambda follow the gradient of what they do to the policy.

    Half of the environments teach, the other half judge. PPO's first gradient step on the teaching
    half is differentiated by eta = (gamma, lambda), which its advantages and returns depend on, and
    weighed with what it does to the policy loss on the judging half, where gamma is as configured
    and lambda is 1. Adam steps on the log-odds of eta:

        d J' / d eta = < d (grad L_teaching) / d eta, grad L_judging >

    Xu et al. 2018 (arXiv:1805.09801, with their mu of 0). They judge on the next sample, with the
    weights after the step, and tell the critic what gamma is; here both halves are of one rollout,
    the weights are those before the step, and the critic follows gamma as it moves.
    """

    def __init__(self, config: TrainConfig, device: torch.device, policy: nn.Module) -> None:
        """Starts with the configured gamma and lambda; reads the policy, never changes it."""
        super().__init__(config)
        self.policy = policy
        self.generator = torch.Generator(device).manual_seed(config.seed + 2**33)
        bounds = (
            (config.gamma_low, config.gamma, config.gamma_high),
            (config.lambda_low, config.gae_lambda, config.lambda_high),
        )
        low, start, high = torch.tensor(bounds, dtype=torch.float64, device=device).logit().T
        self.bounds = low, high
        self.log_odds = start.clone().requires_grad_()
        """(2,) float64, of gamma and of lambda."""
        self.optimizer = torch.optim.Adam([self.log_odds], lr=config.meta_lr)

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> Estimate:
        """See `Estimator`."""
        gamma, gae_lambda = self.log_odds.sigmoid().float()
        everywhere = gamma.expand_as(rollout.rewards), gae_lambda.expand_as(rollout.rewards)
        advantages = gae_of(rollout, rollout.values, rollout.next_values, *everywhere)
        if self.config.meta_lr > 0:
            self.log_odds.grad = -self.gradient(rollout, advantages)
            self.optimizer.step()  # pyright: ignore[reportUnknownMemberType]
            self.log_odds.clamp_(*self.bounds)
        return _judged(rollout, advantages, gamma, gae_lambda, {})

    def gradient(self, rollout: Rollout, advantages: Tensor) -> Tensor:
        """(2,) float64: of the judged objective by the log-odds; 0 where it is not finite.

        Args:
            rollout: As collected by the policy, with the weights that it has now.
            advantages: (T, N) under the present gamma and lambda.
        """
        config = self.config
        judging, teaching = self._halves(rollout)
        final = gae_of(rollout, rollout.values, rollout.next_values, config.gamma, 1.0)
        parameters = list(self.policy.parameters())

        def slope(advantages: Tensor, steps: Tensor, config: TrainConfig) -> list[Tensor]:
            """Of the PPO loss on some steps, by every weight; can be differentiated again."""
            columns = rollout.actions, rollout.logprobs, advantages + rollout.values, rollout.values
            actions, logprobs, returns, values = (x.flatten() for x in columns)
            batch = Batch(
                obs=rollout.obs.at(slice(-1)).flatten(),
                actions=actions,
                logprobs=logprobs,
                advantages=advantages.flatten(),
                returns=returns,
                values=values,
            )
            loss, _ = ppo_loss(self.policy, batch, steps, config)
            return list(
                torch.autograd.grad(
                    loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True
                )
            )

        # What torch.compile makes cannot be differentiated twice.
        with torch.enable_grad(), torch.compiler.set_stance("force_eager"):
            log_odds = self.log_odds.detach().clone().requires_grad_()
            rates = log_odds.sigmoid()
            now = rates.detach()
            moved = (rates - now).float()
            slopes = gae_slopes(rollout, advantages, float(now[0]), float(now[1]))
            taught = advantages + slopes[0] * moved[0] + slopes[1] * moved[1]
            policy_only = dataclasses.replace(config, vf_coef=0.0, ent_coef=0.0)
            wanted = slope(final, judging, policy_only)
            steps = slope(taught, teaching, config)
            effect = sum(
                ((x * y.detach()).sum() for x, y in zip(steps, wanted, strict=True)),
                start=log_odds.new_zeros(()),
            )
            (gradient,) = torch.autograd.grad(effect, log_odds)
        return torch.where(torch.isfinite(gradient), gradient, 0.0)

    def _halves(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Flat steps (M,) of two halves of the environments, at most a minibatch of each."""
        device, (_, num_envs) = rollout.rewards.device, rollout.rewards.shape
        order = torch.randperm(num_envs, generator=self.generator, device=device)
        halves: list[Tensor] = []
        for envs in (order[: num_envs // 2], order[num_envs // 2 :]):
            chosen = torch.zeros(num_envs, dtype=torch.bool, device=device)
            chosen[envs] = True
            steps = flat_steps(rollout.valid & chosen)
            some = torch.randperm(len(steps), generator=self.generator, device=device)
            halves.append(steps[some[: self.config.minibatch_size]])
        return halves[0], halves[1]

    def state_dict(self) -> dict[str, Any]:
        """See `Estimator`."""
        return {
            "log_odds": self.log_odds.detach(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Estimator`."""
        with torch.no_grad():
            self.log_odds.copy_(state["log_odds"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])


def gae_slopes(
    rollout: Rollout, advantages: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Derivatives of GAE by gamma and by lambda, both (T, N): each a scan like GAE's own.

        dA_t/dgamma  = V(s_{t+1}) + lambda A_{t+1} + gamma lambda dA_{t+1}/dgamma
        dA_t/dlambda =               gamma A_{t+1} + gamma lambda dA_{t+1}/dlambda

    Args:
        rollout: For its values and ends.
        advantages: (T, N) at this gamma and lambda.
        gamma: Of all steps.
        gae_lambda: Of all steps.
    """
    ends = rollout.terminated, rollout.truncated
    following = torch.cat((advantages[1:], torch.zeros_like(advantages[:1])))
    following = following.masked_fill(ends[0] | ends[1], 0.0)
    bootstrap = rollout.next_values.masked_fill(ends[0], 0.0)
    nothing = torch.zeros_like(advantages)

    def scan(x: Tensor) -> Tensor:
        return ops.gae(x, nothing, nothing, *ends, gamma=gamma, gae_lambda=gae_lambda)

    return scan(bootstrap + gae_lambda * following), scan(gamma * following)


def _judged(
    rollout: Rollout,
    advantages: Tensor,
    gamma: Tensor,
    gae_lambda: Tensor,
    metrics: dict[str, Tensor],
) -> Estimate:
    """The estimate of one gamma and one lambda, each 0-d, and what there is to log of them."""
    metrics = metrics | one_gamma_metrics(gamma, gae_lambda)
    metrics |= {
        "lambda_mean": gae_lambda,
        "advantage_var": masked_variance(advantages, rollout.valid),
    }
    returns = advantages + rollout.values
    return Estimate(advantages=advantages, returns=returns, values=rollout.values, metrics=metrics)
