"""What FP16 and INT8 cost a vision tower with pretrained weights, beside what the field's own converters make of it.

    make real-parts
    pip install onnxconverter-common
    python benchmarks/real_tower.py --folder DIR [--size 224] [--at 1 1/2 1/4]

The encoder is DINOv2-Small (docs/real-parts.md) with a fresh Patch Merge Layer at each depth and a fresh projector:
their MLPs have random weights, and what the residual carries is the encoder's own. The bundles are those of
``laco-export`` and ``laco-calibrate`` (both forms), the others of :mod:`real_weights.plain_conversions`, all from the
same FP32 graph, calibrated on the same training pictures and judged on the 60 held-out ones. FP16 and the form for
TensorRT are run node by node in half arithmetic, the others by ONNX Runtime.

What stands in DIR is not made again; ``benchmarks/results/real_tower.json`` gets each row as soon as it is there, and
``docs/real-weights.png`` and the tables of ``docs/real-weights.md`` are made of it.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from graph_timing import merge_results
from measured_on import measured_on
from real_weights.block_chart import draw_errors
from real_weights.labelled_pictures import LabelledPictures
from real_weights.plain_conversions import plain_half, plain_int8
from real_weights.score_table import write_table
from real_weights.tower_runs import boundaries_of, features_of, opened

from laco_calibration.statistics.records import STATISTICS_NAME, Statistics
from laco_export.agreement import agreement
from laco_export.bundle import Bundle, open_bundle
from laco_export.depth import Depth

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "real_tower.json"
PAGE, CHART = ROOT / "docs" / "real-weights.md", ROOT / "docs" / "real-weights.png"
OBSERVED, GOLDEN, FOLLOWED = 64, 8, 12
"""Training pictures that INT8 is calibrated on, and that FP16's islands are measured on; held-out pictures that are
followed through the blocks."""


@dataclass(frozen=True)
class Conversion:
    """A way to fewer bits.

    Attributes:
        make: ``make(tower)`` → the graph file, made where it is not there.
        half: it is to be run in half arithmetic.
    """

    make: Callable[[Tower], Path]
    half: bool


class Tower:
    """One size and depth: its folder of bundles and graphs, each made once.

    Args:
        folder: DIR; parts: of ``make real-parts``.
    """

    def __init__(self, folder: Path, parts: Path, size: int, depth: str):
        self.folder, self.parts, self.size, self.depth = folder, parts, size, depth
        self.name = f"{size}-at{Depth.parse(depth).slug}"
        self.training = LabelledPictures.read(parts / "pictures" / "train.json")
        self.held_out = LabelledPictures.read(parts / "pictures" / "heldout.json")

    def bundle(self, precision: str, target: str = "trt10.3", **options) -> Bundle:
        """Of ``laco-export --fp32``, ``--fp16``, or ``laco-calibrate`` (``int8``, ``w8``, ``w4``) with ``options``."""
        reader = "" if target == "trt10.3" else f"-{target}"
        output = self.folder / "-".join([self.name, precision + reader, *map(str, options.values())])
        if not output.exists():
            make = self._export if precision in ("fp32", "fp16") else self._calibrate
            make(precision, target, output, **options)
        return open_bundle(output)

    def graph(self, precision: str, target: str = "trt10.3", **options) -> Path:
        """The file of a bundle's graph at batch 1."""
        bundle = self.bundle(precision, target, **options)
        return bundle.file(bundle.manifest.vision.graphs[0].file)

    def plain(self, name: str, make: Callable[[Path, Path], None]) -> Path:
        """A converter's graph: ``make(FP32 graph, file to write)``."""
        file = self.folder / f"{self.name}-{name}.onnx"
        if not file.exists():
            make(self.graph("fp32"), file)
        return file

    def pixel_values(self, pictures: LabelledPictures) -> list[np.ndarray]:
        """``[1, 3, H, W]`` each."""
        return list(pictures.pixel_values(self.bundle("fp32").manifest.image_preprocessing))

    def observed(self) -> list[np.ndarray]:
        """What a plain converter is calibrated on."""
        return self.pixel_values(self.training.evenly_spaced(OBSERVED))

    def _checkpoint(self) -> Path:
        from laco_training.init_command import main as init

        output = self.folder / f"checkpoint-{self.size}"
        if not output.exists():
            encoder, language_model = self.parts / "encoder" / str(self.size), self.parts / "smollm2"
            arguments = ["--encoder", encoder, "--llm", language_model, "--output", output, "--at", "1", "1/2", "1/4"]
            if init([str(argument) for argument in arguments]):
                raise SystemExit("error: there is no checkpoint to start from")
        return output

    def _export(self, precision: str, target: str, output: Path) -> None:
        from laco_export.exporter.options import ExportOptions
        from laco_export.exporter.pipeline import export_bundle

        images = list(self.training.evenly_spaced(GOLDEN).files)
        options = {"at": self.depth, "target": target, "precision": precision, "images": images, "output": output}
        export_bundle(ExportOptions(self._checkpoint(), **options, llm=None, compile=False))

    def _calibrate(self, number_format: str, target: str, output: Path, **options) -> None:
        from laco_calibration.options import CalibrationOptions
        from laco_calibration.pipeline import calibrate
        from laco_calibration.source.held_out import JUDGES

        calibrate(
            CalibrationOptions(
                self.bundle("fp32", target).path,
                images=[self.training.data],
                limit=OBSERVED + JUDGES,
                number_format=number_format,
                compile=False,
                output=output,
                **options,
            )
        )


