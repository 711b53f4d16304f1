"""Does the method work as the paper says? Its Tables 1 and 8 at small scale, with controls.

    python benchmarks/reproduce_ordering.py run --seeds 0 1 2          # resumes by itself; --device cuda on a GPU
    python benchmarks/reproduce_ordering.py run --seeds 0 --stop-after 240 --threads 1    # a slice of it
    python benchmarks/reproduce_ordering.py report                     # table, pictures, verdict

An encoder of twelve blocks is pretrained at its full token count until a small causal decoder reads at least 90 % of
the letters on its pages; then arms with the same batches, steps and start put a merge into it: Table 1's compressors at
1/4, Table 8's depths, and controls. ``docs/reproduction.md`` tells what came out.

A folder (``--output``) holds for each seed the pretrained parts and one JSON an arm; what stands there is not run
again, and an arm that was stopped goes on at its step. ``report`` writes benchmarks/results/reproduce_ordering.json,
reproduce_ordering.md and two pictures beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from measured_on import measured_on

RESULTS = Path(__file__).resolve().parent / "results"
STEPS = {"encoder": 600, "decoder": 200, "reader": 100, "stage_1": 100, "stage_2": 200}
_CURVE_POINTS_EVERY = 50  # steps


def settings_of(seed: int, steps: dict[str, int]) -> dict:
    """Everything a study's result depends on that somebody might change between two runs."""
    from ordering import arms, pages, pretraining, reader

    rates = {**{f"{part} (Muon)": rate for part, rate in pretraining.RATES.items()}, **arms.RATES}
    return {"seed": seed, "steps": steps, "batch": reader.BATCH, "learning_rates": rates, "pages": pages.DRAWING}


class Seed:
    """One seed's folder: every part is made once.

    Args:
        steps: of each part, as ``STEPS``.
        seconds: after which the run stops, at an arm's next step; None never.
    """

    def __init__(self, folder: Path, seed: int, steps: dict[str, int], device: str, seconds: float | None):
        from laco_export.atomic import write_json

        self.folder, self.seed, self.steps, self.device = folder, seed, steps, device
        self.deadline = float("inf") if seconds is None else time.monotonic() + seconds
        file, settings = folder / "settings.json", settings_of(seed, steps)
        folder.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(file.read_text()) if file.exists() else {}
        if other := [name for name in earlier if earlier[name] != settings.get(name)]:  # an older record lacks some
            sys.exit(
                f"error: '{folder}' was made with other settings: "
                + "; ".join(f"{name} {earlier[name]} then, {settings.get(name)} now" for name in other)
                + "; choose another --output"
            )
        write_json(file, settings)

    def run(self, wanted: list[str], *, exploratory: bool = False) -> bool:
        """All arms that are missing, or the ``wanted`` of them; False where the time ran out."""
        from ordering.arms import ARMS, ArmTraining, new_arm, stages_of

        from laco_export.atomic import write_json

        reader = self._reader()
        for arm in ARMS:
            record = self.folder / f"{arm.file}.json"
            if record.exists() or not (arm.file in wanted if wanted else exploratory or not arm.exploratory):
                continue
            stages = stages_of(arm, self.steps["stage_1"], self.steps["stage_2"])
            training = ArmTraining(new_arm(reader, arm, self.seed), stages, self.seed, self.folder / f"{arm.file}.pt")
            clock = _Clock(self.folder / f"{arm.file}.seconds.json")
            finished = training.run(_CURVE_POINTS_EVERY * arm.budget, lambda: time.monotonic() < self.deadline)
            seconds = clock.stop(keep=not finished)
            if not finished:
                print(f"seed {self.seed}: {arm.name} stopped in stage {stages[training.position].name}", flush=True)
                return False
            self._finish_arm(arm, training, record, seconds, write_json)
        return True

    def _finish_arm(self, arm, training, record: Path, seconds: dict, write_json) -> None:
        from ordering.reader import accuracy

        result = {
            "name": arm.name,
            "accuracy": training.curve[-1]["accuracy"],
            "shuffled": accuracy(training.model, self.seed, shuffled=True),
            "curve": training.curve,
            "last_loss": training.losses[-1],
            "steps": len(training.losses),
            **seconds,
        }
        write_json(record, result)
        training.state_file.unlink(missing_ok=True)
        print(f"seed {self.seed}: {arm.name} reads {result['accuracy']:.1%} in {seconds['seconds']:.0f} s", flush=True)

    def _reader(self):
        """The pretrained full-token model."""
        from ordering.pretraining import READS, new_reader, pretrain_decoder, pretrain_encoder, pretrain_reader

        from laco_export.atomic import write_json

        record = self.folder / "reader.json"
        blank = new_reader()
        encoder, decoder = blank.vision_model.encoder, blank.language_model
        parts = {
            "encoder": (encoder, lambda: pretrain_encoder(self.seed, self.steps["encoder"], self.device)),
            "decoder": (decoder, lambda: pretrain_decoder(encoder, self.seed, self.steps["decoder"])),
        }
        for name, (part, make) in parts.items():
            file = self.folder / f"{name}.pt"
            if not file.exists():
                clock = _Clock()
                _save(make().state_dict(), file)
                write_json(self.folder / f"{name}.json", spent := clock.stop())
                print(f"seed {self.seed}: {name} pretrained in {spent['seconds']:.0f} s", flush=True)
            part.load_state_dict(_load(file))
        file = self.folder / "reader.pt"
        if not file.exists():
            clock = _Clock()
            reader, reads = pretrain_reader(encoder, decoder, self.seed, self.steps["reader"], self.device)
            write_json(record, {"accuracy": reads, **clock.stop()})
            _save(reader.state_dict(), file)
            print(f"seed {self.seed}: the full-token reader reads {reads:.1%}", flush=True)
        reads = json.loads(record.read_text())["accuracy"]
        if reads < READS:
            print(f"warning: seed {self.seed}: the reader reads {reads:.1%}, which the verdict refuses", flush=True)
        blank.load_state_dict(_load(file))
        return blank.to(self.device)


