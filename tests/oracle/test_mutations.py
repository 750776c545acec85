"""The list of broken rules against the sources: running it takes an hour, so it could rot."""

import atari_mutations
import pytest


@pytest.mark.parametrize("mutation", atari_mutations.mutations(), ids=lambda m: m.rule)
def test_a_broken_rule_is_in_the_sources_once(mutation: atari_mutations.Mutation) -> None:
    source = (atari_mutations.ROOT / "envs/atari" / mutation.file).read_text()
    assert source.count(mutation.old) == 1
    assert mutation.new != mutation.old
