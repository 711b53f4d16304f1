"""One bundle of five depths beside a bundle of one: bytes, load time, resident memory, and what sharing weights saves.

    python benchmarks/bundle_of_depths.py --folder DIR [--encoder aimv2] [--threads 1] [--rounds 5]

Makes a checkpoint of the published size with random weights at five depths, exports it twice by the command itself (at
one depth, and at all; FP32 for ONNX Runtime's CPU, without a language model, proven on one picture), and opens vision
towers in processes of their own: the bundle of one, the other with one depth used, with all of them, and with all of
them where ONNX Runtime may not repack weights, so that what it computes with are the weight file's own pages. Both ways
are also timed in turn. Needs 8 GB of memory and of disk; what it wrote is removed (``--keep`` leaves it).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measured_on import measured_on
from PIL import Image

RESULTS = Path(__file__).resolve().parent / "results" / "bundle_of_depths.json"
DEPTHS = ("1/2", "1", "1/4", "1/6", "1/12")
"""The first is what both bundles are used at."""
NOT_REPACKED = {"session.disable_prepacking": "1"}


def make(folder: Path, encoder: str) -> None:
    """The checkpoint and both bundles, where they are not there yet."""
    from published_towers import write_checkpoint

    if not (folder / "checkpoint").exists():
        write_checkpoint(encoder, DEPTHS, folder / "checkpoint")
    picture = folder / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)).save(picture)
    for name, depths in (("one", DEPTHS[:1]), ("all", DEPTHS)):
        if not (folder / name).exists():
            command = [sys.executable, "-m", "laco_export.cli", "--model", str(folder / "checkpoint"), "--no-llm"]
            command += [
                "--target",
                "ort-cpu",
                "--images",
                str(picture),
                "--at",
                *depths,
                "--output",
                str(folder / name),
            ]
            subprocess.run(command, check=True)


def bytes_of(bundle: Path) -> dict[str, int]:
    """Of the files by kind."""
    kinds = {"weights": "vision.data", "graphs": "vision_*.onnx", "golden": "golden*.npz", "manifest": "laco.json"}
    sizes = {kind: sum(path.stat().st_size for path in bundle.glob(pattern)) for kind, pattern in kinds.items()}
    return {**sizes, "all": sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())}


def resident() -> dict[str, int]:
    """Bytes of this process: all, its own, and pages of files."""
    names = {"VmRSS": "resident", "RssAnon": "own", "RssFile": "of_files"}
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {names[name[:-1]]: 1024 * int(size) for name, size, *_ in filter(None, lines) if name[:-1] in names}


def probe(folder: str, depths: Sequence[str], threads: int, repacked: bool) -> dict:
    """Open the towers of ``depths`` and encode a picture with each; seconds and bytes."""
    from laco_export.bundle import open_bundle
    from laco_export.onnx_session import open_session

    before, start = resident(), time.perf_counter()
    bundle = open_bundle(folder)
    verified, cpu = time.perf_counter(), time.process_time()
    sessions = []
    for depth in depths:
        view = bundle.at(depth)
        graph = view.manifest.vision.graphs[0]
        config = {} if repacked else NOT_REPACKED
        session = open_session(view.file(graph.file), threads=threads, exact_products=False, config=config)
        session.run(None, {graph.input.name: np.zeros(graph.input.shape, np.float32)})
        sessions.append(session)
    load_s, load_cpu_s = time.perf_counter() - verified, time.process_time() - cpu
    taken = {name: size - before[name] for name, size in resident().items()}
    return {"verify_s": verified - start, "load_and_encode_s": load_s, "load_and_encode_cpu_s": load_cpu_s, **taken}


def probed(bundle: Path, depths: Sequence[str], threads: int, *, repacked: bool = True) -> dict:
    """:func:`probe` in a process of its own."""
    request = json.dumps({"folder": str(bundle), "depths": depths, "threads": threads, "repacked": repacked})
    done = subprocess.run([sys.executable, __file__, "--probe", request], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def time_repacking(bundle: Path, threads: int, rounds: int) -> dict:
    """Encode times with weights that ONNX Runtime has repacked and with those of the file, in turn."""
    from laco_export.bundle import open_bundle
    from laco_export.onnx_session import open_session
    from laco_export.timing import interleave

    view = open_bundle(bundle).at(DEPTHS[0])
    graph = view.manifest.vision.graphs[0]
    pixels = {graph.input.name: np.random.default_rng(0).standard_normal(graph.input.shape, np.float32)}
    subjects = {}
    for name, config in (("repacked", {}), ("as_in_the_file", NOT_REPACKED)):
        session = open_session(view.file(graph.file), threads=threads, exact_products=False, config=config)
        subjects[name] = (lambda session=session: session.run(None, pixels), True)
    series = interleave(subjects, repeats=rounds, warmup=1)
    return {name: one.to_dict() for name, one in series.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--encoder", default="aimv2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="leave the checkpoint and the bundles")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        print(json.dumps(probe(**json.loads(arguments.probe))))
        return 0
    folder, threads = arguments.folder, arguments.threads
    make(folder, arguments.encoder)
    sizes = {name: bytes_of(folder / name) for name in ("one", "all")}
    cases = {
        "one depth, of a bundle of one": probed(folder / "one", DEPTHS[:1], threads),
        "one depth, of a bundle of five": probed(folder / "all", DEPTHS[:1], threads),
        "all depths": probed(folder / "all", DEPTHS, threads),
        "all depths, weights as in the file": probed(folder / "all", DEPTHS, threads, repacked=False),
    }
    result = {
        **measured_on("onnxruntime", "torch"),
        "encoder": arguments.encoder,
        "depths": DEPTHS,
        "threads": threads,
        "bytes": sizes,
        "bytes_over_one": sizes["all"]["all"] / sizes["one"]["all"],
        "export_seconds": json.loads((folder / "all" / "laco.json").read_text())["build"]["seconds"],
        "opened": cases,
        "encode": time_repacking(folder / "all", threads, arguments.rounds),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({**result, "export_seconds": "…"}, indent=1))
    if not arguments.keep:
        for name in ("checkpoint", "one", "all"):
            shutil.rmtree(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
