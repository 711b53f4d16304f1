"""Names of a depth's files, steps and reports."""

from pathlib import Path

from laco_export.exporter.depth_names import DepthNames


def test_one_depth_needs_no_names():
    names = DepthNames()
    assert (names.vision, names.golden, names.golden_answers) == ("vision", "golden.npz", "golden_answers.npz")
    assert names.step("compare") == "compare"
    assert names.beside(Path("a/b-1.0")) == Path("a/b-1.0")


def test_several_are_told_apart_by_the_depth():
    names = DepthNames("1/4+3/4")
    assert names.vision == "vision_at1_4+3_4"
    assert (names.golden, names.golden_answers) == ("golden_at1_4+3_4.npz", "golden_answers_at1_4+3_4.npz")
    assert names.step("compare") == "compare @1/4+3/4"
    assert names.beside(Path("a/b-1.0")) == Path("a/b-1.0.at1_4+3_4")
