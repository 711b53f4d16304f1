"""Time and peak memory of observing many pictures, and that a killed run resumes to the same statistics.

    python benchmarks/calibration_pictures.py make --folder PICTURES            # 512 crops of photographs
    python benchmarks/calibration_pictures.py observe --bundle FP32 --folder PICTURES [--limit N] [--kill-after SECONDS]
    python benchmarks/calibration_pictures.py observe --bundle FP32 --folder PICTURES --resume KEPT
    python benchmarks/calibration_pictures.py compare

``observe`` is that step of laco-calibrate on its own, without smoothing. ``--kill-after`` ends it by SIGKILL,
wherever it is then; what it had written to ``--keep`` is what ``--resume`` goes on with. Digests are written down at
round numbers of pictures, so that a run that was killed and resumed can be compared with one that was not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import threading
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from laco_calibration.source.picture_set import find_pictures
from laco_calibration.statistics.observer import empty_statistics, observe
from laco_calibration.statistics.records import Statistics
from laco_export.bundle import open_bundle
from laco_export.exporter.external_data import graph_from_file
from laco_export.machine import cpu_title

RESULTS = Path(__file__).parent / "results"
MARKS = (16, 32, 64, 128, 256, 512)
PHOTOGRAPHS = (
    *(("skimage", "data", name) for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "retina.jpg")),
    *(("sklearn", "datasets/images", name) for name in ("china.jpg", "flower.jpg")),
)


def make(folder: Path, count: int) -> None:
    """``count`` different crops of the photographs that ship inside scikit-image and scikit-learn."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    images = [
        Image.open(Path(find_spec(package).origin).parent / inner / name).convert("RGB")
        for package, inner, name in PHOTOGRAPHS
    ]
    for index in range(count):
        image = images[index % len(images)]
        side = int(min(image.size) * random.uniform(0.4, 1.0))
        left, top = (int(random.integers(0, size - side + 1)) for size in image.size)
        image.crop((left, top, left + side, top + side)).resize((384, 384)).save(folder / f"{index:03}.jpg", quality=92)


def observe_folder(bundle_folder: Path, folder: Path, limit: int | None, resume: Path | None, keep: Path) -> dict:
    bundle = open_bundle(bundle_folder)
    graph = graph_from_file(bundle.file("vision_b1.onnx"))
    picture_set = find_pictures([folder])
    statistics = (
        Statistics.load(resume)
        if resume
        else empty_statistics(graph, bundle.graph_sha256(bundle.manifest.vision.graphs[0]))
    )
    before, start, cpu = len(statistics.pictures), time.perf_counter(), time.process_time()
    marks: dict[int, dict] = {}

    def advance() -> None:
        seen = len(statistics.pictures)
        if seen in MARKS:
            marks[seen] = {
                "seconds": round(time.perf_counter() - start, 1),
                "cpu_seconds": round(time.process_time() - cpu, 1),
                "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "statistics_sha256": statistics.digest(),
            }
            print(seen, marks[seen], flush=True)

    observe(graph, bundle, picture_set, picture_set.pictures[:limit], statistics, keep=keep, advance=advance)
    return {
        "pictures": len(statistics.pictures),
        "resumed_after": before,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "encoder": bundle.manifest.encoder,
        "graph_sha256": statistics.graph,
        "device": cpu_title(),
        "versions": {name: version(name) for name in ("onnxruntime", "torch", "numpy")},
        "marks": {str(seen): mark for seen, mark in marks.items()},
    }


def compare(results: Path) -> None:
    for name, runs in json.loads(results.read_text()).items():
        whole, resumed = runs["uninterrupted"]["marks"], runs["resumed"]["marks"]
        for seen in sorted(set(whole) & set(resumed), key=int):
            same = whole[seen]["statistics_sha256"] == resumed[seen]["statistics_sha256"]
            print(f"{name}, {seen} pictures: {'equal' if same else 'DIFFERENT'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("make", "observe", "compare"))
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--kill-after", type=float, metavar="SECONDS")
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--keep", type=Path, default=Path("kept.json"))
    parser.add_argument("--results", type=Path, default=RESULTS / "calibration_pictures.json")
    args = parser.parse_args()
    if args.step == "make":
        make(args.folder, args.count)
    elif args.step == "observe":
        if args.kill_after is not None:
            threading.Timer(args.kill_after, os.kill, (os.getpid(), signal.SIGKILL)).start()
        record = observe_folder(args.bundle, args.folder, args.limit, args.resume, args.keep)
        results = json.loads(args.results.read_text()) if args.results.exists() else {}
        size = "{num_blocks} blocks of {hidden_size}".format(**record["encoder"])
        results.setdefault(size, {})["resumed" if args.resume else "uninterrupted"] = record
        args.results.write_text(json.dumps(results, indent=1) + "\n")
    else:
        compare(args.results)


if __name__ == "__main__":
    main()
