import sys

import pytest

from laco_engines.evaluation.benchmarks import SINGLE_IMAGE
from laco_engines.evaluation.lmms_run import LmmsRun, check_argument
from laco_export.errors import LacoError, UsageError


def a_run(folder, **options):
    return LmmsRun(
        "laco", {"checkpoint": "/models/a", "at": None, "answers": "answers"}, SINGLE_IMAGE, folder, **options
    )


def test_the_command_is_lmms_evals(tmp_path):
    command = a_run(tmp_path, limit=5).command()
    assert command[:3] == [sys.executable, "-m", "lmms_eval"]
    given = dict(zip(command[3:-1:2], command[4:-1:2]))
    assert given["--model_args"] == "checkpoint=/models/a,answers=answers"
    assert (given["--tasks"], given["--limit"], command[-1]) == ("laco_single_image", "5", "--log_samples")


def test_several_processes_are_torchs(tmp_path):
    command = a_run(tmp_path, processes=3).command()
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]


def test_local_copies_are_all_that_is_looked_at(tmp_path):
    variables = a_run(tmp_path / "out", data=tmp_path).environment()
    assert variables["HF_HOME"] == str(tmp_path)
    assert (variables["HF_HUB_OFFLINE"], variables["HF_DATASETS_OFFLINE"]) == ("1", "1")
    assert variables["HF_DATASETS_CACHE"] == str(tmp_path / "out" / "datasets")


class Writes(LmmsRun):
    """A command that leaves a file, as lmms-eval does, and says by its exit code nothing of it."""

    def command(self):
        folder = self.output / "lmms-eval" / "single-image"
        folder.mkdir(parents=True, exist_ok=True)
        names = self.model_args["writes"]
        lines = [f"open({str(folder / name)!r}, 'w').close()" for name in names]
        return [sys.executable, "-c", "; ".join([*lines, "pass"])]


def test_results_are_those_of_this_run(tmp_path):
    old = Writes("laco", {"writes": ["20260101_1_results.json"]}, SINGLE_IMAGE, tmp_path).run()
    new = Writes("laco", {"writes": ["20260102_1_results.json"]}, SINGLE_IMAGE, tmp_path).run()
    assert (old.name, new.name) == ("20260101_1_results.json", "20260102_1_results.json")


def test_a_tasks_own_file_is_no_result(tmp_path):
    with pytest.raises(LacoError, match="gave no results"):
        Writes("laco", {"writes": ["mmbench_en_dev_results.json"]}, SINGLE_IMAGE, tmp_path).run()


@pytest.mark.parametrize("path", ["a,b", "a=b", "{a}"])
def test_a_path_that_would_be_cut_is_refused(path):
    with pytest.raises(UsageError, match="cannot take"):
        check_argument("path", path)
