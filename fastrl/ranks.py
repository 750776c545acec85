"""Several processes that train one policy: `torchrun --nproc-per-node K -m fastrl train ...`.

The config is that of the whole run; each rank steps its share of the environments, and a minibatch
is the union of one minibatch of each. Everything that a step down the gradient depends on is
summed over the ranks, so the weights stay the same on all of them, and are those that one process
would have learned with the same minibatches. Rank 0 keeps the run folder.
"""

import contextlib
import importlib
import os
from collections.abc import Generator, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


class Ranks:
    """This process among those that train together; alone, if not said otherwise."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        """A process group of that size exists already, if it is more than one."""
        self.rank = rank
        self.size = size

    @property
    def first(self) -> bool:
        """Whether this one keeps the books."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's of `count` things, which the number of ranks divides."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(x)  # pyright: ignore[reportUnknownMemberType]
        return x

    def gathered(self, value: T) -> list[T]:
        """Everybody's value by rank, on rank 0; elsewhere none."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(value, found)
        return cast(list[T], found or [])

    def of_first(self, value: T) -> T:
        """Rank 0's value; all wait for it."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def mean_and_std(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """0-d mean and unbiased standard deviation of all ranks' x (M,), M at least 2 in all."""
        if self.size == 1:
            return x.mean(), x.std()
        count, total = self.sum(torch.stack((x.new_tensor(len(x)), x.sum())))
        mean = total / count
        return mean, (self.sum((x - mean).square().sum()) / (count - 1.0)).sqrt()

    def weight(self, count: int, device: torch.device) -> Tensor | float:
        """By what a mean over `count` of mine counts in the mean of the ranks' means."""
        if self.size == 1:
            return 1.0
        return count * self.size / self.sum(torch.tensor(float(count), device=device))

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces each gradient with its mean over the ranks."""
        if self.size == 1:
            return
        gradients = [x.grad for x in parameters if x.grad is not None]
        flat = self.sum(torch.cat([x.flatten() for x in gradients])) / self.size
        first = 0
        for gradient in gradients:
            gradient.copy_(flat[first : first + gradient.numel()].view_as(gradient))
            first += gradient.numel()


ALONE = Ranks()


def is_first() -> bool:
    """Whether this process is rank 0, or alone; known before any joins."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def joined(device: str) -> Generator[Ranks]:
    """The ranks that torchrun started; alone without it.

    Args:
        device: The config's. Ranks with GPUs talk by NCCL, each on the GPU of its local rank;
            others by gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Functions there have the group that exists when they are imported as a default, and the first
    # step of an optimiser imports them. With the default group they would keep its threads, one of
    # which may drop a tensor while Python ends: that aborts the process.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
