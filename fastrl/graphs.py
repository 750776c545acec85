"""CUDA graphs: what is done again and again with the same tensors is recorded once.

A graph replays kernels with the addresses that they had when it was captured. So a captured
function takes no arguments: it reads tensors that stay where they are, its caller writes them
before each call, and what it returns is overwritten by the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

T = TypeVar("T")

WARMUP = 3
"""Calls before the capture. Libraries pick their kernels and allocate their workspaces in them;
they are calls like any other, so that nothing is done for the sake of warming up."""


class Captured(Generic[T]):
    """A function without arguments, on CUDA; replayed once it is warm."""

    def __init__(self, function: Callable[[], T], *generators: torch.Generator) -> None:
        """Captures nothing yet.

        Args:
            function: Reads and writes tensors that stay where they are.
            *generators: From which it draws, the default one excepted.
        """
        self._function = function
        self._generators = generators
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: T | None = None

    def __call__(self) -> T:
        """Calls or replays the function, on the current stream."""
        if self._graph is not None:
            self._graph.replay()
            assert self._result is not None
            return self._result
        self._calls += 1
        if self._calls <= WARMUP:
            return self._warm_up()
        self._graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            self._graph.register_generator_state(generator)  # pyright: ignore[reportUnknownMemberType]
        with torch.cuda.graph(self._graph):
            self._result = self._function()
        return self()

    def _warm_up(self) -> T:
        """On another stream than the default one, as a capture is."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._function()
        torch.cuda.current_stream().wait_stream(stream)
        return result
