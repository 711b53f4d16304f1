"""What the user is told when a calibration is done: a table for people, a document for machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from laco_export.summary import trial_lines

from .source.picture_set import SHOWN
from .statistics.thresholds import AUTO


@dataclass(frozen=True)
class CalibrationReport:
    """A finished calibration.

    Attributes:
        record: the manifest's ``vision.calibration``.
        broken: pictures that could not be read → reason.
        seconds: step → seconds.
        trial: what came of asking the finished bundle; None where it was not asked.
    """

    output: Path
    record: dict
    broken: dict[str, str]
    notes: list[str]
    seconds: dict[str, float]
    trial: dict | None = None

    def to_json(self) -> dict:
        """The ``--json`` document."""
        return {
            "output": str(self.output),
            "calibration": self.record,
            "broken": self.broken,
            "notes": self.notes,
            "trial": self.trial,
            "seconds": self.seconds,
        }

    def show(self, console) -> None:
        """Print the tables on a Rich console."""
        from rich.table import Table
        from rich.text import Text

        record, times = self.record, self.record["milliseconds"]
        console.print(_block_table(record))
        facts = Table(title=f"{self.output}", show_header=False, title_justify="left")
        chosen = sum(block["eight_bit"] for block in record["blocks"])
        facts.add_row("target", f"{record['target']}, {record['number_format']}, {record['method']}")
        facts.add_row("eight bits", f"{chosen} of {len(record['blocks'])} blocks")
        judged = record["judged"]
        facts.add_row(
            "projector",
            f"cosine {judged['cosine']:.5f}, norm ratio {judged['norm_ratio']:.5f} on the worst of "
            f"{len(record['judged_on'])} pictures, {record['held_out']} of them not calibrated on: "
            f"{record['points']:.3g} points of {record['max_drop']:g} allowed",
        )
        facts.add_row("golden pictures", _golden(record["golden"]))
        if record["twin"]:
            facts.add_row("without VNNI", _twin(record["twin"]))
        if record["answers"]:
            facts.add_row("answers", _answers(record["answers"]))
        if times:
            base, eight = times["base"]["milliseconds"], times["eight_bit"]["milliseconds"]
            facts.add_row("time", f"{eight:.1f} ms against {base:.1f} ms in {record['base']}: {base / eight:.2f} ×")
        elif record["activations"] is None:
            facts.add_row("time", "unmeasured: weights alone are for memory")
        else:
            facts.add_row("time", "unmeasured: chosen by accuracy alone; laco-engine build measures it on the device")
        if times and times["eight_bit"]["milliseconds"] >= times["base"]["milliseconds"]:
            facts.add_row("", "slower than what it came from; handed out because it was asked for")
        observed = f"{record['pictures']} observed, " if record["statistics"] else ""
        facts.add_row(
            "pictures",
            f"{observed}{len(record['judged_on'])} judged on; left out: {record['duplicate_pictures']} equal, "
            f"{record['copied_pictures']} nearly equal, {record['flat_pictures']} of one colour",
        )
        for name, reason in list(self.broken.items())[:SHOWN]:
            facts.add_row("broken", f"{name}: {reason}")
        if len(self.broken) > SHOWN:
            facts.add_row("broken", f"and {len(self.broken) - SHOWN} more")
        for line in trial_lines(self.trial) if self.trial else ():
            facts.add_row("asked", Text(line))
        facts.add_row("seconds", ", ".join(f"{step} {seconds:.1f}" for step, seconds in self.seconds.items()))
        for note in self.notes:
            facts.add_row("note", note)
        console.print(facts)


def _golden(golden: dict) -> str:
    share = golden["share_of_tolerance"]
    verdict = "" if share <= 1 else ": more than laco-engine diff allows"
    return f"{golden['points']:.3g} points on the worst of {golden['pictures']}, against PyTorch{verdict}"


def _twin(twin: dict) -> str:
    blocks = f"{twin['blocks']} blocks with weights of seven bits"
    return f"{blocks}: {twin['points']:.3g} points, {twin['golden_points']:.3g} on the golden pictures"


def _answers(score: dict) -> str:
    text = f"{score['same']} of {score['questions']} as the FP32 bundle's"
    if score["right"] is None:
        return text
    return f"{text}; {score['right']} of {score['with_answer']} right, {score['right_base']} in FP32"


def _block_table(record: dict):
    """One row a block, each swapped alone: points lost, norm ratio and the share of FP32's answer tokens that is kept,
    its milliseconds, how its ranges were cut, and its smoothing strength. Columns that say nothing are left out."""
    from rich.table import Table

    number = lambda digits: lambda value: "" if value is None else f"{value:.{digits}f}"
    shown = {
        "points": ("points", number(3)),
        "norm": ("norm_ratio", number(4)),
        "answers": ("agreement", number(3)),
        "ms": ("base_ms", number(2)),
        "8-bit ms": ("eight_bit_ms", number(2)),
        "ranges": ("method", lambda value: value or ""),
        "smooth": ("smoothing", lambda value: f"{value:g}" if value else ""),
    }
    if record["method"] != AUTO:
        del shown["ranges"]  # the same for all
    shown = {head: (key, show) for head, (key, show) in shown.items() if any(block[key] for block in record["blocks"])}
    table = Table(title="blocks, each swapped alone", title_justify="left")
    table.add_column("block", no_wrap=True)
    table.add_column("8 bits")
    for head in shown:
        table.add_column(head, justify="right", no_wrap=True)
    region = None
    for block in record["blocks"]:
        if block["region"] != region:
            region = block["region"]
            table.add_section()
            table.add_row(f"[dim]{region}[/dim]")
        chosen = "yes" if block["eight_bit"] else block["reason"] or "no"
        table.add_row(short_name(block["name"]), chosen, *(show(block[key]) for key, show in shown.values()))
    return table


def short_name(block: str) -> str:
    """``layers.3`` of ``vision_model.encoder.encoder.layers.3``."""
    parts = block.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
