"""``laco-engine`` as its user meets it: answers on stdout, one line on stderr, plain errors."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from laco_engines.cli import main
from laco_engines.commands import COMMANDS
from laco_export.bundle import open_bundle

COMMAND = [sys.executable, "-m", "laco_engines.cli"]


def run_in_process(capfd, *arguments):
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as exit:
        code = exit.code
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_run_streams_the_answer_and_ends_with_one_line_of_timings(bundle_folder, picture_file, answerer):
    arguments = ["run", bundle_folder, "--image", picture_file, "--question", "What?", "--max-new-tokens", "12"]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True)
    answer = answerer.answer([picture_file], "What?", max_new_tokens=12)
    assert done.returncode == 0
    streamed = done.stdout.decode().removesuffix("\n")
    assert printable(streamed) == printable(answer.text)
    said = [line for line in done.stderr.decode().splitlines() if not line.endswith(" elapsed")]  # a busy machine loads
    (line,) = said  # nothing of Optimum, transformers or ONNX Runtime
    for word in ("preprocess", "encode", "(1 picture)", "prefill", "decode", "(12 tokens)", "load", "peak memory"):
        assert word in line


def test_json_is_one_document(bundle_folder, picture_file, answerer, capfd):
    code, out, err = run_in_process(
        capfd, "run", bundle_folder, "--image", picture_file, "--image", picture_file, "--question", "What?",
        "--max-new-tokens", "5", "--json"
    )  # fmt: skip
    assert (code, err) == (0, "")
    document = json.loads(out)
    expected = answerer.answer([picture_file, picture_file], "What?", max_new_tokens=5)
    assert document["token_ids"] == expected.token_ids
    assert document["answer"] == expected.text
    assert document["tokens"] == 5
    assert document["images"] == [str(picture_file)] * 2
    assert document["bundle"] == str(bundle_folder)
    assert set(document["timings"]) == {
        "verify_ms", "load_ms", "preprocess_ms", "encode_ms", "prefill_ms", "first_token_ms", "decode_tokens_per_s",
        "decode_tokens_per_pass"
    }  # fmt: skip


def test_inspect_prints_what_the_manifest_says(bundle_folder, capfd):
    code, out, _ = run_in_process(capfd, "inspect", bundle_folder)
    assert code == 0
    for text in ("aimv2_vision_model", "depth 1/2", "fp32", "image_features float32[1, 4, 48]", "qwen2"):
        assert text in out
    manifest = open_bundle(bundle_folder).manifest
    tensors = [tensor["name"] for tensor in manifest.accuracy["tensors"]]
    for name in (
        *manifest.files,
        *tensors,
        *(rewrite["name"] for rewrite in manifest.vision.rewrites),
        "decoder, cached",
    ):
        assert name in out
    code, out, _ = run_in_process(capfd, "inspect", bundle_folder, "--json")
    assert json.loads(out)["compression"]["depth"] == "1/2"


@pytest.mark.parametrize("arguments", [["--help"], *([command.name, "--help"] for command in COMMANDS)])
def test_help_imports_nothing_heavy(arguments):
    code = f"""
