"""The vision runtime: PyTorch's features, at any number of pictures, without torch."""

import dataclasses
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from laco_engines import runtimes
from laco_engines.runtimes import RuntimeMissingError, open_runtime
from laco_engines.runtimes.protocol import encode_in_batches, split_batch
from laco_export.bundle import Bundle
from laco_export.errors import BundleError, UsageError


@pytest.fixture(scope="module")
def runtime(bundle):
    return open_runtime(bundle, threads=1)


@pytest.mark.parametrize("num_images", [1, 2, 3, 5])
def test_features_equal_pytorch(answering_model, bundle, runtime, make_picture, num_images):
    model, _ = answering_model
    prepare = bundle.manifest.image_preprocessing
    pixel_values = np.stack([prepare(make_picture(seed)) for seed in range(num_images)])
    with torch.inference_mode():
        expected = model.get_image_features(torch.from_numpy(pixel_values)).numpy()
    features = runtime.encode(pixel_values)
    assert features.dtype == np.float32
    assert features.shape == expected.shape
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(expected - expected.mean(0)).max() > 0.1 or num_images == 1  # the pictures differ


@pytest.mark.parametrize(
    "num_images, batch_sizes, expected",
    [(1, [1], [1]), (3, [1], [1, 1, 1]), (3, [1, 2], [2, 1]), (7, [5, 1], [5, 1, 1]), (1, [4], [4]), (6, [4], [4, 4])],
)
def test_pictures_are_split_over_the_static_batch_sizes(num_images, batch_sizes, expected):
    assert split_batch(num_images, batch_sizes) == expected


def test_padding_is_dropped_and_the_order_kept():
    seen = []

    def run(batch, pixel_values):
        assert pixel_values.shape == (batch, 3, 2, 2)
        seen.append(batch)
        return pixel_values.mean((1, 2, 3))[:, None, None]

    pixel_values = np.arange(6, dtype=np.float32)[:, None, None, None] * np.ones((6, 3, 2, 2), np.float32)
    assert encode_in_batches(run, [4], pixel_values).ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert seen == [4, 4]


@pytest.mark.parametrize("shape", [(0, 3, 56, 56), (1, 3, 56, 57), (1, 1, 56, 56), (3, 56, 56)])
def test_another_shape_is_refused(runtime, shape):
    with pytest.raises(UsageError, match="shape") as caught:
        runtime.encode(np.zeros(shape, np.float32))
    assert "[B, 3, 56, 56]" in str(caught.value)


@pytest.mark.usefixtures("needs_optimum")
def test_integer_products_are_exact_on_processors_whose_own_are_not(bundle, monkeypatch):
    from laco_engines.generation.decoder import open_decoder
    from laco_export import onnx_session

    monkeypatch.setattr(onnx_session, "products_saturate", lambda: True)
    tower, decoder = open_runtime(bundle, name="onnxruntime-cpu"), open_decoder(bundle, provider="cpu")
    for session in (tower._session(1), decoder.session):
        assert session.get_session_options().get_session_config_entry(onnx_session.EXACT_PRODUCTS) == "1"


@pytest.mark.parametrize("precision", ["w8", "w4"])
def test_weights_alone_are_multiplied_in_floats_and_need_nothing(precision, bundle, monkeypatch):
    """Bundles of earlier versions leave out their zero points, which the entry would ask for."""
    from laco_export import onnx_session

    monkeypatch.setattr(onnx_session, "products_saturate", lambda: True)
    vision = dataclasses.replace(bundle.manifest.vision, precision=precision)
    weights_only = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, vision=vision))
    session = open_runtime(weights_only, name="onnxruntime-cpu")._session(1)
    with pytest.raises(RuntimeError):
        session.get_session_options().get_session_config_entry(onnx_session.EXACT_PRODUCTS)


@pytest.mark.parametrize("changes", [{"shape": (1, 5, 48)}, {"dtype": "float16"}], ids=str)
def test_a_graph_that_is_not_the_manifests_is_refused(bundle, changes):
    vision = bundle.manifest.vision
    graph = dataclasses.replace(vision.graphs[0], output=dataclasses.replace(vision.graphs[0].output, **changes))
    manifest = dataclasses.replace(bundle.manifest, vision=dataclasses.replace(vision, graphs=[graph]))
    with pytest.raises(BundleError, match="does not have the tensors of its manifest"):
        open_runtime(Bundle(bundle.path, manifest))


