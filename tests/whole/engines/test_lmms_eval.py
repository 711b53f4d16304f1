"""lmms-eval itself on miniatures of the paper's benchmarks in their real schema, for a checkpoint and its bundle."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from statistics import fmean

import pytest
from miniature_benchmarks import LETTERS, lettered, multi_image, single_image, truth, video, write_benchmarks

from laco_engines.evaluation.benchmarks import BENCHMARK_GROUPS, MULTI_IMAGE

pytestmark = [
    pytest.mark.lmms_eval,
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("lmms_eval") is None, reason="needs lmms-eval (pip install -c constraints-eval.txt …)"
    ),
]

MIXED = 8
"""Questions of a multi-image task."""


@pytest.fixture(scope="module")
def folder(answering_model, tmp_path_factory):
    """``data/``, the checkpoint ``letters/`` and its FP32 ``bundle/``."""
    from copy import deepcopy

    from laco_export.exporter import pipeline
    from laco_export.exporter.options import ExportOptions
    from laco_export.models import checkpoint

    folder = tmp_path_factory.mktemp("benchmarks")
    write_benchmarks(folder / "data")
    model, processor = answering_model
    checkpoint.save(lettered(deepcopy(model), processor.tokenizer), processor, folder / "letters")
    options = ExportOptions(folder / "letters", precision="fp32", output=folder / "bundle", compile=False)
    pipeline.export_bundle(options)
    return folder


def evaluate(folder, name, *arguments):
    """``laco-engine evaluate NAME`` into ``NAME-evaluation``: its exit code and what it printed."""
    command = [sys.executable, "-m", "laco_engines.cli", "evaluate", name, "--data", "data", *arguments]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def answers(folder):
    """Task and document → the answer, of all processes."""
    lines = [json.loads(line) for path in sorted(folder.glob("rank-*.jsonl")) for line in path.read_text().splitlines()]
    return {(line["task"], line["doc_id"]): line["answer"] for line in lines if "key" in line}


@pytest.fixture(scope="module")
def of_checkpoint(folder):
    code, out, err = evaluate(folder, "letters", "--json")
    assert code == 0, err[-2000:]
    return json.loads(out)


@pytest.fixture(scope="module")
def of_bundle(folder):
    code, out, err = evaluate(folder, "bundle", "--text-runtime", "lean", "--json")
    assert code == 0, err[-2000:]
    return json.loads(out)


def test_every_question_of_every_benchmark_is_answered(of_checkpoint, folder):
    asked = answers(folder / "letters-evaluation" / "answers")
    tasks = {task for group in BENCHMARK_GROUPS.values() for task in group.tasks}
    assert {task for task, _ in asked} == tasks
    assert len(asked) == 3 * (len(tasks) - 4) + MIXED * 4
    assert of_checkpoint["not_asked"] == {}
    assert len(set(asked.values())) > 5  # pictures and questions sway them


def test_checkpoint_and_bundle_answer_alike(of_checkpoint, of_bundle, folder):
    assert answers(folder / "letters-evaluation" / "answers") == answers(folder / "bundle-evaluation" / "answers")
    for name in BENCHMARK_GROUPS:
        assert of_checkpoint["groups"][name]["scores"] == of_bundle["groups"][name]["scores"]


def anls(text, right):
    """Average normalised Levenshtein similarity (Biten et al., 2019): below 0.5 it is 0."""
    text, right = text.strip().lower(), right.lower()
    row = list(range(len(right) + 1))
    for i, a in enumerate(text, start=1):
        row, before = [i], row
        for j, b in enumerate(right, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
    similarity = 1 - row[-1] / max(len(text), len(right))
    return similarity if similarity >= 0.5 else 0.0


def plain(text):
    return re.sub(r"[^\w\s]", "", text.strip().lower())


def first_letter(text):
    return text.strip()[:1].upper()


def lone_letter(text):
    """The only letter A to E that stands alone, as the interleaved benchmarks take it."""
    letters = re.findall(r"\b([A-E])\b", text, re.IGNORECASE)
    return letters[0].upper() if letters else ""


INDEPENDENT = {
    "AI2D": ("ai2d", lambda text, right: plain(text) == plain(right)),
    "ChartQA": ("chartqa", lambda text, right: text.strip().lower() == right.lower()),
    "DocVQA": ("docvqa_val", anls),
    "InfoVQA": ("infovqa_val", anls),
    "S-QA": ("scienceqa_img", lambda text, right: text.strip().lower() == right.lower()),
}
"""A column of pictures → its task, and what an answer scores by the benchmark's published rule."""


