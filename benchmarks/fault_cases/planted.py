"""Class f: a fault planted into a copy of the source, which export, calibration or ``diff`` must catch by themselves.

The commands of the copy run as they would for a user; the tests are not asked.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import PACKAGES
from .attempts import Ended, Fault, Verdict, execute
from .workshop import Workshop

ROOT = Path(__file__).resolve().parents[2]
_MODULES = {
    "export": "laco_export.cli",
    "engine": "laco_engines.cli",
    "calibrate": "laco_calibration.cli",
}


@dataclass(frozen=True)
class Edit:
    """Text in a file of the source, and what stands there instead."""

    file: str
    text: str
    planted: str


class Copy:
    """A copy of the source with edits; its commands run in processes of their own."""

    def __init__(self, shop: Workshop, edits: Sequence[Edit]):
        self.shop, self.packages = shop, shop.place("source")
        self.packages.mkdir()
        links = os.environ.get("FAULTS_SOURCES")  # another checkout's packages
        for package, folder in PACKAGES.items():
            source = Path(links, package) if links else ROOT / folder
            shutil.copytree(source, self.packages / package, ignore=shutil.ignore_patterns("__pycache__"))
        for edit in edits:
            path = self.packages / edit.file
            source = path.read_text()
            if source.count(edit.text) != 1:
                raise LookupError(
                    f"{edit.file} has '{edit.text}' {source.count(edit.text)} times: the fault is not planted"
                )
            path.write_text(source.replace(edit.text, edit.planted))

    def run(self, command: str, *words: str) -> Ended:
        environment = {**os.environ, "PYTHONPATH": str(self.packages)}
        return execute([sys.executable, "-m", _MODULES[command], *words], environment=environment, cwd=self.shop.folder)


def _planted(done: str, edits: Sequence[Edit], *, tiled: bool = False, calibrated: bool = False) -> Fault:
    """Caught where export, ``diff`` or calibration ends with another status than 0.

    Args:
        tiled: the fault is in tiles, and so needs a model that tiles.
        calibrated: calibration is run too, and ``diff`` on what it gives.
    """

    def attempt(shop: Workshop) -> Verdict:
        sound = shop.tiled_checkpoint if tiled else shop.checkpoint
        copy, bundle, eight_bit = Copy(shop, edits), shop.place("bundle"), shop.place("int8")
        steps = [("export", ["--model", str(sound), "--fp32", "--no-compile", "--output", str(bundle)])]
        if calibrated:
            words = [str(shop.bundle), "--target", "ort-cpu", "--images", str(shop.picture_folder(16)), "--all-int8"]
            steps = [("calibrate", [*words, "--max-drop", "50", "--output", str(eight_bit)])]
        steps.append(("engine", ["diff", str(eight_bit if calibrated else bundle), "--runtime", "onnxruntime"]))
        for command, words in steps:
            ended = copy.run(command, *words)
            if ended.code:
                name = "diff" if command == "engine" else command
                return Verdict("internal error" not in ended.said, f"caught by {name}: {ended}")
        return Verdict(False, f"passes {' and '.join('diff' if c == 'engine' else c for c, _ in steps)}")

    return Fault("f", done, "caught", attempt)


_DROP_RESIDUAL = """

def _plant(graph):
    for node in graph.nodes:
        branch = [tensor for tensor in node.inputs if tensor.inputs and ".mlp" in tensor.inputs[0].name]
        if node.op == "Add" and ".compressors." in node.name and branch:
            node.inputs = [branch[0], gs.Constant("planted", np.zeros(1, np.float32))]
            return
"""

FAULTS = (
    _planted(
        "residual dropped in the graph",
        [
            Edit(
                "laco_export/exporter/vision_graph.py",
                "        rewrites = apply_rewrites(graph, merge)\n",
                "        rewrites = apply_rewrites(graph, merge)\n        _plant(graph)\n",
            ),
            Edit(
                "laco_export/exporter/vision_graph.py",
                "\n\ndef in_half(",
                _DROP_RESIDUAL + "\n\ndef in_half(",
            ),
        ],
    ),
    _planted(
        "q and k swapped when written",
        [
            Edit(
                "laco_export/exporter/decoder/skeleton.py",
                'projections = [f"{name}.{kind}_proj" for kind in "qkv"]',
                'projections = [f"{name}.{kind}_proj" for kind in "kqv"]',
            )
        ],
    ),
    _planted(
        "mean and std reversed in the shared preprocessing",
        [
            Edit(
                "laco_export/preprocessing.py",
                "(values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)",
                "(values - np.asarray(self.mean[::-1], np.float32)) / np.asarray(self.std[::-1], np.float32)",
            )
        ],
    ),
    _planted(
        "visual tokens rolled by one in the engine",
        [
            Edit(
                "laco_engines/picture_encoder.py",
                "self._features[visual.digest] = features.copy()",
                "self._features[visual.digest] = np.roll(features, 1, 0)",
            )
        ],
    ),
    _planted(
        "visual tokens rolled by one in the shared packing",
        [
            Edit(
                "laco_export/tiling.py",
                "    return np.concatenate(packed)\n",
                "    return np.roll(np.concatenate(packed), 1, 0)\n",
            )
        ],
    ),
    _planted(
        "activation scale x 1.25",
        [
            Edit(
                "laco_calibration/quantizing/cpu.py",
                "np.asarray(input_scaling.scale, np.float32)",
                "np.asarray(1.25 * input_scaling.scale, np.float32)",
            )
        ],
        calibrated=True,
    ),
    _planted(
        "tiles in another order",
        [
            Edit(
                "laco_export/tiling.py",
                "for tile in (base, *tiles)])",
                "for tile in (base, *tiles[::-1])])",
            )
        ],
        tiled=True,
    ),
    _planted(
        "embedding row off by one",
        [Edit("laco_export/embedding_table.py", "rows = self._rows[ids]", "rows = self._rows[np.maximum(ids - 1, 0)]")],
    ),
)