def test_a_graph_that_cannot_be_loaded_is_refused(rewritten):
    from laco_export.bundle import open_bundle, read_manifest, write_manifest

    folder = rewritten()
    (folder / "vision_b1.onnx").write_bytes(b"no graph")
    write_manifest(folder, read_manifest(folder))
    with pytest.raises(BundleError, match="cannot load"):
        open_runtime(open_bundle(folder))


def test_an_unknown_runtime_lists_those_that_there_are(bundle):
    with pytest.raises(UsageError, match="no such runtime") as caught:
        open_runtime(bundle, name="abacus")
    assert "onnxruntime" in str(caught.value)


def test_the_next_runtime_is_tried_and_all_reasons_are_told(bundle, monkeypatch):
    def missing(name):
        def refuse(bundle, *, threads=None):
            raise RuntimeMissingError(f"{name} is not installed")

        return refuse

    monkeypatch.setattr(runtimes, "RUNTIMES", {"a": missing("A"), **runtimes.RUNTIMES})
    assert open_runtime(bundle).name.startswith("onnxruntime")
    monkeypatch.setattr(runtimes, "RUNTIMES", {"a": missing("A"), "b": missing("B")})
    with pytest.raises(RuntimeMissingError) as caught:
        open_runtime(bundle)
    assert "A is not installed; B is not installed" in str(caught.value)


@pytest.fixture
def failing_cuda(monkeypatch):
    """ONNX Runtime as a machine sees it whose GPU has no memory left: the provider is built in and raises."""
    import onnxruntime

    real = onnxruntime.InferenceSession

    def session(path, options, providers, **more):
        if providers[0][0] == "CUDAExecutionProvider":
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
        return real(path, options, providers=providers, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )


def test_a_provider_without_memory_is_passed_over(bundle, failing_cuda, capfd):
    opened = open_runtime(bundle)
    assert opened.name.endswith("CPU")
    assert opened.on_cpu
    assert "CUDAExecutionProvider does not start" in opened.passed_over[-1]
    assert "out of memory" in opened.passed_over[-1]
    assert capfd.readouterr().out == ""  # stdout is for answers


def test_a_provider_without_memory_that_was_asked_for_is_an_error(bundle, failing_cuda):
    with pytest.raises(RuntimeMissingError, match=r"CUDAExecutionProvider does not start: .*out of memory"):
        open_runtime(bundle, name="onnxruntime-cuda")


def test_without_onnxruntime_the_message_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissingError, match="ONNX Runtime is not installed") as caught:
        open_runtime(bundle)
    assert "pip install" in str(caught.value)


def test_a_picture_is_encoded_without_torch(bundle_folder, picture_file, tmp_path, runtime, bundle):
    """The device path: numpy, PIL, tokenizers and a runtime."""
    script = tmp_path / "encode.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys

            class Blocked:
                def find_spec(self, name, path=None, target=None):
                    if name.split(".")[0] in ("torch", "transformers", "optimum", "onnx", "polygraphy", "scipy"):
                        raise ImportError(f"{name} is not on the device")

            sys.meta_path.insert(0, Blocked())
            import numpy as np
            from laco_engines.prompts.prompter import Prompter
            from laco_engines.runtimes import open_runtime
            from laco_export.bundle import open_bundle

            bundle = open_bundle(sys.argv[1])
            prompt = Prompter(bundle).prepare([sys.argv[2]], "What?")
            np.save(sys.argv[3], open_runtime(bundle).encode(prompt.pixel_values))
            assert "torch" not in sys.modules
            """
        )
    )
    output = tmp_path / "features.npy"
    subprocess.run([sys.executable, script, bundle_folder, picture_file, output], check=True)
    from laco_export.preprocessing import load_image

    pixel_values = bundle.manifest.image_preprocessing(load_image(picture_file))[None]
    assert np.allclose(np.load(output), runtime.encode(pixel_values), atol=1e-5)
