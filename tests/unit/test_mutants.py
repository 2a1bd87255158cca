"""The mutants of `make mutants` still apply to the code, and name tests that exist."""

import ast

import pytest

from tests.fixtures.servers import ROOT
from tests.mutants.__main__ import Mutant, mutants

MUTANTS = mutants()


def test_there_are_enough():
    assert len(MUTANTS) >= 60


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.why.replace(" ", "-")[:60])
def test_it_applies(mutant: Mutant):
    text = (ROOT / mutant.file).read_text()

    assert text.count(mutant.old) == 1
    ast.parse(text.replace(mutant.old, mutant.new))
    assert [name for name in mutant.tests if not (ROOT / name).exists()] == []