@pytest.mark.parametrize("column", INDEPENDENT)
def test_scores_equal_an_independent_computation(of_checkpoint, folder, column):
    task, score = INDEPENDENT[column]
    asked = answers(folder / "letters-evaluation" / "answers")
    own = 100 * fmean(score(asked[task, number], truth(number)) for number in range(3))
    assert of_checkpoint["groups"]["single-image"]["scores"][column] == [pytest.approx(own)]


@pytest.mark.parametrize(
    ("group", "column", "numbers"), [("single-image", "S-Bench", (0, 2)), ("video", "S-Bench", (1,))]
)
def test_seed_bench_counts_pictures_and_videos_apart(of_checkpoint, folder, group, column, numbers):
    asked = answers(folder / "letters-evaluation" / "answers")
    own = 100 * fmean(first_letter(asked["seedbench", number]) == truth(number) for number in numbers)
    assert of_checkpoint["groups"][group]["scores"][column] == [pytest.approx(own)]


def test_each_multi_image_column_has_its_own_questions(of_checkpoint, folder):
    asked, scores = answers(folder / "letters-evaluation" / "answers"), of_checkpoint["groups"]["multi-image"]["scores"]
    for column in MULTI_IMAGE.columns:
        (benchmark,) = column.benchmarks
        if not benchmark.sub_tasks:
            continue
        kinds = [kind for each in MULTI_IMAGE.columns for kind in each.benchmarks if kind.task == benchmark.task]
        numbers = [number for number in range(MIXED) if kinds[number % len(kinds)] == benchmark]
        own = 100 * fmean(lone_letter(asked[benchmark.task, number]) == truth(number) for number in numbers)
        assert scores[column.name] == [pytest.approx(own)], column.name
    own = 100 * fmean(asked["muirbench", number].strip().lower() == truth(number).lower() for number in range(MIXED))
    assert scores["MuirBench"] == [pytest.approx(own)]


def test_an_interrupted_run_goes_on_where_it_was(of_checkpoint, folder):
    path = folder / "letters-evaluation" / "answers" / "rank-0.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    forgotten = [line for line in lines if '"muirbench"' in line][2:]
    path.write_text("".join(line for line in lines if line not in forgotten) + forgotten[0][:40])
    code, out, err = evaluate(folder, "letters", "--group", "multi-image", "--json")
    assert code == 0, err[-2000:]
    assert path.read_text().splitlines(keepends=True)[-len(forgotten) :] == forgotten  # these alone were asked
    assert json.loads(out)["groups"].keys() == BENCHMARK_GROUPS.keys()
    assert json.loads(out)["groups"]["multi-image"]["scores"] == of_checkpoint["groups"]["multi-image"]["scores"]


def test_several_processes_share_the_questions(of_bundle, folder):
    code, out, err = evaluate(
        folder, "bundle", "--text-runtime", "lean", "--group", "multi-image", "--processes", "2", "--output", "shared",
        "--json",
    )  # fmt: skip
    assert code == 0, err[-2000:]
    assert json.loads(out)["groups"]["multi-image"]["scores"] == of_bundle["groups"]["multi-image"]["scores"]
    assert all(
        len((folder / "shared" / "answers" / f"rank-{rank}.jsonl").read_text().splitlines()) > 10 for rank in (0, 1)
    )


def test_a_video_that_cannot_be_decoded_counts_as_wrong_and_is_told(of_bundle, folder):
    path = folder / "data" / "egoschema" / "videos" / "ego1.mp4"
    whole = path.read_bytes()
    path.write_bytes(b"no video")
    try:
        arguments = ("--text-runtime", "lean", "--group", "video", "--output", "broken")
        code, out, err = evaluate(folder, "bundle", *arguments)
    finally:
        path.write_bytes(whole)
    assert code == 1, err[-2000:]
    assert re.search(r"not asked, and counted as wrong: 1 × egoschema_subset", out)


def test_the_papers_rows_stand_above_ones_own(of_bundle, folder):
    arguments = ("--text-runtime", "lean", "--group", "video", "--output", "bundle-evaluation")
    code, out, err = evaluate(folder, "bundle", *arguments)
    assert code == 0, err[-2000:]
    lines = [line for line in out.splitlines() if "│" in line]
    assert any("LaCo@1/12" in line and "29.5" in line and "44.2" in line for line in lines)
    assert "bundle" in lines[-1] and "…" not in out


def test_miniatures_of_one_schema_have_each_letter_as_truth():
    assert {truth(number) for number in range(4)} <= set(LETTERS)
    assert len(single_image(0)) == 10 and len(multi_image(0)) == 4 and len(video(0)) == 4
