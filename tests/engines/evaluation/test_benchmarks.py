import pytest

from laco_engines.evaluation.benchmarks import BENCHMARK_GROUPS
from laco_engines.evaluation.paper_tables import paper_rows


def test_the_groups_have_the_papers_33_benchmarks():
    assert {name: len(group.columns) for name, group in BENCHMARK_GROUPS.items()} == {
        "single-image": 10,
        "multi-image": 18,
        "video": 5,
    }


@pytest.mark.parametrize("group", BENCHMARK_GROUPS.values(), ids=BENCHMARK_GROUPS)
def test_every_row_of_the_paper_has_a_cell_for_each_column(group):
    rows = [row for number in group.tables for row in paper_rows(number)]
    assert rows and {len(row.scores) for row in rows} == {len(group.columns)}