def _load(file: Path) -> dict:
    import torch

    return torch.load(file, weights_only=True, map_location="cpu")


class _Clock:
    """Wall and CPU seconds of a part, added up over interruptions by a file."""

    def __init__(self, file: Path | None = None):
        self.file = file
        self.before = json.loads(file.read_text()) if file and file.exists() else {"seconds": 0.0, "cpu_seconds": 0.0}
        self.start = time.monotonic(), time.process_time()

    def stop(self, *, keep: bool = False) -> dict:
        now = time.monotonic(), time.process_time()
        spent = [earlier + b - a for earlier, a, b in zip(self.before.values(), self.start, now)]
        total = {"seconds": round(spent[0], 1), "cpu_seconds": round(spent[1], 1)}
        if self.file:
            self.file.write_text(json.dumps(total)) if keep else self.file.unlink(missing_ok=True)
        return total


def _save(state: dict, file: Path) -> None:
    import torch

    partial = file.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, file)


def run(arguments: argparse.Namespace) -> int:
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    end = None if arguments.stop_after is None else time.monotonic() + arguments.stop_after
    steps = {name: getattr(arguments, f"{name}_steps") for name in STEPS}
    for number in arguments.seeds:
        left = None if end is None else end - time.monotonic()
        seed = Seed(arguments.output / f"seed-{number}", number, steps, arguments.device, left)
        if not seed.run(arguments.arms, exploratory=arguments.exploratory):
            print("run the same command again to go on", flush=True)
            return 0
    return 0


def collect(folder: Path) -> dict[int, dict[str, dict]]:
    """seed → arm's name → its record, of the arms that are finished."""
    from ordering.arms import ARMS

    results: dict[int, dict[str, dict]] = {}
    for path in sorted(folder.glob("seed-*")):
        records = {arm.name: path / f"{arm.file}.json" for arm in ARMS}
        finished = {name: json.loads(file.read_text()) for name, file in records.items() if file.exists()}
        if finished:
            results[int(path.name.removeprefix("seed-"))] = finished
    return results


