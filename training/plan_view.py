"""A plan on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from .plan import Plan
from .recipe import GROUPS

_MEMORY = ("weights", "gradients", "optimizer", "activations", "total")


def plan_renderables(plan: Plan) -> list:
    """The plan as Rich renderables: parts, what each trains, memory, and each stage's first sample."""
    from rich.panel import Panel

    values = plan.values
    samples = [
        Panel(text, title=f"{name}: its first sample, with what counts for the loss in colour", title_align="left")
        for name, text in plan.previews.items()
    ]
    return [
        _parts(values),
        _trained(values["parts"]),
        *_other_rates(values["parts"]),
        _memory(values["parts"]),
        *samples,
    ]


def _table(title: str, headings: tuple[str, ...], caption: str | None = None):
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=place > 0)  # names fold, figures do not
    return table


def _parts(values: dict):
    merge = ", ".join(f"{depth} ({_place(blocks)})" for depth, blocks in values["merge"].items())
    method = f"{values['method']} at {merge}" if merge else "no merge"
    table = _table(
        f"recipe {values['recipe']}: {method}, {values['tokens_per_tile']} tokens a tile",
        ("part and data", "samples", "steps", "batch", "tokens"),
        "batch: per_device_batch_size x processes x accumulation; tokens: estimated, with the pictures'",
    )
    for part in values["parts"]:
        batch = str(part.get("global_batch_size", ""))
        if "accumulation" in part:
            batch += f"\n= {part['per_device_batch_size']} x {values['processes']} x {part['accumulation']}"
        table.add_row(
            f"{part['part']}\n{part['data']}",
            f"{part['samples']:,}",
            f"{part['steps']:,}" if "steps" in part else "",
            batch,
            _short(part["estimated_tokens"]) if "estimated_tokens" in part else "",
        )
    return table


def _place(blocks: int | Sequence[int]) -> str:
    """Where a merge stands, or those of a path."""
    return f"after block {blocks}" if isinstance(blocks, int) else f"after blocks {' and '.join(map(str, blocks))}"


def _trained(parts: list[dict]):
    table = _table("what each part trains", ("part", "group", "parameters", "peak learning rate"))
    for part in parts:
        counts, rates = part.get("parameters", {}), part.get("learning_rates", {})
        # A stage freezes the groups that it does not name; the parts before stage 1 are models of their own.
        shown = GROUPS if "memory" in part else tuple(counts)
        for place, group in enumerate(shown):
            rate = f"{rates[group]:g}" if group in rates else ", ".join(f"{n} {r:g}" for n, r in rates.items())
            cells = (f"{counts[group]:,}", rate) if group in counts else ("frozen", "")
            table.add_row("" if place else part["part"], group, *cells, end_section=place + 1 == len(shown))
    return table


def _other_rates(parts: list[dict]) -> list[str]:
    """What to set where a stage's learning rates were made for quite another batch."""
    advice = []
    for part in parts:
        if rates := part.get("fitting_learning_rates"):
            stage = part["part"].removeprefix("stage-")
            settings = [f"learning_rates.{group}={rate:g}" for group, rate in rates.items()]
            settings.append(f"rates_for_batch={part['global_batch_size']}")
            line = " ".join(f"--set stages.{stage}.{setting}" for setting in settings)
            advice.append(
                f"{part['part']}: its learning rates were made for another batch than {part['global_batch_size']}; "
                f"by the square root of the batch they would be\n    {line}"
            )
    return advice


def _memory(parts: list[dict]):
    measured = [part for part in parts if "memory" in part]
    shapes = "; ".join(f"{part['part']} {_shape(part['memory']['forward'])}" for part in measured)
    table = _table(
        "memory of one process (estimated)",
        ("part", *_MEMORY),
        "weights, gradients and optimiser states in FP32, before any sharding; activations: what autograd keeps of a "
        f"forward pass on the longest sample seen, counted by running the model on shapes alone ({shapes})",
    )
    for part in measured:
        table.add_row(part["part"], *(_size(part["memory"][name]) for name in _MEMORY))
    return table


def _shape(forward: dict) -> str:
    return f"{forward['rows']} x {forward['tokens']:,} tokens, {forward['tiles']} tiles"


def _short(number: int) -> str:
    """An estimate, in millions where it is large."""
    return f"{number / 1e6:,.0f} M" if number >= 1e7 else f"{number:,}"


def _size(number: int) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
