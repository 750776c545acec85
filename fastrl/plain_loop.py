"""PPO as it is commonly written: one process, eager PyTorch, EnvPool. What ours is measured beside.

The loop of CleanRL's ppo_atari_envpool.py, written anew: the environments' stacked observations go
into one tensor, the advantages are a Python loop, minibatches are drawn by numpy, and Adam is
torch's default. Network, batch, epochs and minibatches are those of a config of ours.

Shapes: T rollout steps, N environments.
"""

import importlib
import time
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fastrl.config import TrainConfig
from fastrl.models import make_policy


class PlainLoop:
    """Updates on an Atari game, one at a time; `num_envs` is that of the config."""

    name = "plain loop (EnvPool, eager torch)"

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Makes and resets the environments.

        Raises:
            ValueError: The environment is not an Atari game on screen.
            ModuleNotFoundError: EnvPool is not installed.
        """
        if not config.is_ale or config.obs_type != "screen":
            raise ValueError(f"the plain loop plays ALE/ screens, got {config.env_id}")
        envpool: Any = importlib.import_module("envpool")  # untyped, and not always there
        self._config = config
        self._device = device
        self._envs: Any = envpool.make_gymnasium(
            config.env_id.removeprefix("ALE/"),
            num_envs=config.num_envs,
            num_threads=config.env_threads,
            episodic_life=True,
            reward_clip=True,
            seed=config.seed,
        )
        num_actions = int(self._envs.action_space.n)
        shape = (4, 84, 84)
        policy = "nature_cnn" if config.policy == "auto" else config.policy
        self._policy = make_policy(policy, shape, num_actions).to(device)
        self._optimizer = torch.optim.Adam(
            self._policy.parameters(), lr=config.learning_rate, eps=config.adam_eps
        )
        steps, num_envs = config.num_steps, config.num_envs
        self._obs = torch.zeros((steps, num_envs, *shape), dtype=torch.uint8, device=device)
        self._actions = torch.zeros((steps, num_envs), dtype=torch.int64, device=device)
        self._logprobs, self._rewards, self._dones, self._values = torch.zeros(
            (4, steps, num_envs), device=device
        )
        self._next_obs = torch.as_tensor(self._envs.reset()[0]).to(device)
        self._next_done = torch.zeros(num_envs, device=device)

    def update(self) -> float:
        """A rollout and what is learned from it; returns agent steps per second."""
        start = time.perf_counter()
        self._roll_out()
        self._learn()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return self._config.batch_size / (time.perf_counter() - start)

    @torch.no_grad()
    def _roll_out(self) -> None:
        for step in range(self._config.num_steps):
            self._obs[step], self._dones[step] = self._next_obs, self._next_done
            logits, self._values[step] = self._policy(self._next_obs)
            choice = torch.distributions.Categorical(logits=logits)
            action = choice.sample()
            self._actions[step], self._logprobs[step] = action, choice.log_prob(action)
            obs, reward, terminated, truncated, _ = self._envs.step(
                action.cpu().numpy().astype(np.int32)
            )
            self._rewards[step] = torch.as_tensor(reward).to(self._device)
            self._next_obs = torch.as_tensor(obs).to(self._device)
            self._next_done = torch.as_tensor(terminated | truncated).float().to(self._device)

    @torch.no_grad()
    def _advantages(self) -> Tensor:
        config = self._config
        advantages = torch.zeros_like(self._rewards)
        last = torch.zeros_like(self._next_done)
        value, done = self._policy(self._next_obs)[1], self._next_done
        for t in reversed(range(config.num_steps)):
            going_on = 1.0 - done
            delta = self._rewards[t] + config.gamma * value * going_on - self._values[t]
            last = delta + config.gamma * config.gae_lambda * going_on * last
            advantages[t] = last
            value, done = self._values[t], self._dones[t]
        return advantages

    def _learn(self) -> None:
        config = self._config
        advantages = self._advantages()
        returns = (advantages + self._values).flatten()
        advantages, values = advantages.flatten(), self._values.flatten()
        obs, actions = self._obs.flatten(0, 1), self._actions.flatten()
        logprobs = self._logprobs.flatten()
        order = np.arange(config.batch_size)
        for _ in range(config.update_epochs):
            np.random.shuffle(order)  # noqa: NPY002  as it is commonly written
            for part in np.array_split(order, config.num_minibatches):
                at = torch.as_tensor(part).to(self._device)
                logits, new_values = self._policy(obs[at])
                choice = torch.distributions.Categorical(logits=logits)
                now = cast(Tensor, choice.log_prob(actions[at]))
                ratio = (now - logprobs[at]).exp()
                chosen = advantages[at]
                chosen = (chosen - chosen.mean()) / (chosen.std() + 1e-8)
                low, high = 1.0 - config.clip_coef, 1.0 + config.clip_coef
                policy_loss = torch.maximum(
                    -chosen * ratio, -chosen * ratio.clamp(low, high)
                ).mean()
                change = (new_values - values[at]).clamp(-config.clip_coef, config.clip_coef)
                clipped = (values[at] + change - returns[at]).square()
                value_loss = (
                    0.5 * torch.maximum((new_values - returns[at]).square(), clipped).mean()
                )
                entropy = choice.entropy().mean()
                loss = policy_loss - config.ent_coef * entropy + config.vf_coef * value_loss
                self._optimizer.zero_grad()
                loss.backward()  # pyright: ignore[reportUnknownMemberType]
                nn.utils.clip_grad_norm_(self._policy.parameters(), config.max_grad_norm)
                self._optimizer.step()  # pyright: ignore[reportUnknownMemberType]

    def close(self) -> None:
        """Ends the environments."""
        self._envs.close()
