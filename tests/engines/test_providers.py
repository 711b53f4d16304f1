"""The execution provider is the best that is there, or the one asked for, or a plain refusal."""

import sys
from types import SimpleNamespace

import onnxruntime
import pytest

from laco_engines.answering import Answerer
from laco_engines.providers import PROVIDERS, ProviderMissingError, check_provider, choose_provider
from laco_export.errors import UsageError

EVERY = [provider.execution_provider for provider in PROVIDERS.values()]


def built_with(monkeypatch, *names):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(names))


@pytest.mark.parametrize(
    ("built_in", "chosen"),
    [
        (["CPUExecutionProvider"], "cpu"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda"),
        (EVERY, "cuda"),  # TensorRT builds engines by the minute: only when asked for
        (["AzureExecutionProvider", "CPUExecutionProvider"], "cpu"),
    ],
)
def test_the_best_that_is_there(monkeypatch, built_in, chosen):
    built_with(monkeypatch, *built_in)
    assert choose_provider().name == chosen


@pytest.mark.parametrize("name", [*PROVIDERS, "CUDA"])
def test_one_that_is_asked_for_is_taken_with_its_fallbacks(monkeypatch, name):
    built_with(monkeypatch, *EVERY)
    names = [provider for provider, _ in choose_provider(name).session_providers()]
    assert names[0] == PROVIDERS[name.lower()].execution_provider
    assert names[-1] == "CPUExecutionProvider"


def test_a_provider_that_only_the_installed_build_knows(monkeypatch):
    built_with(monkeypatch, "OpenVINOExecutionProvider", "CPUExecutionProvider")
    assert choose_provider("openvino").execution_provider == "OpenVINOExecutionProvider"


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_one_that_is_missing_says_what_is_there_and_what_to_install(monkeypatch, name):
    built_with(monkeypatch, "CPUExecutionProvider")
    with pytest.raises(ProviderMissingError) as caught:
        choose_provider(name)
    message = str(caught.value)
    for part in (name, PROVIDERS[name].execution_provider, "with cpu", "onnxruntime-gpu", onnxruntime.__version__):
        assert part in message


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UsageError) as caught:
        choose_provider("quantum")
    assert "cuda" in caught.value.allowed


def test_without_onnx_runtime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderMissingError, match="ONNX Runtime is not installed"):
        choose_provider()


def test_a_session_that_fell_back_is_noticed():
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    check_provider(session, PROVIDERS["cpu"])
    with pytest.raises(ProviderMissingError, match="does not start on this machine"):
        check_provider(session, PROVIDERS["cuda"])


def test_the_language_model_and_the_tower_take_it(bundle):
    answerer = Answerer(bundle, provider="cpu", threads=1)
    assert answerer.decoder.provider == "CPUExecutionProvider"
    assert "CPU" in answerer.vision.name


@pytest.mark.parametrize(
    "runtime, expected", [(None, "cpu"), ("onnxruntime", "cpu"), ("tensorrt", None), ("onnxruntime-cuda", None)]
)
def test_a_runtime_that_is_named_decides_the_tower(bundle, monkeypatch, runtime, expected):
    def opened(bundle, *, name, threads, provider, shared_weights):
        assert (name, provider) == (runtime, expected)
        raise NotImplementedError

    monkeypatch.setattr("laco_engines.answering.open_runtime", opened)
    with pytest.raises(NotImplementedError):
        Answerer(bundle, runtime=runtime, provider="cpu")


@pytest.mark.usefixtures("needs_optimum")
def test_a_provider_that_does_not_start_is_no_silent_fallback(bundle, monkeypatch):
    from laco_engines.generation.decoder import open_decoder

    built_with(monkeypatch, *EVERY)  # built in, as the wheel with CUDA has it, and no device
    with pytest.raises(ProviderMissingError, match="cuda"):
        open_decoder(bundle, provider="cuda")
    assert open_decoder(bundle).provider == "CPUExecutionProvider"  # unasked, the CPU will do
