"""``laco-engine run``: options, several questions, videos, and what it refuses."""

import io
import json
import os
import re
import shutil
import sys

import pytest

from laco_engines.cli import main
from laco_engines.commands.answer_output import show
from laco_export.bundle import open_bundle, read_manifest, write_manifest


def run(capfd, *arguments):
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as exit:
        code = exit.code
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def documents(out):
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def clip(make_picture, tmp_path):
    path = tmp_path / "clip.gif"
    first, *rest = [make_picture(index) for index in range(5)]
    first.save(path, save_all=True, append_images=rest)
    return path


def test_sampling_options_reach_the_answer(bundle_folder, picture_file, answerer, capfd):
    arguments = [
        "run",
        bundle_folder,
        "--image",
        picture_file,
        "--question",
        "What?",
        "--max-new-tokens",
        "12",
        "--json",
    ]
    options = ["--temperature", "1.3", "--top-p", "0.9", "--top-k", "40", "--repetition-penalty", "1.2", "--seed", "7"]
    code, out, _ = run(capfd, *arguments, *options)
    assert code == 0
    expected = answerer.answer(
        [picture_file], "What?", max_new_tokens=12, temperature=1.3, top_p=0.9, top_k=40, repetition_penalty=1.2, seed=7
    )
    document = json.loads(out)
    assert document["token_ids"] == expected.token_ids
    assert document["seed"] == 7


def test_json_states_the_first_token_and_the_peak_of_memory(bundle_folder, picture_file, capfd):
    code, out, _ = run(capfd, "run", bundle_folder, "--image", picture_file, "--question", "What?", "--json")
    document = json.loads(out)
    timings = document["timings"]
    parts = timings["preprocess_ms"] + timings["encode_ms"] + timings["prefill_ms"]
    assert code == 0
    assert timings["first_token_ms"] == pytest.approx(parts)
    assert document["peak_memory_bytes"] > 50 << 20  # Python with torch takes more
    assert document["provider"] == "CPUExecutionProvider"


def test_a_stop_string_ends_the_answer(bundle_folder, picture_file, answerer, capfd):
    whole = answerer.answer([picture_file], "What?", max_new_tokens=40).text
    stop = next(letter for letter in whole[2:] if letter.isprintable() and letter not in whole[:2] + "\ufffd")
    code, out, _ = run(
        capfd, "run", bundle_folder, "--image", picture_file, "--question", "What?", "--max-new-tokens", "40",
        "--stop", stop, "--json",
    )  # fmt: skip
    document = json.loads(out)
    assert (code, document["stopped_by"], document["finish"]) == (0, stop, "stop")
    assert document["answer"] == whole[: whole.find(stop)]


