"""What ``laco-engine evaluate`` refuses before lmms-eval is imported, with tasks of a stand-in for it."""

import json

import pytest

from laco_engines.cli import main
from laco_engines.evaluation import evaluating, task_files
from laco_engines.evaluation.answer_file import AnswerFile, model_identity
from laco_engines.evaluation.benchmarks import BENCHMARK_GROUPS
from laco_export.errors import LacoError


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A folder of task files in the place of lmms-eval's, with every task of the paper."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    for task in {task for group in BENCHMARK_GROUPS.values() for task in group.tasks}:
        (folder / f"{task}.yaml").write_text(f"task: {task}\ndataset_path: owner/{task}\n")
    monkeypatch.setattr(task_files, "tasks_folder", lambda: folder)
    return folder


@pytest.fixture
def refused(capfd, monkeypatch):
    """``refused(*arguments)``: the exit code and the message; nothing is run."""

    def no_run(self):
        raise AssertionError("lmms-eval was run")

    monkeypatch.setattr(evaluating.LmmsRun, "run", no_run)

    def run(*arguments):
        try:
            code = main(["evaluate", *map(str, arguments)])
        except SystemExit as exit:
            code = exit.code
        message = capfd.readouterr().err
        assert "Traceback" not in message and "was run" not in message
        return code, message

    return run


def test_without_lmms_eval_the_extra_is_named(bundle_folder, refused, monkeypatch):
    monkeypatch.setattr("laco_export.required_packages.find_spec", lambda name: None)
    code, message = refused(bundle_folder)
    assert code == 1 and "laco-export[eval]" in message


def test_data_that_are_not_local_are_listed_at_once(bundle_folder, tasks, tmp_path, refused):
    code, message = refused(bundle_folder, "--data", tmp_path, "--group", "video")
    assert code == 2
    assert all(f"owner/{task}" in message for task in BENCHMARK_GROUPS["video"].tasks)


def test_a_group_that_there_is_not(bundle_folder, refused):
    code, message = refused(bundle_folder, "--group", "audio")
    assert code == 2 and "single-image" in message


def test_a_folder_that_is_no_model(tmp_path, tasks, refused):
    code, message = refused(tmp_path)
    assert code == 1 and "config.json" in message


def test_a_depth_that_the_bundle_does_not_carry(bundle_folder, tasks, refused):
    code, message = refused(bundle_folder, "--at", "1/12")
    assert code == 2 and "1/12" in message


def test_a_runtime_is_a_bundles(bundle_folder, tasks, refused):
    code, message = refused(bundle_folder.parent / "tiny", "--runtime", "onnxruntime")
    assert code == 2 and "--runtime" in message and "bundle" in message


def test_answers_of_another_model_are_not_gone_on_with(bundle_folder, tasks, tmp_path, refused):
    AnswerFile(tmp_path / "answers", model_identity("0" * 64, None, None)).close()
    code, message = refused(bundle_folder, "--output", tmp_path)
    assert code == 2 and "another model" in message and "0" * 64 in message


def test_scores_of_other_groups_are_kept_and_of_other_models_are_not(
    bundle_folder, tasks, tmp_path, monkeypatch, capfd
):
    def writes(run):
        path = run.output / "lmms-eval" / run.group.name / "20260101_1_results.json"
        path.parent.mkdir(parents=True)
        scores = {"muirbench": {"muirbench_score_overall,none": 0.25}, "ai2d": {"exact_match,none": 0.5}}
        path.write_text(json.dumps({"results": scores}))
        return path

    monkeypatch.setattr(evaluating.LmmsRun, "run", writes)
    tmp_path.joinpath("evaluation.json").write_text(json.dumps({"model": {"name": "another"}, "groups": {"video": {}}}))
    for group in ("single-image", "multi-image"):
        assert main(["evaluate", str(bundle_folder), "--output", str(tmp_path), "--group", group, "--json"]) == 0
    groups = json.loads((tmp_path / "evaluation.json").read_text())["groups"]
    assert groups.keys() == {"single-image", "multi-image"}
    assert (groups["single-image"]["scores"]["AI2D"], groups["multi-image"]["scores"]["MuirBench"]) == ([50.0], [25.0])
    capfd.readouterr()
    assert main(["evaluate", str(bundle_folder), "--output", str(tmp_path / "b"), "--group", "multi-image"]) == 0
    shown = capfd.readouterr().out
    assert "Table 9, one-vision training" in shown and "25.0" in shown and "…" not in shown


def test_a_run_without_results_is_told(bundle_folder, tasks, tmp_path, monkeypatch, capfd):
    def fails(run):
        raise LacoError("lmms-eval gave no results of laco_video")

    monkeypatch.setattr(evaluating.LmmsRun, "run", fails)
    assert main(["evaluate", str(bundle_folder), "--output", str(tmp_path), "--group", "video"]) == 1
    assert "no results" in capfd.readouterr().err
    assert not (tmp_path / "evaluation.json").exists()
