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


STA_WSYNC = [0x85, 0x02]
STA_HMOVE = [0x85, 0x2A]
JMP_F000 = [0x4C, 0x00, 0xF0]


@pytest.mark.parametrize(
    "pattern",
    [
        STA_WSYNC,
        STA_HMOVE,
        STA_WSYNC * 64 + STA_HMOVE * 64,
        STA_WSYNC * 1720 + STA_HMOVE * 300 + JMP_F000,
    ],
    ids=["waits", "moves", "both", "wraps around"],
)
def test_a_frame_without_an_end_is_given_up(pattern: list[int]) -> None:
    native = native_module.build("atari_translation", "atari")
    gave_up, num_accesses = native.run_of(pattern)
    assert gave_up
    assert num_accesses < native.max_accesses