def test_many_questions_share_their_pictures(bundle_folder, picture_file, answerer, capfd, tmp_path):
    (tmp_path / "questions.txt").write_text("How many?\n\n  What colour?  \n")
    code, out, err = run(
        capfd, "run", bundle_folder, "--image", picture_file, "--question", "What?",
        "--questions", tmp_path / "questions.txt", "--max-new-tokens", "6", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    answered = documents(out)
    questions = ["What?", "How many?", "What colour?"]
    assert [document["question"] for document in answered] == questions
    for document, question in zip(answered, questions, strict=True):
        assert document["token_ids"] == answerer.answer([picture_file], question, max_new_tokens=6).token_ids
    assert answered[0]["cached_tokens"] == 0
    assert all(document["cached_tokens"] >= 48 for document in answered[1:])  # the system line and the picture
    assert all(document["timings"]["encode_ms"] < answered[0]["timings"]["encode_ms"] for document in answered[1:])


def test_questions_come_from_stdin_and_in_batches(bundle_folder, picture_file, answerer, capfd, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("One?\nTwo?\nAnd three?\n"))
    code, out, _ = run(
        capfd, "run", bundle_folder, "--image", picture_file, "--questions", "-", "--batch", "2",
        "--max-new-tokens", "6", "--json",
    )  # fmt: skip
    assert code == 0
    for document in documents(out):
        expected = answerer.answer([picture_file], document["question"], max_new_tokens=6)
        assert document["token_ids"] == expected.token_ids


def test_several_answers_in_text_name_their_questions(bundle_folder, capfd):
    code, out, err = run(
        capfd, "run", bundle_folder, "--question", "One?", "--question", "Two?", "--max-new-tokens", "4"
    )
    assert code == 0
    assert out.index("One?\n") < out.index("Two?\n")
    assert err.count("first token") == 2


def test_a_video_is_answered(bundle_folder, clip, answerer, capfd):
    code, out, _ = run(
        capfd, "run", bundle_folder, "--video", clip, "--frames", "3", "--question", "What happens?",
        "--max-new-tokens", "6", "--json",
    )  # fmt: skip
    document = json.loads(out)
    prompt = answerer.prompter.prepare([], "What happens?", videos=[clip], max_frames=3)
    assert (code, len(prompt.visuals)) == (0, 3)
    assert document["token_ids"] == answerer.generate(prompt, max_new_tokens=6).token_ids
    assert document["videos"] == [str(clip)]


def test_a_prompt_that_is_too_long_is_truncated_on_demand(bundle_folder, picture_file, capfd):
    arguments = ["run", bundle_folder, "--image", picture_file, "--question", "x" * 600, "--max-new-tokens", "10"]
    code, out, err = run(capfd, *arguments)
    assert (code, out) == (2, "")
    assert "longer than the model's context" in err
    assert "--on-overflow truncate" in err
    code, _, err = run(capfd, *arguments, "--on-overflow", "truncate")
    assert code == 0
    assert "note: left out to fit the context: the first" in err
    assert "with 1 picture" in err
    code, out, _ = run(capfd, *arguments, "--on-overflow", "truncate", "--json")
    document = json.loads(out)
    assert document["prompt_tokens"] == open_bundle(bundle_folder).manifest.decoder.context_length - 10
    assert document["omitted"]["visuals"] == 1


WRONG_OPTIONS = {
    "--top-p": ["--top-p", "1.5", "--temperature", "1"],
    "--top-k": ["--top-k", "-2", "--temperature", "1"],
    "--temperature": ["--temperature", "-1"],
    "--repetition-penalty": ["--repetition-penalty", "0"],
    "--seed": ["--seed", "-4"],
    "--stop": ["--stop", ""],
    "give --temperature": ["--top-k", "3"],
    "quantum": ["--provider", "quantum"],
    "--questions": ["--questions", "/nowhere/questions.txt"],
    "--on-overflow": ["--on-overflow", "shrug"],
    "system line": ["--system", "<|im_start|>"],
    "1 videos": ["--question", "<video>?"],
}


@pytest.mark.parametrize("named", WRONG_OPTIONS)
def test_a_wrong_option_is_refused_before_a_model_is_loaded(bundle_folder, capfd, monkeypatch, named):
    monkeypatch.setattr("laco_engines.answering.Answerer.__init__", lambda *args, **kwargs: pytest.fail("loaded"))
    code, out, err = run(capfd, "run", bundle_folder, "--question", "What?", *WRONG_OPTIONS[named])
    assert (code, out) == (2, "")
    assert named in err


def test_no_question_is_refused(bundle_folder, capfd, tmp_path):
    code, _, err = run(capfd, "run", bundle_folder)
    assert code == 2
    assert "no question" in err
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x80")
    code, _, err = run(capfd, "run", bundle_folder, "--questions", tmp_path / "binary")
    assert code == 2
    assert "not UTF-8" in err


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_installed(bundle_folder, capfd, provider):
    code, out, err = run(capfd, "run", bundle_folder, "--question", "What?", "--provider", provider)
    assert (code, out) == (1, "")
    for part in (
        f"'{provider}'",
        "is not in the installed ONNX Runtime",
        "with azure, cpu",
        "pip install onnxruntime-gpu",
    ):
        assert part in err


def test_prompt_lookup_gives_the_same_tokens_and_says_what_a_pass_gave(bundle_folder, capfd):
    arguments = ["run", bundle_folder, "--question", "abc abc abc abc", "--max-new-tokens", "24", "--threads", "1"]
    runs = [
        json.loads(run(capfd, *arguments, "--json", *further)[1])
        for further in (["--text-runtime", "lean"], ["--prompt-lookup"])
    ]
    assert runs[0]["token_ids"] == runs[1]["token_ids"]
    assert runs[0]["timings"]["decode_tokens_per_pass"] is None
    assert runs[1]["timings"]["decode_tokens_per_pass"] >= 1
    assert runs[1]["text_runtime_passed_over"] == ["the text runtime 'optimum' has no prompt lookup"]
    _, _, told = run(capfd, *arguments, "--prompt-lookup", "close")
    assert re.search(r"\(24 tokens, \d\.\d\d a pass\)", told)


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["--text-runtime", "optimum"], "the text runtime 'optimum' has no prompt lookup"),
        (["--batch", "2"], "--prompt-lookup answers one question at a time"),
        (["--temperature", "1"], "--prompt-lookup promises the tokens"),
    ],
)
def test_prompt_lookup_is_refused_before_anything_is_read(further, message, capfd, tmp_path):
    code, out, err = run(capfd, "run", tmp_path / "none", "--question", "What?", "--prompt-lookup", "exact", *further)
    assert (code, out) == (2, "")
    assert message in err


