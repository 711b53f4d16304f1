import json

import pytest

from laco_engines.evaluation.benchmarks import MULTI_IMAGE, SINGLE_IMAGE, VIDEO
from laco_engines.evaluation.scores import average, cell_text, scores_of
from laco_export.errors import LacoError


@pytest.fixture
def written(tmp_path):
    """``written(results, **samples)``: the files that lmms-eval writes."""

    def write(results, **samples):
        for task, lines in samples.items():
            path = tmp_path / f"20260101_000000_samples_{task}.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        path = tmp_path / "20260101_000000_results.json"
        path.write_text(json.dumps({"results": results}))
        return path

    return write


def test_a_score_is_taken_whatever_the_filter_is_called(written):
    entry = {"alias": "ai2d", "exact_match,flexible-extract": 0.5, "exact_match_stderr,flexible-extract": 0.1}
    assert scores_of(SINGLE_IMAGE, written({"ai2d": entry}))["AI2D"] == [50.0]


def test_scores_of_two_filters_are_refused(written):
    entry = {"exact_match,none": 0.5, "exact_match,strict": 0.4}
    with pytest.raises(LacoError, match="several scores"):
        scores_of(SINGLE_IMAGE, written({"ai2d": entry}))


def test_what_counts_in_per_cent_stays_as_it_is(written):
    results = {
        "videomme": {"videomme_perception_score,none": 41.0},
        "videomme_w_subtitle": {"videomme_perception_score,none": 46.0},
        "seedbench": {"seed_image,none": 0.6, "seed_video,none": 0.4},
    }
    scores = scores_of(VIDEO, written(results))
    assert (scores["VideoMME"], scores["S-Bench"], scores["NextQA"]) == ([41.0, 46.0], [40.0], [None])


def test_mixed_tasks_are_taken_apart_by_sample(written):
    samples = [
        {"overall_score": {"sub_task": name, "score": score}}
        for name, score in (("VIST", 1), ("VIST", 0), ("RAVEN", 1))
    ]
    path = written(
        {"llava_interleave_bench_in_domain": {"overall_score,none": 0.7}}, llava_interleave_bench_in_domain=samples
    )
    scores = scores_of(MULTI_IMAGE, path)
    assert (scores["VST"], scores["Puzzle"], scores["IEI"]) == ([50.0], [100.0], [None])


def test_samples_that_are_missing_are_named(written):
    with pytest.raises(LacoError, match="llava_interleave_bench_in_domain"):
        scores_of(MULTI_IMAGE, written({"llava_interleave_bench_in_domain": {"overall_score,none": 0.7}}))


def test_a_column_counts_once_in_the_average():
    assert average([[40.0], [20.0, 40.0]]) == 35.0
    assert average([[40.0], [None]]) is None


def test_cells_read_as_the_papers():
    assert [cell_text(cell) for cell in (63.25, (63.8, 65.0), [None], None)] == ["63.2", "63.8/65.0", "-", "-"]
