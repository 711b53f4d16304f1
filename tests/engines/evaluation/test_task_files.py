import pytest
import yaml

from laco_engines.evaluation.benchmarks import BENCHMARK_GROUPS, SINGLE_IMAGE, VIDEO
from laco_engines.evaluation.task_files import (
    SHIPPED_GROUPS,
    TaskData,
    check_local,
    group_text,
    task_data,
    write_group,
)
from laco_export.errors import LacoError, UsageError

TASK = """\
include: _template
task: "nextqa_mc_test"
doc_to_text: !function utils.text
"""
TEMPLATE = """\
dataset_path: owner/NExTQA
dataset_kwargs: {cache_dir: nextqa, video: True}
"""


@pytest.fixture
def tasks(tmp_path):
    """lmms-eval's folder of tasks with two of them."""
    (tmp_path / "nextqa").mkdir()
    (tmp_path / "nextqa" / "mc.yaml").write_text(TASK)
    (tmp_path / "nextqa" / "_template").write_text(TEMPLATE)
    (tmp_path / "ai2d.yaml").write_text("task: ai2d\ndataset_path: owner/ai2d\ndataset_kwargs: {token: True}\n")
    return tmp_path


def test_where_data_come_from_is_read_through_templates(tasks):
    assert task_data(["nextqa_mc_test", "ai2d"], tasks) == [
        TaskData("nextqa_mc_test", "owner/NExTQA", "nextqa"),
        TaskData("ai2d", "owner/ai2d", None),
    ]


def test_tasks_that_this_release_lacks_are_all_named(tasks):
    with pytest.raises(LacoError, match=r"(?s)mmstar, muirbench"):
        task_data(["ai2d", "mmstar", "muirbench"], tasks)


def test_all_that_is_missing_is_listed_with_its_command(tmp_path):
    (tmp_path / "owner" / "there").mkdir(parents=True)
    (tmp_path / "owner" / "there" / "test.parquet").touch()
    (tmp_path / "owner" / "empty").mkdir()
    every = [
        TaskData("a", "owner/there", None),
        TaskData("b", "owner/empty", None),
        TaskData("c", "owner/clips", "clips"),
    ]
    with pytest.raises(UsageError) as refused:
        check_local(every, tmp_path)
    assert refused.value.given == "b, c"
    assert refused.value.todo.count("hf download --repo-type dataset owner/") == 2
    assert str(tmp_path / "clips") in refused.value.todo


def test_a_group_over_local_copies_names_their_folders(tmp_path):
    every = [TaskData(task, f"owner/{task}", None) for task in VIDEO.tasks]
    write_group(tmp_path / "tasks", VIDEO, every, tmp_path)
    entries = yaml.safe_load((tmp_path / "tasks" / "laco_video.yaml").read_text())["task"]
    assert {entry["task"]: entry["dataset_path"] for entry in entries} == {
        task: str(tmp_path / "owner" / task) for task in VIDEO.tasks
    }


@pytest.mark.parametrize("group", BENCHMARK_GROUPS.values(), ids=BENCHMARK_GROUPS)
def test_the_shipped_groups_are_the_papers(group):
    assert (SHIPPED_GROUPS / f"{group.lmms_name}.yaml").read_text() == group_text(group)


def test_a_task_of_two_columns_is_asked_once():
    assert SINGLE_IMAGE.tasks.count("seedbench") == VIDEO.tasks.count("seedbench") == 1