def test_a_runtime_can_be_named(bundle_folder, picture_file, capfd):
    arguments = ["run", bundle_folder, "--image", picture_file, "--question", "What?", "--max-new-tokens", "2"]
    code, out, _ = run(capfd, *arguments, "--runtime", "onnxruntime", "--json")
    document = json.loads(out)
    assert (code, document["passed_over"]) == (0, [])
    assert document["runtime"].startswith("onnxruntime")


@pytest.mark.parametrize(
    "name, code, message", [("abacus", 2, "no such runtime"), ("tensorrt", 1, "TensorRT"), ("tensorrt-rtx", 1, "")]
)
def test_a_runtime_that_is_not_there_is_refused_before_torch_is_imported(
    bundle_folder, capfd, monkeypatch, name, code, message
):
    monkeypatch.setitem(sys.modules, "laco_engines.generation.decoder", None)
    exit_code, out, err = run(capfd, "run", bundle_folder, "--question", "What?", "--runtime", name)
    assert (exit_code, out) == (code, "")
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize("pictures, marks", [(1, 2), (2, 1), (0, 1)])
def test_too_many_and_too_few_marks(bundle_folder, picture_file, capfd, pictures, marks):
    images = ["--image", picture_file] * pictures
    code, out, err = run(capfd, "run", bundle_folder, *images, "--question", "<image> " * marks + "?")
    assert (code, out) == (2, "")
    assert f"marks {marks} pictures and {pictures} are given" in err


BROKEN_VIDEOS = {
    "missing": lambda path: None,
    "text": lambda path: path.write_text("no video"),
    "empty folder": lambda path: path.mkdir(),
    "truncated": lambda path: path.write_bytes(b"GIF89a\x10\x00\x10\x00\x80\x00\x00"),
}


@pytest.mark.parametrize("kind", BROKEN_VIDEOS)
@pytest.mark.parametrize("name", ["clip.gif", "clip.mp4"])
def test_a_broken_video_is_refused(bundle_folder, tmp_path, capfd, kind, name):
    path = tmp_path / name
    BROKEN_VIDEOS[kind](path)
    code, out, err = run(capfd, "run", bundle_folder, "--video", path, "--question", "What?")
    assert (code, out) == (1, "")
    assert name in err


def test_a_coded_video_without_its_package_says_what_to_install(bundle_folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"....")
    code, _, err = run(capfd, "run", bundle_folder, "--video", tmp_path / "clip.mp4", "--question", "What?")
    assert code == 1
    assert "PyAV" in err
    assert "laco-export[video]" in err