def plain_int8_of(name: str, **options) -> Callable[[Tower], Path]:
    return lambda tower: tower.plain(
        name, lambda source, target: plain_int8(source, target, tower.observed(), **options)
    )


def plain_half_of(name: str, *, keep_io_types: bool) -> Callable[[Tower], Path]:
    return lambda tower: tower.plain(
        name, lambda source, target: plain_half(source, target, keep_io_types=keep_io_types)
    )


CONVERSIONS = {
    "fp16": Conversion(lambda tower: tower.graph("fp16"), half=True),
    "fp16 plain": Conversion(plain_half_of("plain-fp16", keep_io_types=False), half=True),
    "fp16 plain, keep_io_types": Conversion(plain_half_of("plain-fp16-io", keep_io_types=True), half=True),
    "int8 trt10.3": Conversion(lambda tower: tower.graph("int8"), half=True),
    "int8 ort-cpu": Conversion(lambda tower: tower.graph("int8", "ort-cpu"), half=False),
    "int8 plain, MatMuls": Conversion(plain_int8_of("plain-int8-matmuls", operators=["MatMul"]), half=False),
    "int8 plain, MatMuls, symmetric": Conversion(
        plain_int8_of("plain-int8-symmetric", operators=["MatMul"], symmetric=True), half=False
    ),
    "int8 plain, all operators": Conversion(plain_int8_of("plain-int8-all"), half=False),
    "int8 trt10.3, --method mse": Conversion(lambda tower: tower.graph("int8", method="mse"), half=True),
    "weights alone int8": Conversion(lambda tower: tower.graph("w8", "ort-cpu"), half=False),
    "weights alone int4": Conversion(lambda tower: tower.graph("w4", "ort-cpu"), half=False),
}
"""In the order of the table."""
AT_HALF_ALONE = ("fp16 plain, keep_io_types", "int8 trt10.3, --method mse", "weights alone int8", "weights alone int4")


def judge_of(tower: Tower, held_out: list[np.ndarray]):
    """FP32's features, on which every conversion of this tower is judged; the training pictures' are kept in DIR."""
    from real_weights.feature_scores import FeatureJudge, picture_vector

    graph, kept = tower.graph("fp32"), tower.folder / f"{tower.name}-training.npy"
    if not kept.exists():
        prepare = tower.bundle("fp32").manifest.image_preprocessing
        features = features_of(graph, tower.training.pixel_values(prepare))
        np.save(kept, np.stack([picture_vector(each) for each in features]))
    expected = features_of(graph, held_out)
    return FeatureJudge(np.load(kept), tower.training.kinds, expected, tower.held_out.kinds)


def relative_errors(tower: Tower, graph: Path, pictures: list[np.ndarray], *, half: bool) -> dict[str, float]:
    """Boundary → ‖actual - expected‖ / ‖expected‖ of a picture against FP32, in the mean."""
    fp32, names = tower.graph("fp32"), boundaries_of(tower.graph("fp32"))
    errors: dict[str, list[float]] = {name: [] for name in names}
    with opened(fp32, names, half=False) as expected_of, opened(graph, names, half=half) as actual_of:
        for pixels in pictures:
            expected, actual = expected_of(pixels), actual_of(pixels)
            for name in names:
                measured = agreement(name, expected[name], actual[name].reshape(expected[name].shape))
                errors[name].append(measured.relative_error)
    return {name: float(np.mean(by_picture)) for name, by_picture in errors.items()}


