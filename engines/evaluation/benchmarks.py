"""The paper's columns, and which of lmms-eval's tasks and metrics fills each.

The names are lmms-eval's of release 0.7.3. A column is one benchmark, but for those that the paper measures in two
ways. MMBench is scored by the letters of its answers (``mmbench_en_dev_static``): ``mmbench_en_dev`` asks OpenAI which
letter an answer means, and guesses where it gets no reply.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """One score of lmms-eval.

    Attributes:
        task: lmms-eval's name of it.
        metric: of the task's results.
        full: what a perfect model scores: 1, or 100 where the task counts in per cent.
        sub_tasks: where the task mixes several benchmarks: the values of a sample's ``sub_task`` that are this one.
    """

    task: str
    metric: str
    full: float = 1.0
    sub_tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of the paper's tables. It counts once in a row's average, as the mean of its benchmarks."""

    name: str
    benchmarks: tuple[Benchmark, ...]


@dataclass(frozen=True)
class BenchmarkGroup:
    """The benchmarks of three of the paper's tables.

    Attributes:
        name: after ``--group``; lmms-eval's group is :attr:`lmms_name`.
        tables: the paper's numbers of the tables with these columns.
    """

    name: str
    tables: tuple[int, ...]
    columns: tuple[Column, ...]

    @property
    def lmms_name(self) -> str:
        return f"laco_{self.name.replace('-', '_')}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """lmms-eval's tasks, each once."""
        return tuple(dict.fromkeys(b.task for column in self.columns for b in column.benchmarks))


def _column(name: str, task: str, metric: str, full: float = 1.0) -> Column:
    return Column(name, (Benchmark(task, metric, full),))


def _interleave(name: str, subset: str, *sub_tasks: str) -> Column:
    task = f"llava_interleave_bench_{subset}"
    return Column(name, (Benchmark(task, "overall_score", sub_tasks=sub_tasks),))


SINGLE_IMAGE = BenchmarkGroup(
    "single-image",
    (1, 4, 8),
    (
        _column("AI2D", "ai2d", "exact_match"),
        _column("ChartQA", "chartqa", "relaxed_overall"),
        _column("DocVQA", "docvqa_val", "anls"),
        _column("InfoVQA", "infovqa_val", "anls"),
        _column("MMBench", "mmbench_en_dev_static", "gpt_eval_score", 100.0),
        _column("MMMU", "mmmu_val", "mmmu_acc"),
        _column("MMStar", "mmstar", "average"),
        _column("S-Bench", "seedbench", "seed_image"),
        _column("S-QA", "scienceqa_img", "exact_match"),
        _column("RW-QA", "realworldqa", "exact_match"),
    ),
)

MULTI_IMAGE = BenchmarkGroup(
    "multi-image",
    (2, 5, 9),
    (
        _interleave("IEI", "in_domain", "IEdit", "HQ-Edit", "MagicBrush"),
        _interleave(
            "MI-VQA",
            "in_domain",
            "MIT-States_StateCoherence",
            "MIT-States_PropertyCoherence",
            "VISION",
            "RecipeQA_ImageCoherence",
        ),
        _interleave("NL-VR2", "in_domain", "NLVR2_Mantis"),
        _interleave("Puzzle", "in_domain", "RAVEN"),
        _interleave("Q-Bench", "in_domain", "QBench"),
        _interleave("Spot-Diff", "in_domain", "Spot-the-Diff", "Birds-to-Words", "CLEVR-Change"),
        _interleave("TR-VQA", "in_domain", "WebQA", "TQA", "OCR-VQA", "DocVQA"),
        _interleave("VST", "in_domain", "AESOP", "FlintstonesSV", "PororoSV", "VIST"),
        _interleave("3D-Chat", "multi_view", "ScanNet_chat"),
        _interleave("3D-TD", "multi_view", "ScanNet_task"),
        _interleave("ScanQA", "multi_view", "ScanQA"),
        _interleave("ALFRED", "multi_view", "ALFRED"),
        _interleave("nuScenes", "multi_view", "nuscenes"),
        _interleave("BLINK", "out_domain", "BLINK"),
        _interleave("Mantis", "out_domain", "Mantis"),
        _interleave("MathVerse", "out_domain", "MathVerse"),
        _column("MuirBench", "muirbench", "muirbench_score_overall"),
        _interleave("SciVerse", "out_domain", "SciVerse"),
    ),
)

VIDEO = BenchmarkGroup(
    "video",
    (3, 6, 7),
    (
        _column("EgoSchema", "egoschema_subset", "score"),
        _column("NextQA", "nextqa_mc_test", "exact_match"),
        _column("PercepTest", "perceptiontest_val_mc", "accuracy"),
        _column("S-Bench", "seedbench", "seed_video"),
        Column(
            "VideoMME",
            (
                Benchmark("videomme", "videomme_perception_score", 100.0),
                Benchmark("videomme_w_subtitle", "videomme_perception_score", 100.0),
            ),
        ),
    ),
)

BENCHMARK_GROUPS = {group.name: group for group in (SINGLE_IMAGE, MULTI_IMAGE, VIDEO)}
