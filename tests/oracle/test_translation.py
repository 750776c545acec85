"""Translated instructions against interpreted ones: every opcode, in every scheme, from any state.

The interpreter is held to the plain processor and to ale-py by test_atari.py, and so is whatever is
translated, in whole games. Here single instructions meet what games avoid: pages crossed, stacks at
the edges of memory and in the TIA, decimal mode, hotspots, late writes.
"""

import native_module
import pytest

NUM_SCHEMES = 9


@pytest.mark.parametrize("scheme", range(NUM_SCHEMES))
def test_every_opcode_does_the_same_translated(scheme: int) -> None:
    native = native_module.build("atari_translation", "atari")
    assert native.num_schemes == NUM_SCHEMES
    finished = 0
    for seed in range(20):
        difference, count = native.where_parts(scheme, 12, seed)
        assert difference == ""
        finished += count
    assert finished > 20 * 12 * 128 / 2