def what_was_chosen(tower: Tower, precision: str, target: str = "trt10.3") -> dict:
    """Of a bundle's manifest: what stays FP32 and why, each block as calibration judged it, and the worst boundary and
    branch of the comparison with PyTorch."""
    manifest = tower.bundle(precision, target).manifest
    vision = manifest.vision
    islands = [node for node in vision.kept_fp32 if "(rule)" not in node["reason"]]
    by_rule = len(vision.kept_fp32) - len(islands)
    chosen = {"fp32_by_rule": by_rule, "fp32_by_measurement": islands}
    for kind in ("tensors", "branches"):
        if compared := manifest.accuracy.get(kind):
            worst = min(compared, key=lambda tensor: tensor["cosine"])
            chosen[f"worst of {kind}"] = {
                key: worst[key] for key in ("name", "cosine", "norm_ratio", "max_abs", "largest")
            }
    if vision.calibration is not None:
        record = vision.calibration
        kept = ("name", "region", "eight_bit", "reason", "points", "method", "smoothing")
        chosen["most cut off by mse"] = most_cut_off(tower.bundle(precision, target))
        chosen |= {
            "points_on_judging_pictures": record["points"],
            "blocks": [{key: block[key] for key in kept} for block in record["blocks"]],
        }
    return chosen


def most_cut_off(bundle: Bundle) -> dict:
    """The Linear layer whose input's range ``--method mse`` makes smallest beside the whole: both magnitudes."""
    statistics = Statistics.load(bundle.file(STATISTICS_NAME))
    whole, cut = (
        {name: max(map(abs, bounds)) for name, bounds in statistics.ranges(method).items()} for method in ("max", "mse")
    )
    name = max(whole, key=lambda name: whole[name] / cut[name])
    return {"linear": statistics.tensors[name].readers[0], "max": whole[name], "mse": cut[name]}


def measure(tower: Tower, wanted: list[str], towers: dict) -> None:
    """The ``wanted`` rows that the tower's record in ``towers`` does not have."""
    held_out = tower.pixel_values(tower.held_out)
    judge = judge_of(tower, held_out)
    record = towers.setdefault(tower.name, {"depth": tower.depth, "size": tower.size})
    record["fp32_right_kinds"] = judge.fp32_right_kinds
    record["majority"] = Counter(tower.held_out.kinds).most_common(1)[0][1]
    rows = record.setdefault("rows", {})
    for name in (name for name in wanted if name not in rows):
        conversion = CONVERSIONS[name]
        graph = conversion.make(tower)
        scores = judge.scores(features_of(graph, held_out, half=conversion.half))
        rows[name] = asdict(scores)
        if name not in AT_HALF_ALONE:
            rows[name]["by_block"] = relative_errors(tower, graph, held_out[:FOLLOWED], half=conversion.half)
        print(tower.name, name, json.dumps({key: rows[name][key] for key in asdict(scores)}), flush=True)
        merge_results("real_tower", towers={tower.name: record})
    for name, bundle in {"fp16": ("fp16",), "int8 trt10.3": ("int8",), "int8 ort-cpu": ("int8", "ort-cpu")}.items():
        if name in rows:
            record.setdefault("chosen", {})[name] = what_was_chosen(tower, *bundle)
    merge_results("real_tower", towers={tower.name: record})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where bundles and graphs are kept")
    parser.add_argument("--parts", type=Path, help="what make real-parts made (default: where it makes them)")
    parser.add_argument("--size", type=int, choices=(224, 336, 448), default=224)
    parser.add_argument("--at", nargs="+", default=["1/2", "1", "1/4"], metavar="DEPTH")
    parser.add_argument("--only", nargs="+", choices=CONVERSIONS, help="these rows (default: all)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", module="onnxconverter_common")
    towers = json.loads(RESULTS.read_text()).get("towers", {}) if RESULTS.exists() else {}
    libraries = ("torch", "onnxruntime", "onnx", "onnxconverter-common", "numpy")
    facts = {"observed": OBSERVED, "held_out": 60, "followed_through_blocks": FOLLOWED, "encoder": "DINOv2-Small"}
    merge_results("real_tower", **measured_on(*libraries), **facts)
    for depth in arguments.at:
        wanted = arguments.only or [name for name in CONVERSIONS if depth == "1/2" or name not in AT_HALF_ALONE]
        measure(
            Tower(arguments.folder, arguments.parts or default_parts(), arguments.size, depth),
            wanted,
            towers,
        )
    draw_errors(towers, CHART)
    write_table(towers, PAGE)


def default_parts() -> Path:
    """Where ``make real-parts`` makes them."""
    import sys

    sys.path.insert(0, str(ROOT / "examples"))
    from real_parts.cache import default_folder

    return default_folder()


if __name__ == "__main__":
    main()
