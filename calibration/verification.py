"""The finished graph against what it came from: on the judging pictures, and on the bundle's golden ones.

A graph for ONNX Runtime's CPU is judged by ONNX Runtime. A half-precision one is judged node by node in half
arithmetic, which ONNX Runtime's CPU provider does not have.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from laco_export.agreement import Agreement, Tolerance, agreement
from laco_export.agreement import worst_of as worst_agreement
from laco_export.bundle import Bundle
from laco_export.exporter.external_data import WeightFile, graph_from_file, write_graph
from laco_export.exporter.half_arithmetic import GraphInterpreter
from laco_export.exporter.quiet import quiet
from laco_export.exporter.tower import INPUT, OUTPUT

from .block_errors import Error, compare_features, worst_of
from .timing import open_session


def judge_graph(
    path: Path,
    pictures: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    *,
    half: bool,
    agreement: Callable[[int, np.ndarray], float] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Error:
    """The shipped file's ``image_features`` on ``pictures [1, 3, H, W]`` against FP32's.

    Args:
        agreement: as :class:`~.block_errors.BlockJudge` takes it.
    """
    if half:
        with quiet():
            interpreter = GraphInterpreter(graph_from_file(path))
        run = lambda picture: interpreter.run({INPUT: picture}, [OUTPUT])[OUTPUT]
    else:
        session = open_session(path)
        run = lambda picture: session.run([OUTPUT], {INPUT: picture})[0]
    found = []
    for index, (picture, features) in enumerate(zip(pictures, expected, strict=True)):
        given = run(picture)
        error = compare_features(features, given)
        found.append(error if agreement is None else replace(error, agreement=agreement(index, given)))
        advance()
    return worst_of(found)


@contextmanager
def _running(
    graph: gs.Graph, names: Sequence[str], ir_version: int, *, half: bool
) -> Iterator[Callable[[np.ndarray], list]]:
    """``run(pixel_values [1, 3, H, W])``: the values of the tensors ``names``, which are among the outputs."""
    if half:
        interpreter = GraphInterpreter(graph)

        def run(pixel_values: np.ndarray) -> list[np.ndarray]:
            values = interpreter.run({INPUT: pixel_values}, names)
            return [np.asarray(values[name], np.float32) for name in names]

        yield run
        return
    with tempfile.TemporaryDirectory(prefix="laco-calibrate-") as folder:
        with WeightFile(Path(folder) / "judged.data") as weights:
            write_graph(graph, Path(folder) / "judged.onnx", weights, ir_version=ir_version)
        session = open_session(Path(folder) / "judged.onnx")
        yield lambda pixel_values: session.run(list(names), {INPUT: pixel_values})


def golden_proof(bundle: Bundle, path: Path, scales: Mapping[str, np.ndarray], ir_version: int, *, half: bool) -> dict:
    """Every boundary of the quantised graph at ``path`` against PyTorch, from ``golden.npz``: the manifest's record.

    ``image_features`` are compared in full, boundaries at the tokens that the golden file holds. A boundary whose
    channels were smoothed is scaled back first.
    """
    graph = graph_from_file(path)
    tensors = graph.tensors()
    with np.load(bundle.file(bundle.manifest.golden), allow_pickle=False) as golden:
        kept = {name.removeprefix("tokens/"): golden[name] for name in golden.files if name.startswith("tokens/")}
        indices = {name: golden[f"token_indices/{name}"] for name in kept}
        pictures, features, names = golden["pictures"], golden[OUTPUT], golden["names"].tolist()
    marked = [name for name in kept if name in tensors]
    graph.outputs += [tensors[name] for name in marked if tensors[name] is not graph.outputs[0]]
    prepare = bundle.manifest.image_preprocessing
    found: dict[str, list[Agreement]] = {name: [] for name in [*marked, OUTPUT]}
    with quiet(), _running(graph, [OUTPUT, *marked], ir_version, half=half) as run:
        for index, picture in enumerate(pictures):
            values = run(prepare.normalize(picture)[None])
            found[OUTPUT].append(agreement(OUTPUT, features[index][None], values[0]))
            for name, value in zip(marked, values[1:]):
                rows = value.reshape(-1, value.shape[-1])[indices[name]].astype(np.float32)  # [s, C]
                if name in scales:
                    rows = rows * np.asarray(scales[name], np.float32)
                found[name].append(agreement(name, kept[name][index], rows))
    return {
        "reference": "PyTorch FP32",
        "judged_by": "half arithmetic, node by node" if half else "ONNX Runtime, as shipped",
        "pictures": names,
        "tensors": [worst_agreement(one).to_dict() for one in found.values()],
    }


def with_tolerance(proof: dict, tolerance: Tolerance) -> dict:
    """The record with what ``image_features`` are held to, for whoever checks the bundle later."""
    from dataclasses import asdict

    return {**proof, "tolerance": asdict(tolerance)}


def tolerance_of(max_drop: float, error: Error) -> Tolerance:
    """What a later check of the bundle allows: the budget, with the largest difference bounded as for its error."""
    allowed = Tolerance.of_relative_error((2 * max_drop / 100) ** 0.5)
    return replace(allowed, cosine=1 - max_drop / 100, norm_drift=max(max_drop / 100, 1e-4))
