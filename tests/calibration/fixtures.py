"""A tiny FP32 bundle, real photographs, calibrations of the one on the other, and a model with outlier channels."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny tensors: several threads would wait for each other longer than they compute."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def export_fp32(model, folder, **options) -> Path:
    """An FP32 bundle of ``model`` in ``folder``."""
    from laco_export.exporter import pipeline
    from laco_export.exporter.options import ExportOptions

    return pipeline.export_bundle(
        ExportOptions(model, precision="fp32", output=folder / "fp32", compile=False, **options)
    ).output


@pytest.fixture(scope="session")
def make_fp32_bundle(tmp_path_factory, make_tiny_model, make_tiny_checkpoint):
    """``make_fp32_bundle(model=None, **export_options)``: the folder of an FP32 bundle; by default of 4 AIMv2 blocks
    over 8 x 8 tokens."""

    def make(model=None, **options) -> Path:
        folder = tmp_path_factory.mktemp("fp32")
        model = model or make_tiny_model(blocks=4, grid=(8, 8))
        return export_fp32(make_tiny_checkpoint(model, folder / "checkpoint"), folder, **options)

    return make


@pytest.fixture(scope="session")
def fp32_folder(make_fp32_bundle) -> Path:
    return make_fp32_bundle(batches=(1, 2))


@pytest.fixture(scope="session")
def ort_folder(make_fp32_bundle) -> Path:
    """As ``fp32_folder``, for ONNX Runtime's CPU provider alone."""
    return make_fp32_bundle(target="ort-cpu")


@pytest.fixture(scope="session")
def fp32_bundle(fp32_folder):
    from laco_export.bundle import open_bundle

    return open_bundle(fp32_folder)


@pytest.fixture
def graph(fp32_bundle):
    """The bundle's graph at batch 1, a new one for each test."""
    from laco_export.exporter.external_data import graph_from_file

    return graph_from_file(fp32_bundle.file("vision_b1.onnx"))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Twenty crops of the photographs that ship inside scikit-image and scikit-learn."""
    sources = [
        Path(find_spec(package).origin).parent / folder / name
        for package, folder, name in (
            ("skimage", "data", "astronaut.png"),
            ("skimage", "data", "chelsea.png"),
            ("skimage", "data", "coffee.png"),
            ("sklearn", "datasets/images", "china.jpg"),
            ("sklearn", "datasets/images", "flower.jpg"),
        )
    ]
    folder = tmp_path_factory.mktemp("photographs")
    for source in sources:
        image = Image.open(source).convert("RGB")
        width, height = image.width // 2, image.height // 2
        for index in range(4):
            left, top = (index % 2) * width, (index // 2) * height
            image.crop((left, top, left + width, top + height)).resize((160, 120)).save(
                folder / f"{source.stem}-{index}.png"
            )
    return folder


@pytest.fixture(scope="session")
def calibrated(fp32_folder, photographs, tmp_path_factory):
    """``calibrated(**options)``: a calibration of the tiny bundle on the photographs, each set of options run once."""
    from laco_calibration.options import CalibrationOptions
    from laco_calibration.pipeline import calibrate

    made = {}

    def run(**options):
        key = json.dumps(options, sort_keys=True)
        if key not in made:
            output = tmp_path_factory.mktemp("out") / "bundle"
            defaults = {"target": "trt10.3", "method": "max", "max_drop": 5.0, "smoothing": False}
            made[key] = calibrate(
                CalibrationOptions(fp32_folder, images=[photographs], output=output, **{**defaults, **options})
            )
        return made[key]

    return run


@pytest.fixture(scope="session")
def pixels(fp32_bundle, photographs) -> list[np.ndarray]:
    """Four photographs as the encoder sees them, ``[1, 3, H, W]`` each."""
    from laco_calibration.source.picture_set import find_pictures, read_tiles

    return [next(read_tiles(picture, fp32_bundle)) for picture in find_pictures([photographs]).pictures[::5]]


@pytest.fixture(scope="session")
def plant_outliers():
    """``plant_outliers(model, factor)``: the same model, but for rounding, with a few channels ``factor`` times as
    large before every Linear that follows a norm."""
    import torch

    def plant(model, factor: float):
        with torch.no_grad():
            for layer in model.vision_model.encoder.encoder.layers:
                for norm, readers in (
                    (layer.rms_norm1, (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj)),
                    (layer.rms_norm2, (layer.ffn.gate_proj, layer.ffn.up_proj)),
                ):
                    norm.weight[:3] *= factor
                    for reader in readers:
                        reader.weight[:, :3] /= factor
        return model

    return plant
