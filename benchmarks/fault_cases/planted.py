"""Class f: a fault planted into a copy of the source, which export, calibration or ``diff`` must catch by themselves.

The commands of the copy run as they would for a user; the tests are not asked.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .attempts import Ended, Fault, Verdict, execute
from .workshop import Workshop

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
from planted_source import COMMANDS, Edit, plant


def run_copy(shop: Workshop, packages: Path, command: str, *words: str) -> Ended:
    """A command of the packages that :func:`planted_source.plant` wrote, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    return execute([sys.executable, "-m", COMMANDS[command], *words], environment=environment, cwd=shop.folder)


def _planted(done: str) -> Fault:
    """Caught where export, ``diff`` or calibration ends with another status than 0."""

    def attempt(shop: Workshop) -> Verdict:
        sound = shop.tiled_checkpoint if done in TILED else shop.checkpoint
        packages, bundle, eight_bit = shop.place("source"), shop.place("bundle"), shop.place("int8")
        sources = os.environ.get("FAULTS_SOURCES")  # another checkout's packages
        plant(packages, *EDITS[done], packages=Path(sources) if sources else None)
        steps = [("laco-export", ["--model", str(sound), "--fp32", "--no-compile", "--output", str(bundle)])]
        if done in CALIBRATED:
            words = [str(shop.bundle), "--target", "ort-cpu", "--images", str(shop.picture_folder(16)), "--all-int8"]
            steps = [("laco-calibrate", [*words, "--max-drop", "50", "--output", str(eight_bit)])]
        made = eight_bit if done in CALIBRATED else bundle
        steps.append(("laco-engine", ["diff", str(made), "--runtime", "onnxruntime"]))
        for command, words in steps:
            ended = run_copy(shop, packages, command, *words)
            if ended.code:
                return Verdict("internal error" not in ended.said, f"caught by {command}: {ended}")
        return Verdict(False, f"passes {' and '.join(command for command, _ in steps)}")

    return Fault("f", done, "caught", attempt)


_DROP_RESIDUAL = """

def _plant(graph):
    for node in graph.nodes:
        branch = [tensor for tensor in node.inputs if tensor.inputs and ".mlp" in tensor.inputs[0].name]
        if node.op == "Add" and ".compressors." in node.name and branch:
            node.inputs = [branch[0], gs.Constant("planted", np.zeros(1, np.float32))]
            return
"""

EDITS = {
    "residual dropped in the graph": (
        Edit(
            "laco_export/exporter/vision_graph.py",
            "        rewrites = apply_rewrites(graph, merges)\n",
            "        rewrites = apply_rewrites(graph, merges)\n        _plant(graph)\n",
        ),
        Edit("laco_export/exporter/vision_graph.py", "\n\ndef in_half(", _DROP_RESIDUAL + "\n\ndef in_half("),
    ),
    "q and k swapped when written": (
        Edit(
            "laco_export/exporter/decoder/skeleton.py",
            'projections = [f"{name}.{kind}_proj" for kind in "qkv"]',
            'projections = [f"{name}.{kind}_proj" for kind in "kqv"]',
        ),
    ),
    "mean and std reversed in the shared preprocessing": (
        Edit(
            "laco_export/preprocessing.py",
            "(values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)",
            "(values - np.asarray(self.mean[::-1], np.float32)) / np.asarray(self.std[::-1], np.float32)",
        ),
    ),
    "visual tokens rolled by one in the engine": (
        Edit(
            "engines/picture_encoder.py",
            "self._features[visual.digest] = features.copy()",
            "self._features[visual.digest] = np.roll(features, 1, 0)",
        ),
    ),
    "visual tokens rolled by one in the shared packing": (
        Edit(
            "laco_export/token_layouts.py",
            "    return np.concatenate(packed)\n",
            "    return np.roll(np.concatenate(packed), 1, 0)\n",
        ),
    ),
    "activation scale x 1.25": (
        Edit(
            "calibration/quantizing/cpu.py",
            "np.asarray(input_scaling.scale, np.float32)",
            "np.asarray(1.25 * input_scaling.scale, np.float32)",
        ),
    ),
    "tiles in another order": (
        Edit("laco_export/tiling.py", "pixels.transpose(0, 2, 1, 3, 4)", "pixels.transpose(2, 0, 1, 3, 4)"),
    ),
    "embedding row off by one": (
        Edit("laco_export/embedding_table.py", "rows = self._rows[ids]", "rows = self._rows[np.maximum(ids - 1, 0)]"),
    ),
}
"""What is planted."""
TILED = {"tiles in another order"}
"""Faults in tiles, which need a model that tiles."""
CALIBRATED = {"activation scale x 1.25"}
"""Faults for which calibration is run, and ``diff`` on what it gives."""

FAULTS = tuple(map(_planted, EDITS))
