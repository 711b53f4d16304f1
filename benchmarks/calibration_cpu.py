"""An INT8 bundle of recipe cpu against the FP32 bundle that it came from, on ONNX Runtime's CPU provider.

    python benchmarks/calibration_cpu.py fp32=BUNDLE int8=BUNDLE [name=BUNDLE …] [--bursts 10]

The first subject is what the others are compared with. All run in turn in bursts of three; see laco_calibration.timing.
Add ``profile`` to a name (``int8.profile=BUNDLE``) for its time by operator.
"""

from __future__ import annotations

import argparse
import collections
import json
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from laco_calibration.timing import device, interleaved, open_session, runner_of
from laco_engines.threads import default_threads
from laco_export.bundle import open_bundle

RESULTS = Path(__file__).parent / "results" / "calibration_cpu.json"


def graph_of(folder: Path) -> Path:
    bundle = open_bundle(folder)
    return bundle.file(bundle.manifest.vision.graphs[0].file)


def by_operator(path: Path, runs: int = 4) -> dict[str, float]:
    """Milliseconds of a run by operator, from ONNX Runtime's profile."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = default_threads(), 3
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        run = runner_of(session)
        for _ in range(runs):
            run()
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: dict[str, float] = collections.Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"] / 1000 / runs
    return {name: round(ms, 2) for name, ms in spent.most_common(12)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="+", metavar="NAME=BUNDLE")
    parser.add_argument("--bursts", type=int, default=10)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    named = dict(subject.split("=", 1) for subject in args.subjects)
    paths = {name.removesuffix(".profile"): graph_of(Path(folder)) for name, folder in named.items()}
    found = interleaved({name: runner_of(open_session(path)) for name, path in paths.items()}, bursts=args.bursts)
    base = next(iter(found.values())).milliseconds
    record = {
        "device": device(),
        "versions": {name: version(name) for name in ("onnxruntime", "numpy")},
        "bursts": args.bursts,
        "subjects": {name: {**asdict(one), "times_faster": base / one.milliseconds} for name, one in found.items()},
        "by_operator": {
            name.removesuffix(".profile"): by_operator(paths[name.removesuffix(".profile")])
            for name in named
            if name.endswith(".profile")
        },
    }
    for name, one in record["subjects"].items():
        print(
            f"{name:16s} {one['milliseconds']:8.1f} ms  {one['times_faster']:.2f}x  cpu/wall {one['cpu_over_wall']:.2f}"
        )
    args.results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
