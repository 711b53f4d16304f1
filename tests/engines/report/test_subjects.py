import dataclasses
from pathlib import Path

import pytest

from laco_engines.report.subjects import place_of_reference, subjects_of
from laco_export.bundle import Bundle
from laco_export.errors import BundleError, DepthError, UsageError


@pytest.fixture
def several(make_manifest):
    """A bundle of two depths."""
    shallow, deep = (
        make_manifest(),
        make_manifest(compression={**make_manifest().compression, "depth": "1", "block": 4}),
    )
    return Bundle(Path("all"), shallow.joined_with([deep]))


def test_each_depth_is_a_subject_of_its_own(several, make_subject):
    single = make_subject("one").bundle
    subjects = subjects_of([several, single])
    assert [subject.name for subject in subjects] == ["all @1/2", "all @1", "one"]
    assert [subject.bundle.manifest.compression["block"] for subject in subjects] == [2, 4, 2]
    assert [subject.depth for subject in subjects] == ["1/2", "1", "1/2"]
    assert all(len(subject.bundle.depths) == 1 for subject in subjects)


def test_chosen_depths_are_of_bundles_with_several(several, make_subject):
    subjects = subjects_of([several, make_subject("one").bundle], ["block:4"])
    assert [subject.name for subject in subjects] == ["all @1", "one"]
    with pytest.raises(DepthError):
        subjects_of([several], ["1/4"])


def test_alike_names_are_numbered(make_manifest):
    bundles = [Bundle(Path(folder) / "same", make_manifest()) for folder in ("a", "b", "c")]
    assert [subject.name for subject in subjects_of(bundles)] == ["same", "same (2)", "same (3)"]


def test_bundles_that_cannot_answer_are_all_named(make_manifest):
    bundles = [Bundle(Path(name), make_manifest(decoder=None)) for name in ("a", "b")]
    with pytest.raises(BundleError) as error:
        subjects_of([*bundles, Bundle(Path("c"), make_manifest())])
    assert error.value.given == "a, b"


def test_bundles_of_different_models_are_refused(make_manifest):
    other = dataclasses.replace(make_manifest().decoder, hidden_size=16)
    bundles = [Bundle(Path("a"), make_manifest()), Bundle(Path("b"), make_manifest(decoder=other))]
    with pytest.raises(UsageError, match="different models: they differ in the language model's hidden_size"):
        subjects_of(bundles)


def test_the_reference_is_found_by_name_or_path(several, make_subject):
    subjects = subjects_of([make_subject("one").bundle, several])
    assert place_of_reference(subjects, None) == 0
    assert place_of_reference(subjects, "all @1") == 2
    assert place_of_reference(subjects, "./all") == 1
    with pytest.raises(UsageError) as error:
        place_of_reference(subjects, "other")
    assert error.value.allowed == "one, all @1/2, all @1"
