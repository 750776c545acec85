"""Our PPO update against CleanRL's, written out here from its formulas.

Peer: cleanrl/ppo_atari_envpool.py (MIT, https://github.com/vwxyzjn/cleanrl), the bootstrap and
the update loop, in float64 so that only a difference of meaning can show.
"""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions.categorical import Categorical

from fastrl.advantages import gae
from fastrl.config import TrainConfig, config_for
from fastrl.ppo import Batch, minibatch_indices, ppo_update, sample_actions

T, N, ACTIONS, OBS = 16, 8, 4, 6


class Agent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(OBS, 32), nn.Tanh())
        self.actor = nn.Linear(32, ACTIONS)
        self.critic = nn.Linear(32, 1)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(obs.double() / 255.0)
        return self.actor(hidden), self.critic(hidden).squeeze(-1)


def cleanrl_gae(
    rewards: Tensor,
    values: Tensor,
    dones: Tensor,
    next_value: Tensor,
    next_done: Tensor,
    args: TrainConfig,
) -> Tensor:
    """CleanRL's loop: `dones[t]` says that obs[t] begins an episode."""
    advantages = torch.zeros_like(rewards)
    lastgaelam = torch.zeros_like(next_value)
    for t in reversed(range(T)):
        if t == T - 1:
            nextnonterminal = 1.0 - next_done
            nextvalues = next_value
        else:
            nextnonterminal = 1.0 - dones[t + 1]
            nextvalues = values[t + 1]
        delta = rewards[t] + args.gamma * nextvalues * nextnonterminal - values[t]
        lastgaelam = delta + args.gamma * args.gae_lambda * nextnonterminal * lastgaelam
        advantages[t] = lastgaelam
    return advantages


def cleanrl_update(
    agent: Agent, optimizer: torch.optim.Adam, batch: Batch, args: TrainConfig, orders: list[Tensor]
) -> None:
    """CleanRL's update loop; `orders` are the shuffled `b_inds` of its epochs."""
    for b_inds in orders:
        for start in range(0, len(b_inds), args.minibatch_size):
            mb_inds = b_inds[start : start + args.minibatch_size]
            logits, newvalue = agent(batch.obs[mb_inds])
            probs = Categorical(logits=logits)
            newlogprob = probs.log_prob(batch.actions[mb_inds])
            entropy = probs.entropy()
            logratio = newlogprob - batch.logprobs[mb_inds]
            ratio = logratio.exp()

            mb_advantages = batch.advantages[mb_inds]
            if args.norm_adv:
                mb_advantages = (mb_advantages - mb_advantages.mean()) / (
                    mb_advantages.std() + 1e-8
                )

            pg_loss1 = -mb_advantages * ratio
            pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - args.clip_coef, 1 + args.clip_coef)
            pg_loss = torch.max(pg_loss1, pg_loss2).mean()

            newvalue = newvalue.view(-1)
            if args.clip_vloss:
                v_loss_unclipped = (newvalue - batch.returns[mb_inds]) ** 2
                v_clipped = batch.values[mb_inds] + torch.clamp(
                    newvalue - batch.values[mb_inds], -args.clip_coef, args.clip_coef
                )
                v_loss_clipped = (v_clipped - batch.returns[mb_inds]) ** 2
                v_loss = 0.5 * torch.max(v_loss_unclipped, v_loss_clipped).mean()
            else:
                v_loss = 0.5 * ((newvalue - batch.returns[mb_inds]) ** 2).mean()

            loss = pg_loss - args.ent_coef * entropy.mean() + v_loss * args.vf_coef
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
            optimizer.step()


@pytest.mark.parametrize("clip_vloss", [True, False])
@pytest.mark.parametrize("norm_adv", [True, False])
@pytest.mark.parametrize("max_grad_norm", [0.05, 100.0])
def test_one_update_gives_cleanrls_parameters(
    clip_vloss: bool, norm_adv: bool, max_grad_norm: float
) -> None:
    config = config_for(
        "ALE/Pong-v5",
        num_envs=N,
        num_steps=T,
        clip_vloss=clip_vloss,
        norm_adv=norm_adv,
        max_grad_norm=max_grad_norm,
        learning_rate=3e-2,  # large, so that ratios leave the clipping range within one update
    )
    torch.manual_seed(3)
    ours = Agent().double()
    theirs = copy.deepcopy(ours)
    rng = np.random.default_rng(7)
    obs = torch.from_numpy(rng.integers(0, 256, (T + 1, N, OBS), dtype=np.uint8))
    rewards = torch.from_numpy(rng.normal(size=(T, N)))
    ended = torch.from_numpy(rng.random((T, N)) < 0.2)
    with torch.no_grad():
        logits, values = ours(obs)
        actions, logprobs = sample_actions(logits[:T].flatten(0, 1), torch.Generator())
    our_advantages = gae(
        rewards,
        values[:T],
        values[1:],
        ended,
        torch.zeros_like(ended),
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    dones = torch.cat((torch.zeros(1, N), ended[:-1].double()))
    their_advantages = cleanrl_gae(
        rewards, values[:T], dones, values[T], ended[-1].double(), config
    )

    def batch(advantages: Tensor) -> Batch:
        return Batch(
            obs=obs[:T].flatten(0, 1),
            actions=actions,
            logprobs=logprobs,
            advantages=advantages.flatten(),
            returns=(advantages + values[:T]).flatten(),
            values=values[:T].flatten(),
        )

    order = torch.Generator().manual_seed(11)
    orders = [
        torch.cat(list(minibatch_indices(T * N, config.num_minibatches, order)))
        for _ in range(config.update_epochs)
    ]

    stats = ppo_update(
        ours,
        torch.optim.Adam(ours.parameters(), lr=config.learning_rate, eps=config.adam_eps),
        batch(our_advantages),
        config,
        torch.Generator().manual_seed(11),
    )
    cleanrl_update(
        theirs,
        torch.optim.Adam(theirs.parameters(), lr=config.learning_rate, eps=config.adam_eps),
        batch(their_advantages),
        config,
        orders,
    )

    assert stats.clipfrac > 0.05, "the clipped branch was not tested"
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        # float64 throughout: what is left is the order of additions.
        torch.testing.assert_close(our, their, rtol=0, atol=1e-9)


def test_sampled_actions_follow_the_categorical_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    expected = Categorical(logits=logits)
    draws = 200_000

    actions, logprobs = sample_actions(logits.expand(draws, 4), torch.Generator().manual_seed(0))

    frequencies = torch.bincount(actions, minlength=4) / draws
    # Five standard deviations of a frequency: 5 * sqrt(0.25 / draws).
    torch.testing.assert_close(frequencies, expected.probs, rtol=0, atol=0.006)
    torch.testing.assert_close(logprobs, expected.log_prob(actions))
