"""Export again and again and kill each export with SIGKILL at a random moment: run by ``test_killed.py``.

    python kill_exports.py CHECKPOINT OUTPUT KILLS ASKED_OUTPUT ASKED_KILLS

First of bundles without a language model, at any moment; then of bundles that have one and are asked before they get
their names, and the moments lie in the second half of an export, where that is done.

Half of the exports have nothing to replace, the other half an old bundle. Prints the lines of
:func:`random_kills.kill` of the first and then of the second. This process imports everything and traces the tower
before it forks: no file is touched while that is done, and most of the moments fall where files are.
"""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

torch.set_num_threads(1)

import onnxruntime  # noqa: E402, F401
import onnxscript  # noqa: E402, F401
import polygraphy.backend.onnxrt  # noqa: E402
import polygraphy.comparator  # noqa: E402, F401
import torch.onnx  # noqa: E402

with suppress(ImportError):
    import optimum.onnxruntime  # noqa: F401

from laco_engines.trial import try_bundle  # noqa: E402
from laco_export.exporter import proof, structural_gates, vision_graph  # noqa: E402, F401
from laco_export.exporter.options import ExportOptions  # noqa: E402
from laco_export.exporter.pipeline import export_bundle  # noqa: E402
from laco_export.exporter.tower import VisionTower  # noqa: E402
from laco_export.models import checkpoint  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
from random_kills import finish, kill  # noqa: E402


def trace(options: ExportOptions) -> vision_graph.TracedGraph:
    loaded = checkpoint.load(options.model)
    loaded.model.set_depth("1/2")
    prepare = loaded.processor.image_processor.preprocessing
    tower = VisionTower(loaded.model).eval()
    return vision_graph.trace_and_rewrite(tower, (1, 3, prepare.height, prepare.width), opset=options.opset)


def main(model: str, place: str, kills: str, asked_place: str, asked_kills: str) -> None:
    options = ExportOptions(Path(model), precision="fp32", output=Path(place), force=True, llm=None, compile=False)
    traced = trace(options)
    vision_graph.trace_and_rewrite = lambda *arguments, **options: traced
    kill_exports(options, int(kills))
    kill_exports(replace(options, output=Path(asked_place), llm="fp32"), int(asked_kills), try_bundle)


def kill_exports(options: ExportOptions, kills: int, trial=None) -> None:
    other = replace(options, output=options.output.parent / "other")
    seconds = finish(lambda: export_bundle(other, trial))
    kill(lambda: export_bundle(options, trial), options.output, kills, (seconds / 2 if trial else 0.0, seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
