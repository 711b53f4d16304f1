"""``laco-engine diff --attribute`` as its user meets it, and its way into a report."""

import dataclasses
import json

import pytest
from page_numbers import assert_page_says
from PIL import Image

from laco_engines.devices.host_peaks import HostPeaks
from laco_engines.report import first_token
from laco_export.bundle import read_manifest

QUICK = ("--threads", "1", "--text-runtime", "lean", "--max-new-tokens", "6")
ROWS = [
    "resizing and normalising", "tower before the merge", "merge", "tower after the merge", "projector",
    "language model", "vocabulary", "runtime", "several parts together", "all parts",
]  # fmt: skip


@pytest.fixture
def wrong_mean(rewritten, bundle_folder):
    """The bundle with pictures normalised otherwise."""
    return rewritten(preprocessing={**read_manifest(bundle_folder).preprocessing, "image_mean": [0.9, 0.1, 0.6]})


@pytest.fixture
def pictures(tmp_path, make_picture):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(2):
        make_picture(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def questions(tmp_path):
    file = tmp_path / "questions.txt"
    file.write_text("What is this?\n")
    return file


@pytest.fixture
def attribute(run, bundle_folder):
    """``attribute(bundle, *options, reference=)``: exit code, stdout, stderr."""
    return lambda bundle, *options, reference=bundle_folder: run(
        "diff", bundle, "--attribute", "--reference", reference, *QUICK, *options
    )


def test_a_table_a_document_and_a_waterfall(attribute, wrong_mean, bundle_folder, pictures, questions, tmp_path):
    asked = ("--images", pictures, "--questions", questions)
    plot = tmp_path / "drift.png"
    code, out, err = attribute(wrong_mean, *asked, "--plot", plot, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert [row["part"] for row in document["attribution"]] == ROWS
    by_part = {row["part"]: row for row in document["attribution"]}
    assert by_part["all parts"]["points"] == 100 == by_part["resizing and normalising"]["points"]
    assert (document["asked"], document["not_asked"], document["depth"]) == (2, {}, "1/2")
    assert [(answer["id"], answer["pictures"]) for answer in document["changed"]] == [
        ("0.png?1", ["0.png"]), ("1.png?1", ["1.png"]),
    ]  # fmt: skip
    for answer in document["changed"]:
        assert answer["cause"] == "resizing and normalising" and answer["answer"] != answer["reference"]
        assert [row["part"] for row in answer["parts"]] == ROWS
    with Image.open(plot) as image:
        assert image.size == (1440, 150 + 34 * len(ROWS))
    code, out, _ = attribute(wrong_mean, *asked)
    assert code == 0
    assert "2 of 2 answers changed" in out and "0.png: " in out and out.count(": resizing and normalising") == 2
    assert all(part in out for part in ROWS)


def test_without_questions_the_golden_pictures_are_asked_about(attribute, bundle_folder):
    code, out, err = attribute(bundle_folder, "--json", "--blocks")
    assert code == 0, err
    document = json.loads(out)
    assert document["asked"] == 4 and document["changed"] == []
    assert "encoder.encoder.layers.3" in [row["part"] for row in document["attribution"]]


def test_a_report_draws_it(run, attribute, wrong_mean, bundle_folder, pictures, questions, tmp_path, monkeypatch):
    # The machine's peaks take a second to measure.
    monkeypatch.setattr(first_token, "measure_peaks", lambda threads: HostPeaks(1e12, 1e9, threads, 2e12))
    asked = ("--images", pictures, "--questions", questions)
    code, out, err = attribute(wrong_mean, *asked, "--json")
    assert code == 0, err
    file, page = tmp_path / "drift.json", tmp_path / "report.html"
    file.write_text(out)
    drift = ("--attribution", file, "--no-memory", "--json", "--output", page)
    code, _, err = run("report", bundle_folder, *asked, *QUICK, *drift)
    assert code == 2 and "none of the report's bundles" in err and not page.exists()
    code, out, err = run("report", wrong_mean, *asked, *QUICK, *drift)
    assert code == 0, err
    document, html = json.loads(out), page.read_text()
    assert [row["part"] for row in document["attribution"]] == ROWS
    assert document["attributed"] == f"{wrong_mean} at depth 1/2, beside {bundle_folder}"
    assert "nothing was switched back alone" not in " ".join(document["not_measured"])
    assert document["attributed"] in html and "What the drift came from" in html
    assert_page_says(html, document)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "ckpt"], "takes a bundle as its reference, not a checkpoint"),
        (["--images", "pictures"], "--images and --questions go together"),
        (["--questions", "q.txt"], "--images and --questions go together"),
        (["--images", "a", "b", "--questions", "q.txt"], "--images is one folder"),
        (["--images", "none", "--questions", "q.txt"], "--images 'none' is not a folder"),
        (["--plot", "drift.pdf"], "--plot writes a PNG"),
        (["--plot", "nowhere/drift.png"], "a folder that does not exist"),
        (["--text-runtime", "abacus"], "no such text runtime"),
        (["--at", "1/3"], "does not carry depth 1/3"),
    ],
)
def test_what_cannot_be_asked_for(attribute, bundle_folder, options, said):
    code, out, err = attribute(bundle_folder, *options)
    assert code == 2 and said in err and not out


def test_a_reference_is_needed_and_attribute_too(run, bundle_folder):
    code, _, err = run("diff", bundle_folder, "--attribute")
    assert code == 2 and "--attribute needs --reference" in err and "laco-export --model CKPT" in err
    for options in (["--reference", bundle_folder], ["--plot", "a.png"], ["--questions", "q"], ["--max-new-tokens", 3]):
        code, _, err = run("diff", bundle_folder, *options)
        assert code == 2 and f"{options[0]} needs --attribute" in err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compression": {"depth": "1/4"}}, "is of another depth"),
        ({"source": {"sha256": "0" * 64}}, "made from another checkpoint"),
        ({"source": {"sha256": "0" * 64}, "encoder": {"hidden_size": 64}}, "different models: they differ in the enc"),
        ({"vision": {"token_grid": (4, 1)}}, "lays out pictures otherwise"),
        ({"decoder": None}, "has no language model"),
    ],
)
def test_a_reference_of_another_model_is_refused_by_name(attribute, rewritten, bundle_folder, changes, said):
    manifest = read_manifest(bundle_folder)
    merged = {}
    for field, change in changes.items():
        old = getattr(manifest, field)
        if isinstance(change, dict):
            change = {**old, **change} if isinstance(old, dict) else dataclasses.replace(old, **change)
        merged[field] = change
    code, out, err = attribute(bundle_folder, reference=rewritten(**merged))
    assert code in (1, 2) and said in err and not out


def test_pictures_that_are_missing_are_named(attribute, bundle_folder, pictures, tmp_path):
    file = tmp_path / "q.json"
    file.write_text(json.dumps([{"image": "7.png", "question": "What?"}, {"image": "8.png", "question": "What?"}]))
    code, _, err = attribute(bundle_folder, "--images", pictures, "--questions", file)
    assert code == 2 and "2 pictures of" in err and "7.png, 8.png" in err


def test_a_picture_that_cannot_be_read_is_left_out_by_name(attribute, bundle_folder, pictures, questions):
    (pictures / "1.png").write_bytes(b"no picture")
    asked = ("--images", pictures, "--questions", questions)
    code, out, err = attribute(bundle_folder, *asked)
    assert code == 0, err
    assert "not asked: 1.png?1" in out and "is not a picture" in out
    (pictures / "0.png").write_bytes(b"no picture")
    code, out, err = attribute(bundle_folder, *asked)
    assert code == 1 and "is not a picture" in err and not out