def report(arguments: argparse.Namespace) -> int:
    from ordering.pages import draw_pages, page_picture
    from ordering.pictures import draw_curves
    from ordering.verdict import rows_of, verdict

    results = collect(arguments.output)
    if not results:
        sys.exit(f"error: no finished arm in '{arguments.output}'; run the study first")
    readers = {seed: json.loads((arguments.output / f"seed-{seed}" / "reader.json").read_text()) for seed in results}
    rows, criteria = rows_of(results), verdict(results, {seed: reader["accuracy"] for seed, reader in readers.items()})
    settings = {seed: json.loads((arguments.output / f"seed-{seed}" / "settings.json").read_text()) for seed in results}
    values = {
        **measured_on("torch", "transformers", device=arguments.device),
        "settings": settings,
        "readers": readers,
        "loudness": {seed: _loudness(arguments.output / f"seed-{seed}", seed) for seed in results},
        "arms": results,
        "rows": [asdict(row) for row in rows],
        "verdict": [{"criterion": criterion, "holds": holds} for criterion, holds in criteria],
    }
    target = arguments.results
    target.mkdir(parents=True, exist_ok=True)
    (target / "reproduce_ordering.json").write_text(json.dumps(values, indent=1) + "\n")
    text = table(rows, criteria)
    (target / "reproduce_ordering.md").write_text(text)
    draw_curves(results, rows).save(target / "reproduce_ordering.png", optimize=True)
    pages, _ = draw_pages(4, 0, 0)
    page_picture(pages.permute(1, 2, 0, 3).flatten(2)).save(target / "reproduce_ordering_pages.png")
    print(text)
    return 0


def _loudness(folder: Path, seed: int) -> dict[str, list[float]]:
    """Root mean square of what Table 1's fresh merge layers take and give, by method."""
    from ordering.arms import COMPRESSORS, Arm, loudness, new_arm
    from ordering.pretraining import new_reader

    reader = new_reader()
    reader.load_state_dict(_load(folder / "reader.pt"))
    arms = {method: new_arm(reader, Arm(method, "1/4", "compressors"), seed) for method in COMPRESSORS}
    return {method: [round(size, 3) for size in loudness(model, seed)] for method, model in arms.items()}


def table(rows, criteria) -> str:
    """The result as Markdown."""
    lines = [
        "| group | arm | seeds | letters read | after stage 1 | R |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        retained = "" if row.retained is None else _with_error(row.retained, row.retained_error, "{:.3f}")
        cells = (row.group, row.name, row.seeds, _with_error(row.accuracy, row.accuracy_error, "{:.1%}"))
        lines.append(f"| {' | '.join(map(str, cells))} | {row.after_stage_1:.1%} | {retained} |")
    words = {True: "holds", False: "does not hold", None: "cannot be said yet"}
    return "\n".join([*lines, "", *(f"- {criterion}: {words[holds]}" for criterion, holds in criteria)]) + "\n"


def _with_error(value: float, error: float | None, form: str) -> str:
    return form.format(value) + (f" ± {form.format(error)}" if error is not None else "")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["run", "report"])
    parser.add_argument("--output", type=Path, default=Path("build/ordering"), help="default: build/ordering")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the report goes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=[], metavar="FILE", help="some arms only, such as laco-1_4")
    parser.add_argument("--exploratory", action="store_true", help="also the arms outside the verdict")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch on a CPU")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="and go on with the same command later")
    for name, steps in STEPS.items():
        parser.add_argument(f"--{name.replace('_', '-')}-steps", type=int, default=steps, help=f"default: {steps}")
    arguments = parser.parse_args(argv)
    return run(arguments) if arguments.step == "run" else report(arguments)


if __name__ == "__main__":
    sys.exit(main())
