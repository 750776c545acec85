"""How a policy is run: precision, memory format, torch.compile, CUDA graphs.

None of it is needed. What was asked for and cannot be had is left out, and said.
"""

from dataclasses import dataclass

import torch
from torch import nn

from fastrl.config import TrainConfig
from fastrl.models import ActorCritic, ChannelsLastImage
from fastrl.ranks import ALONE, Ranks


def prepare(
    policy: ActorCritic, config: TrainConfig, device: torch.device, obs_shape: tuple[int, ...]
) -> list[str]:
    """Sets up a policy on its device; convolutions run channels-last.

    Args:
        policy: Changed in place; its weights stay what they are.
        config: For precision and compile.
        device: The policy's.
        obs_shape: Of one observation.

    Returns:
        What was left out, and why.
    """
    policy.bf16 = config.precision == "bf16"
    kinds = {type(module) for module in policy.modules()}
    if nn.Conv2d in kinds and ChannelsLastImage not in kinds:
        policy.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        policy.channels_last = True
    if not config.compile:
        return []
    policy.compile()  # pyright: ignore[reportUnknownMemberType]
    try:
        policy(torch.zeros((2, *obs_shape), dtype=torch.uint8, device=device))
    except Exception as error:  # whatever the compiler or its own compiler says
        policy._compiled_call_impl = None  # pyright: ignore[reportPrivateUsage]  the only way back
        reason = str(error).strip().splitlines()[0]
        return [f"compile: the network runs uncompiled, because torch.compile failed: {reason}"]
    return []


@dataclass(frozen=True, kw_only=True, slots=True)
class Captures:
    """What runs in CUDA graphs."""

    inference: bool
    learning: bool
    left_out: list[str]
    """What does not, though asked for, and why."""


def captured_parts(config: TrainConfig, device: torch.device, ranks: Ranks = ALONE) -> Captures:
    """What of a run can be captured: steps that are alike but for the numbers in their tensors."""
    if not config.cuda_graphs:
        return Captures(inference=False, learning=False, left_out=[])
    if device.type != "cuda":
        reason = f"cuda_graphs: nothing is captured, because the device is {device}"
        return Captures(inference=False, learning=False, left_out=[reason])
    reason = None
    if ranks.size > 1:
        reason = "the ranks' gradients are averaged in the midst of a step"
    elif config.teacher:
        reason = "a student learns otherwise"
    elif config.advantage != "gae":
        reason = f"advantage {config.advantage} has numbers of its own in the loss"
    elif config.autoreset_mode == "NextStep":
        reason = "autoreset_mode NextStep leaves out reset steps, so that minibatches differ"
    elif config.batch_size % config.num_minibatches:
        reason = f"num_minibatches does not divide num_envs * num_steps = {config.batch_size}"
    said = [f"cuda_graphs: inference alone is captured, because {reason}"] if reason else []
    return Captures(inference=True, learning=reason is None, left_out=said)
