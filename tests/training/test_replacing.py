"""``--force`` replaces a run, and no file of anybody else's."""

import pytest

from laco_export.errors import OutputExistsError
from laco_training.replacing import refuse_to_replace_others, refuse_to_replace_start

OWN = ("recipe.json", "training.json", "losses.png")
FOLDERS = ("checkpoint", "stage-0", "stage-2-si", "stage-2-si-progress", "tensorboard", "frozen-outputs", "data")


@pytest.fixture
def run(tmp_path):
    """A folder as a run leaves it."""
    for name in FOLDERS:
        (tmp_path / "run" / name).mkdir(parents=True)
    for name in OWN:
        (tmp_path / "run" / name).write_text("{}")
    return tmp_path / "run"


def test_a_run_may_be_replaced(run):
    refuse_to_replace_others(run, whole=True)
    (run / "stage-1-broken-samples.jsonl").write_text("")
    refuse_to_replace_others(run, whole=True)


@pytest.mark.parametrize("kept", ["thesis.txt", "bundle-at1_2-fp16", "notes.json"])
def test_a_run_with_other_files_in_it_may_not(run, kept):
    (run / kept).mkdir() if kept.startswith("bundle") else (run / kept).write_text("years")
    with pytest.raises(OutputExistsError, match="not the run's") as caught:
        refuse_to_replace_others(run, whole=True)
    assert caught.value.given == kept


def test_another_folder_may_not(run):
    (run / "recipe.json").unlink()
    with pytest.raises(OutputExistsError, match="is no run of laco-train"):
        refuse_to_replace_others(run, whole=True)


def test_an_empty_folder_and_a_free_name_may(tmp_path):
    refuse_to_replace_others(tmp_path, whole=True)
    refuse_to_replace_others(tmp_path / "free", whole=True)


@pytest.mark.parametrize("start", ["run", "run/checkpoint", "other/../run/stage-0"])
def test_what_is_started_from_may_not(run, start):
    with pytest.raises(OutputExistsError, match="would be replaced"):
        refuse_to_replace_start(run, run.parent / start)
    refuse_to_replace_start(run, run.parent / "run-of-before")
    refuse_to_replace_start(run / "checkpoint", run)
