"""Which text runtime is taken, and what is said where it cannot be."""

import json
from importlib.metadata import version

import pytest

from laco_engines.cli import main
from laco_engines.generation import text_runtime
from laco_engines.generation.text_runtime import (
    TEXT_RUNTIMES,
    TextRuntimeMissingError,
    choose_text_runtime,
    open_text_runtime,
)
from laco_export import optimum_conflict
from laco_export.errors import UsageError


@pytest.fixture
def without_optimum(monkeypatch):
    """A machine on which Optimum is not installed."""
    installed = text_runtime._installed
    monkeypatch.setattr(text_runtime, "_installed", lambda name: name != "optimum.onnxruntime" and installed(name))


@pytest.mark.usefixtures("needs_optimum")
def test_optimum_is_taken_where_it_is_installed():
    assert choose_text_runtime() == ("optimum", ())
    assert [choose_text_runtime(name)[0] for name in TEXT_RUNTIMES] == list(TEXT_RUNTIMES)


def test_the_lean_one_is_taken_where_optimum_is_not_installed(without_optimum, bundle):
    text = open_text_runtime(bundle, threads=1)
    assert text.name.split()[0] == "lean"
    assert text.passed_over == ("the text runtime 'optimum' needs optimum.onnxruntime, which is not installed",)


def test_prompt_lookup_takes_the_one_that_does_it(bundle):
    text = open_text_runtime(bundle, threads=1, prompt_lookup="close")
    assert text.name.split()[0] == "lean"
    assert text.passed_over == ("the text runtime 'optimum' has no prompt lookup",)
    assert "pass_costs" in vars(text)  # measured while it is loaded
    with pytest.raises(UsageError, match="'optimum' has no prompt lookup"):
        choose_text_runtime("optimum", prompt_lookup=True)


def test_one_that_is_asked_for_and_missing_says_what_to_install(without_optimum):
    with pytest.raises(TextRuntimeMissingError, match=r"needs optimum\.onnxruntime") as refused:
        choose_text_runtime("optimum")
    assert "pip install 'laco-export[llm]'" in refused.value.todo


def test_optimum_beside_a_transformers_that_it_does_not_allow(monkeypatch):
    """Installed by force it imports, and is passed over all the same."""
    stated = {"optimum-onnx": "0.1.0", "transformers": "5.24.0"}
    monkeypatch.setattr(optimum_conflict, "version", lambda name: stated.get(name) or version(name))
    monkeypatch.setattr(optimum_conflict, "requires", lambda name: ["transformers<4.58.0,>=4.36", "x; extra == 'y'"])
    monkeypatch.setattr(text_runtime, "_installed", lambda module: True)
    reason = "cannot be used: optimum-onnx 0.1.0 needs transformers<4.58.0,>=4.36, not 5.24.0"
    assert choose_text_runtime() == ("lean", (f"the text runtime 'optimum' {reason}",))
    with pytest.raises(TextRuntimeMissingError, match="needs transformers"):
        choose_text_runtime("optimum")
    stated["transformers"] = "4.57.6"
    assert choose_text_runtime() == ("optimum", ())


def test_a_name_that_is_none():
    with pytest.raises(UsageError, match="no such text runtime"):
        choose_text_runtime("fat")


def test_optimum_that_cannot_be_imported_is_passed_over_unless_it_was_asked_for(bundle, monkeypatch):
    """As where its version and transformers' do not go together."""

    def broken(*arguments):
        raise ImportError("cannot import name 'is_offline_mode' from 'transformers.utils'")

    monkeypatch.setitem(TEXT_RUNTIMES, "optimum", broken)
    monkeypatch.setattr(text_runtime, "_installed", lambda module: True)
    monkeypatch.setattr(text_runtime, "optimum_conflict", lambda: None)
    text = open_text_runtime(bundle, threads=1)
    assert text.name.split()[0] == "lean"
    assert "'is_offline_mode'" in text.passed_over[0]
    with pytest.raises(TextRuntimeMissingError, match="cannot be imported"):
        open_text_runtime(bundle, name="optimum")


@pytest.mark.parametrize("command", ["run", "chat", "serve", "bench"])
def test_commands_refuse_one_that_is_missing_before_they_load(command, without_optimum, tmp_path, capsys):
    arguments = [command, str(tmp_path), "--text-runtime", "optimum"]
    assert main([*arguments, *(["--question", "What?"] if command == "run" else [])]) == 1
    assert "needs optimum.onnxruntime, which is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("name", TEXT_RUNTIMES)
def test_json_says_which_ran(name, bundle_folder, capfd, request):
    if name == "optimum":
        request.getfixturevalue("needs_optimum")
    options = ["--question", "What?", "--text-runtime", name, "--max-new-tokens", "2", "--threads", "1", "--json"]
    assert main(["run", str(bundle_folder), *options]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["text_runtime"].startswith(f"{name} ")
    assert document["text_runtime_passed_over"] == []
