"""High-throughput reinforcement learning for Atari-style environments.

The environment pool needs numpy and gymnasium alone: importing this package imports neither torch
nor anything of the trainer.
"""

from importlib.metadata import PackageNotFoundError, version

from fastrl.pool import EnvPool, get_include
from fastrl.registry import EnvSpec, list_envs, make, register, spec

try:
    __version__ = version("fastrl")
except PackageNotFoundError:  # Run from a tree that was never installed.
    __version__ = "0.0.0"

__all__ = [
    "EnvPool",
    "EnvSpec",
    "__version__",
    "get_include",
    "list_envs",
    "make",
    "register",
    "spec",
]
