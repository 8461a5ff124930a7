"""The template's merge keeps the owner's work in cases in which Copier alone silently loses it."""

from pathlib import Path

import pytest
from conftest import ROOT
from losses import CASES, Case, is_kept, row

pytestmark = pytest.mark.slow
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.mark.parametrize(
    "case",
    [CASES[0], *(pytest.param(case, marks=pytest.mark.exhaustive) for case in CASES[1:])],
    ids=lambda case: case.name,
)
def test_copier_alone_still_loses_it(case: Case, template: Path, tmp_path: Path) -> None:
    assert not is_kept(case, template, tmp_path, alone=True), "fixed in Copier: say so in docs/updating.md"


@each
def test_the_template_keeps_it(case: Case, template: Path, tmp_path: Path) -> None:
    assert is_kept(case, template, tmp_path, alone=False)


@each
def test_the_table_in_the_docs_has_each_case(case: Case) -> None:
    assert row(case, False, True) in (ROOT / "docs" / "updating.md").read_text().splitlines()
