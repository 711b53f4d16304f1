"""What the user is told when an export is done: a table for people, a document for machines."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from ..bundle import Manifest


@dataclass(frozen=True)
class Report:
    """A finished export.

    Attributes:
        seconds: step → seconds.
        compiled: one entry per graph that was built: builder, version, seconds, plan size.
    """

    output: Path
    manifest: Manifest
    seconds: dict[str, float]
    compiled: list[dict]

    def to_json(self) -> dict:
        """The ``--json`` document."""
        manifest = self.manifest
        return {
            "output": str(self.output),
            "source": manifest.source,
            "encoder": manifest.encoder,
            "compression": manifest.compression,
            "vision": asdict(manifest.vision),
            "accuracy": manifest.accuracy,
            "decoder": None if manifest.decoder is None else asdict(manifest.decoder),
            "compiled": self.compiled,
            "notes": manifest.notes,
            "seconds": self.seconds,
            "bytes": self.bytes,
        }

    @property
    def bytes(self) -> dict[str, int]:
        """File sizes by part of the bundle."""
        sizes: Counter = Counter()
        for path in sorted(self.output.rglob("*")):
            if path.is_file():
                name = path.relative_to(self.output).parts[0]
                part = "vision" if name.startswith("vision") else name if name in ("llm", "golden.npz") else "other"
                sizes[part] += path.stat().st_size
        return dict(sizes)

    def show(self, console) -> None:
        """Print the tables on a Rich console."""
        from rich.table import Table

        manifest, vision = self.manifest, self.manifest.vision
        facts = Table(title=f"{self.output}", show_header=False, title_justify="left")
        facts.add_row("encoder", f"{manifest.encoder['model_type']}, {manifest.encoder['num_blocks']} blocks")
        facts.add_row("merge", self._merge())
        facts.add_row("vision graph", f"{vision.precision}, opset {vision.opset}, IR {vision.ir_version}")
        facts.add_row("nodes", f"{sum(vision.nodes_before.values())} as traced, {sum(vision.nodes.values())} exported")
        facts.add_row("rewrites", ", ".join(f"{r['name']} ×{r['fired']}" for r in vision.rewrites))
        for reason, count in Counter(_kind(kept["reason"]) for kept in vision.kept_fp32).items():
            facts.add_row("kept FP32", f"{count} nodes: {reason}")
        facts.add_row("judged by", f"{manifest.accuracy['judged_by']}, {len(manifest.accuracy['pictures'])} pictures")
        facts.add_row("worst boundary", self._worst())
        facts.add_row("image_features", _numbers(manifest.accuracy["tensors"][-1]))
        for built in self.compiled:
            facts.add_row("compiled", f"{built['builder']} {built['version']}, plan {_size(built['plan_bytes'])}")
        facts.add_row("size", ", ".join(f"{part} {_size(size)}" for part, size in self.bytes.items()))
        facts.add_row("seconds", ", ".join(f"{step} {seconds:.1f}" for step, seconds in self.seconds.items()))
        for note in manifest.notes:
            facts.add_row("note", note)
        console.print(facts)
        changed = self._changed_operators()
        if changed:
            operators = Table(title="nodes by operator that changed", title_justify="left")
            for column in ("operator", "as traced", "exported"):
                operators.add_column(column, justify="left" if column == "operator" else "right")
            for name, before, after in changed:
                operators.add_row(name, str(before), str(after))
            console.print(operators)

    def _merge(self) -> str:
        merge = self.manifest.compression
        if merge["method"] is None:
            return f"none, {merge['tokens_after']} tokens a picture"
        tokens = f"{merge['tokens_before']} → {merge['tokens_after']} tokens"
        return f"{merge['method']} @{merge['depth']} (after block {merge['block']}), {tokens}"

    def _worst(self) -> str:
        worst = min(self.manifest.accuracy["tensors"], key=lambda found: found["cosine"])
        return f"{worst['name']}: {_numbers(worst)}"

    def _changed_operators(self) -> list[tuple[str, int, int]]:
        before, after = self.manifest.vision.nodes_before, self.manifest.vision.nodes
        names = dict.fromkeys([*before, *after])
        return [(n, before.get(n, 0), after.get(n, 0)) for n in names if before.get(n, 0) != after.get(n, 0)]


def _numbers(found: dict) -> str:
    return f"cosine {found['cosine']:.7f}, norm ratio {found['norm_ratio']:.5f}, max abs {found['max_abs']:.2e}"


def _kind(reason: str) -> str:
    """Rules are one line for all their nodes; a measured reason names its tensor and stands alone."""
    return reason.removesuffix(" (rule)")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
