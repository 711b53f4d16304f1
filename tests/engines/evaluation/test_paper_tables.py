"""The tables as data: what was copied wrongly would move a row's average off the one that the paper prints."""

import pytest

from laco_engines.evaluation.paper_tables import paper_rows
from laco_engines.evaluation.scores import average

ROUNDING = 0.06
"""The paper prints averages with one decimal, of cells with one decimal."""

NOT_ITS_AVERAGE = {(6, "SigLIP-LaCo@1/4"): 38.3}
"""A row whose printed average (37.9) is not that of its printed cells: what theirs is."""


@pytest.mark.parametrize("table", range(1, 10))
def test_a_rows_average_is_the_papers(table):
    for row in paper_rows(table):
        cells = [list(cell) if isinstance(cell, tuple) else [cell] for cell in row.scores]
        if [None] in cells:
            continue
        printed = NOT_ITS_AVERAGE.get((table, row.model), row.average)
        assert average(cells) == pytest.approx(printed, abs=ROUNDING), row


def test_a_model_of_several_tables_has_the_same_scores_in_each():
    deep = {table: next(r for r in paper_rows(table) if r.model.endswith("LaCo@1/4")) for table in (7, 8, 9)}
    assert deep[7].scores == paper_rows(3)[-1].scores
    assert deep[8].scores == paper_rows(1)[3].scores
    assert deep[9].scores == paper_rows(2)[-1].scores


def test_the_papers_tables_have_sixty_rows():
    assert sum(len(paper_rows(table)) for table in range(1, 10)) == 60
