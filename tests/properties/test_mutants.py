"""Every mutant still fits the source; `python -m tests.properties.mutants` sees whether it is noticed."""

import pytest

from tests.properties.mutants import CHECKS, MUTANTS, Mutant, applied


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_source_and_is_taken_back(mutant: Mutant) -> None:
    with applied(mutant):
        pass
    with applied(mutant):
        pass
    assert mutant.check in CHECKS


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 15
