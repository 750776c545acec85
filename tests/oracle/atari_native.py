"""The native Atari 2600 for the tests: the module tests/native/atari_replay.cpp."""

from types import ModuleType

import native_module
from native_module import ROOT

__all__ = ["MACHINES", "ROOT", "build"]

MACHINES = ("plain", "fast", "translated")
"""The consoles there are: classes of the module."""


def build() -> ModuleType:
    """The extension module."""
    return native_module.build("atari_replay", "atari")