import sys
from laco_engines.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
heavy = {{"torch", "transformers", "optimum", "onnxruntime", "numpy", "PIL", "rich"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def printable(text):
    return "".join(letter for letter in text if letter.isprintable() and letter != "\ufffd")


def test_a_narrow_terminal_encoding_is_no_error(bundle_folder, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["run", str(bundle_folder), "--question", "é中?", "--max-new-tokens", "12", "--debug"]) == 0
    assert stdout.buffer.getvalue().strip()


def saved(tmp_path, name, image, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


GOOD = {
    "cmyk.jpg": lambda image: (image.convert("CMYK"), {}),
    "palette.png": lambda image: (image.convert("P", palette=Image.Palette.ADAPTIVE), {}),
    "grey.png": lambda image: (image.convert("L"), {}),
    "alpha.png": lambda image: (image.convert("RGBA"), {}),
    "sixteen.png": lambda image: (Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257), {}),
    "one.png": lambda image: (image.resize((1, 1)), {}),
    "sliver.png": lambda image: (image.resize((2, 900)), {}),
    "rotated.png": lambda image: (image.transpose(Image.Transpose.ROTATE_90), {"exif": _orientation(6)}),
}


def _orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("name", GOOD)
def test_unusual_pictures_are_answered(answerer, make_picture, tmp_path, name):
    image, options = GOOD[name](make_picture(3))
    path = saved(tmp_path, name, image, **options)
    answer = answerer.answer([path], "What?", max_new_tokens=8)
    if name == "rotated.png":  # stored lying, shown upright: the same answer as the upright picture
        assert answer.token_ids == answerer.answer([make_picture(3)], "What?", max_new_tokens=8).token_ids
        lying = answerer.answer([image], "What?", max_new_tokens=8)
        assert answer.token_ids != lying.token_ids
    assert len(answer.token_ids) == 8


def _bytes(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


BAD_PICTURES = {
    "truncated": lambda path, image: path.write_bytes(_bytes(image)[: len(_bytes(image)) // 2]),
    "truncated jpeg": lambda path, image: path.write_bytes(_bytes(image, "JPEG")[:-200]),
    "text": lambda path, image: path.write_text("not a picture"),
    "empty": lambda path, image: path.touch(),
    "folder": lambda path, image: path.mkdir(),
    "missing": lambda path, image: None,
    "too large": lambda path, image: image.resize((200, 60)).save(path),
}


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_broken_pictures_are_refused_before_a_model_is_loaded(
    bundle_folder, make_picture, tmp_path, capfd, monkeypatch, kind
):
    monkeypatch.setattr("laco_engines.answering.Answerer.__init__", lambda *args, **kwargs: pytest.fail("loaded"))
    path = tmp_path / "picture.png"
    BAD_PICTURES[kind](path, make_picture(0))
    code, out, err = run_in_process(
        capfd, "run", bundle_folder, "--image", path, "--question", "What?", "--max-pixels", "10000"
    )
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "picture.png" in err


def test_an_unreadable_picture_is_refused(bundle_folder, picture_file, capfd, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(picture_file))

    monkeypatch.setattr(Image, "open", refuse)
    code, _, err = run_in_process(capfd, "run", bundle_folder, "--image", picture_file, "--question", "What?")
    assert code == 1
    assert "Permission denied" in err
    assert str(picture_file) in err


@pytest.mark.parametrize("question", ["", "  \n", "<|im_end|>", "<image> <image>"])
def test_a_wrong_question_is_a_usage_error(bundle_folder, picture_file, capfd, question):
    code, out, err = run_in_process(capfd, "run", bundle_folder, "--image", picture_file, "--question", question)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["walk"],
        ["run"],
        ["run", "x", "--question", "What?", "--max-new-tokens", "0"],
        ["run", "x", "--question", "What?", "--max-pixels", "many"],
        ["run", "x", "--question", "What?", "--threads", "-1"],
    ],
)
def test_wrong_arguments_are_usage_errors(capfd, arguments):
    code, _, err = run_in_process(capfd, *arguments)
    assert code == 2
    assert "usage: laco-engine" in err


def flipped(bundle_folder):
    """Every file of the bundle, with one byte flipped in its middle while the test looks at it."""
    for path in sorted(path for path in bundle_folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if content:
            yield path, content


def test_a_flipped_byte_in_any_file_is_an_error(rewritten, picture_file, capfd):
    folder, checked = rewritten(), 0
    for path, content in flipped(folder):
        damaged = bytearray(content)
        damaged[len(content) // 2] ^= 4
        path.write_bytes(damaged)
        code, out, err = run_in_process(capfd, "run", folder, "--image", picture_file, "--question", "What?")
        assert (code, out) == (1, "")
        assert path.name in err
        path.write_bytes(content)
        checked += 1
    assert checked == len(open_bundle(folder).manifest.files) + 1  # and laco.json


def test_a_missing_file_is_an_error(rewritten, capfd):
    folder = rewritten()
    (folder / "llm/model.onnx_data").unlink()
    for command in (["inspect", folder], ["run", folder, "--question", "What?"]):
        code, _, err = run_in_process(capfd, *command)
        assert code == 1
        assert "llm/model.onnx_data" in err


def test_a_newer_schema_is_an_error(rewritten, capfd):
    folder = rewritten(schema_version=99)
    code, _, err = run_in_process(capfd, "run", folder, "--question", "What?")
    assert code == 1
    assert "newer" in err
    assert "schema version 99" in err


def test_what_is_no_bundle_is_an_error(tmp_path, capfd):
    for path in (tmp_path, tmp_path / "none"):
        code, _, err = run_in_process(capfd, "run", path, "--question", "What?")
        assert code == 1
        assert "is not a bundle" in err


def test_a_bundle_without_a_language_model_says_so(rewritten, picture_file, capfd):
    folder = rewritten(decoder=None)
    code, _, err = run_in_process(capfd, "run", folder, "--image", picture_file, "--question", "What?")
    assert code == 1
    assert "no language model" in err
    code, out, _ = run_in_process(capfd, "inspect", folder)
    assert code == 0
    assert "none in this bundle" in out


def test_debug_shows_the_traceback(tmp_path):
    done = subprocess.run([*COMMAND, "inspect", tmp_path, "--debug"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "BundleError" in done.stderr


@pytest.mark.parametrize(
    ("redirection", "text_runtime"), [("2>&-", "optimum"), ("2>/dev/full", "lean"), ("2> >(exec true)", "lean")]
)
def test_an_answer_comes_where_nobody_takes_the_messages(
    bundle_folder, picture_file, answerer, redirection, text_runtime, request
):
    if text_runtime == "optimum":
        request.getfixturevalue("needs_optimum")
    question = f"--question What? --max-new-tokens 6 --text-runtime {text_runtime}"
    shell = f'"$0" -m laco_engines.cli run "$1" --image "$2" {question} {redirection}'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, str(bundle_folder), str(picture_file)], capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    answer = answerer.answer([picture_file], "What?", max_new_tokens=6)
    assert printable(done.stdout.decode().removesuffix("\n")) == printable(answer.text)


def test_a_bundle_with_an_umlaut_under_the_c_locale(bundle_folder, tmp_path):
    (tmp_path / "Büro").symlink_to(bundle_folder)
    c_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    arguments = ["run", "Büro", "--question", "Größe?", "--max-new-tokens", "2", "--json", "--text-runtime", "lean"]
    done = subprocess.run([*COMMAND, *arguments], cwd=tmp_path, env=os.environ | c_locale, capture_output=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["question"], document["bundle"]) == ("Größe?", "Büro")