@pytest.fixture
def with_tokenizer(bundle_folder, tmp_path):
    """``with_tokenizer(change)``: a copy of the bundle whose tokenizer.json went through ``change``."""

    def make(change):
        folder = tmp_path / "bundle"
        shutil.copytree(bundle_folder, folder)
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        change(tokenizer)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        write_manifest(folder, read_manifest(folder))
        return folder

    return make


def forget_the_image_token(tokenizer):
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != "<|image_pad|>"]
    tokenizer["model"]["vocab"].pop("<|image_pad|>", None)


@pytest.mark.parametrize("command", ["run", "chat"])
def test_a_tokenizer_without_the_image_token(with_tokenizer, picture_file, capfd, command):
    folder = with_tokenizer(forget_the_image_token)
    question = ["--question", "What?"] if command == "run" else []
    code, out, err = run(capfd, command, folder, "--image", picture_file, *question)
    assert (code, out) == (1, "")
    assert "does not have the image token <|image_pad|>" in err


def test_a_tokenizer_that_is_another_models(with_tokenizer, capfd):
    def swap(tokenizer):
        names = {"<|image_pad|>": "<|video_pad|>", "<|video_pad|>": "<|image_pad|>"}
        for token in tokenizer["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])

    code, _, err = run(capfd, "run", with_tokenizer(swap), "--question", "What?")
    assert code == 1
    assert "image_token_id" in err


@pytest.mark.parametrize("command", [["run", "--question", "What?"], ["chat"]])
def test_a_bundle_without_a_language_model(rewritten, capfd, command):
    code, out, err = run(capfd, command[0], rewritten(decoder=None), *command[1:])
    assert (code, out) == (1, "")
    assert "no language model" in err
    assert "without --no-llm" in err


@pytest.mark.parametrize("text", ["red\x1b[2Jgreen", "\x07\r\x9b31m", "\x00"])
def test_an_answer_cannot_steer_the_terminal(capsys, text):
    show(text + "\n\té中")
    shown = capsys.readouterr().out
    assert shown.endswith("\n\té中")
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown.replace("\n\t", ""))


def test_a_tokenizer_whose_pattern_gives_up_over_a_text(with_tokenizer, capfd):
    """The library panics, which is no Exception of Python's."""

    def explode(tokenizer):
        split = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]}

    code, out, err = run(capfd, "run", with_tokenizer(explode), "--question", "x" * 40)
    assert (code, out) == (2, "")
    assert "error: the tokenizer cannot tokenise the text: " in err and "retry-limit" in err


def test_a_byte_order_mark_is_no_part_of_a_question(bundle_folder, capfd, tmp_path, monkeypatch):
    data = b"\xef\xbb\xbfWhat?\n"
    (tmp_path / "questions.txt").write_bytes(data)
    for source in (tmp_path / "questions.txt", "-"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code, out, _ = run(capfd, "run", bundle_folder, "--questions", source, "--max-new-tokens", "2", "--json")
        assert (code, json.loads(out)["question"]) == (0, "What?")


@pytest.mark.parametrize("option", ["--question", "--system", "--stop", "stdin"])
def test_a_text_that_is_not_utf8_is_a_usage_error(bundle_folder, capfd, monkeypatch, option):
    text = os.fsdecode("café".encode("latin-1"))
    given = ["--question", "What?", option, text]
    if option == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(text)), encoding="ascii"))
        given = ["--questions", "-"]
    code, out, err = run(capfd, "run", bundle_folder, *given)
    assert (code, out) == (2, "")
    assert "is not UTF-8 text" in err


def test_a_picture_may_have_any_name_and_a_bundle_may_not(bundle_folder, picture_file, capfd, tmp_path):
    odd = tmp_path / os.fsdecode("café.png".encode("latin-1"))
    shutil.copy(picture_file, odd)
    arguments = ["--question", "What?", "--max-new-tokens", "2", "--json"]
    code, out, _ = run(capfd, "run", bundle_folder, "--image", odd, *arguments)
    assert (code, json.loads(out)["images"]) == (0, [str(odd)])
    code, out, err = run(capfd, "run", odd.with_suffix(""), *arguments)
    assert (code, out) == (2, "")
    assert "rename it" in err
