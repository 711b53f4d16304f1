"""A bundle in two tables: printed when an export is done and again by ``laco-engine inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from .bundle import Manifest, Vision
from .carried_depths import depth_name, path_of
from .golden import GOLDEN_NAME
from .manifest_schema import SEVEN_BIT_PRODUCTS

_SHOWN_REFUSALS, _SHOWN_ISLANDS, _SHOWN_SCRIPTS = 2, 8, 6
"""Lines are for reading; ``laco.json`` has them all."""


def show_summary(manifest: Manifest, console, *, title: str) -> None:
    """Print the facts of a bundle and its nodes by operator on a Rich console."""
    from rich.table import Table
    from rich.text import Text

    facts = Table(title=title, show_header=False, title_justify="left")
    for label, text in summary_lines(manifest):
        facts.add_row(label, Text(text))  # not markup: a reason may hold "[…]"
    console.print(facts)
    if manifest.depths:
        console.print(_depths_table(manifest))
    operators = Table(title="nodes of the vision graph", title_justify="left")
    for column in ("operator", "as traced", "exported"):
        operators.add_column(column, justify="left" if column == "operator" else "right")
    before, after = manifest.vision.nodes_before, manifest.vision.nodes
    for name in dict.fromkeys([*before, *after]):
        changed = "bold" if before.get(name, 0) != after.get(name, 0) else "dim"
        operators.add_row(Text(name), str(before.get(name, 0)), str(after.get(name, 0)), style=changed)
    operators.add_section()
    operators.add_row("all", str(sum(before.values())), str(sum(after.values())))
    if before:
        console.print(operators)


def _depths_table(manifest: Manifest):
    """A line a depth, the one that the other tables are about first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="depths over the same weights, and image_features at each", title_justify="left")
    for column in ("depth", "after block", "tokens", "FLOPs of @1", "FP32 nodes", "cosine", "max abs"):
        table.add_column(column, justify="left" if column == "depth" else "right")
    for entry in map(manifest.at, map(depth_name, manifest.compressions)):
        ratio, tensors = entry.vision.flops.get("ratio_to_1"), entry.accuracy.get("tensors")
        compared = ("-", "-")
        if tensors and tensors[-1]["cosine"] is not None:
            compared = f"{tensors[-1]['cosine']:.7f}", f"{tensors[-1]['max_abs']:.2e}"
        cells = (
            entry.compression["depth"],
            ", ".join(map(str, path_of(entry.compression).blocks)),
            str(entry.compression["tokens_after"]),
            "-" if ratio is None else f"{ratio:.3f}",
            str(len(entry.vision.kept_fp32)),
            *compared,
        )
        table.add_row(*map(Text, cells))
    return table


def summary_lines(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """``(label, text)`` of each row; an empty label continues the one above."""
    vision = manifest.vision
    yield "encoder", f"{manifest.encoder['model_type']}, {manifest.encoder['num_blocks']} blocks"
    yield "merge", merge_in_words(manifest.compression)
    if "total" in vision.flops:
        ratio = f", {vision.flops['ratio_to_1']:.3f} of a merge at @1" if "ratio_to_1" in vision.flops else ""
        yield "FLOPs", f"{vision.flops['total'] / 1e9:.1f} G a picture{ratio}"
    yield "vision graph", f"{vision.precision} for {vision.target}, opset {vision.opset}, IR {vision.ir_version}"
    if record := vision.calibration:
        blocks = record.get("blocks", [])
        narrow = sum(block.get("eight_bit", False) for block in blocks)
        # Records written before targets were named have a recipe, tensorrt or cpu.
        kind, reader = record.get("number_format"), record.get("target") or record.get("recipe")
        yield "calibrated", f"{kind} for {reader}, {record.get('method')}, {narrow} of {len(blocks)} parts of blocks"
    if vision.products is not None:
        yield "needs", _products(vision)
    yield from _labelled("rewrites", _rewrites(vision.rewrites))
    yield from _labelled("FP32 islands", _islands(vision.kept_fp32))
    if manifest.decoder is not None and manifest.decoder.vocabulary:
        yield from _labelled("vocabulary", _vocabulary(manifest.decoder.vocabulary))
    yield from _accuracy_lines(manifest.accuracy)
    for built in manifest.build.get("compiled", []):
        yield "compiled", f"{built['builder']} {built['version']}, plan {_size(built['plan_bytes'])}"
    yield "bytes", ", ".join(f"{part} {_size(size)}" for part, size in bytes_by_part(manifest).items())
    seconds = manifest.build.get("seconds", {})
    if seconds:
        steps = [f"{taken:6.1f}  {step}" for step, taken in seconds.items()]
        yield from _labelled("seconds", [*steps, f"{sum(seconds.values()):6.1f}  together"])
    yield from _labelled("notes", manifest.notes)


def _products(vision: Vision) -> str:
    """What the graphs ask of a CPU."""
    if vision.products == SEVEN_BIT_PRODUCTS:
        return "any CPU: uint8 by weights of seven bits"
    instead = "its twin with weights of seven bits" if vision.twin else "slower exact products"
    return f"a CPU that adds uint8 by int8 exactly (x86 with VNNI, ARM); without, {instead} will run"


def _vocabulary(record: dict) -> Iterator[str]:
    """What a reduced vocabulary has rows for, and what it can say byte by byte alone."""
    yield (
        f"{record['rows']:,} of {record['of']:,} tokens have a row, chosen from {record['source']}: a token reads "
        f"{_size(record['bytes_saved'])} less"
    )
    if (coverage := record.get("held_out_coverage")) is not None:
        yield f"{coverage:.2%} of such text has rows where each half of it is judged by what the other half has"
    for whole, words in ((True, "no token but bytes"), (False, "not all tokens")):
        scripts = [entry for entry in record["left_out"] if (entry["tokens"] == entry["of"]) == whole]
        if scripts:
            more = f"; and {len(scripts) - _SHOWN_SCRIPTS} more" if len(scripts) > _SHOWN_SCRIPTS else ""
            yield f"{words}: {'; '.join(map(_left_out, scripts[:_SHOWN_SCRIPTS]))}{more}"


def _left_out(entry: dict) -> str:
    examples = f", as {' '.join(entry['examples'])}" if entry["examples"] else ""
    return f"{entry['script']} ({entry['tokens']:,} of {entry['of']:,} left out{examples})"


def trial_lines(trial: dict) -> Iterator[str]:
    """What a finished bundle answered before it got its name, a line a question."""
    if trial["not_asked"] is not None:
        yield f"not asked before it got its name: {trial['not_asked']}"
    for part in trial["parts"]:
        if part["part"].startswith("answer"):
            yield f"{at_depth(part)}{part['part'].removeprefix('answer, ')}: {part['detail']}"


def at_depth(part: dict) -> str:
    """Where a part of a bundle of several depths belongs: ``@1/2, ``."""
    return f"@{part['depth']}, " if "depth" in part else ""


def _labelled(label: str, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(texts):
        yield ("" if number else label), text


def _rewrites(records: list[dict]) -> Iterator[str]:
    """How often each fired in one line, then why a site was left alone, a line per rewrite."""
    if records:
        yield ", ".join(f"{record['name']} ×{record['fired']}" for record in records)
    for record in records:
        if refused := record.get("refused"):
            more = f"; and {len(refused) - _SHOWN_REFUSALS} more" if len(refused) > _SHOWN_REFUSALS else ""
            yield f"{record['name']} refused: {'; '.join(refused[:_SHOWN_REFUSALS])}{more}"


def _islands(islands: list[dict]) -> Iterator[str]:
    """Rules are one line for all their nodes; a measured reason names its tensor and stands alone."""
    reasons = Counter(entry["reason"] for entry in islands)
    for reason, count in list(reasons.items())[:_SHOWN_ISLANDS]:
        yield f"{count} {'node' if count == 1 else 'nodes'}: {reason.removesuffix(' (rule)')}"
    if len(reasons) > _SHOWN_ISLANDS:
        nodes = sum(list(reasons.values())[_SHOWN_ISLANDS:])
        yield f"{nodes} more for reasons of their own: vision.kept_fp32 of laco.json"


def bytes_by_part(manifest: Manifest) -> dict[str, int]:
    """File sizes by part of the bundle."""
    sizes: Counter = Counter()
    golden = {manifest.golden, *(further.golden for further in manifest.depths)}
    for path, entry in manifest.files.items():
        name = path.split("/")[0]
        part = "vision" if name.startswith("vision") else GOLDEN_NAME if name in golden else name
        sizes[part if part in ("vision", "llm", GOLDEN_NAME) else "other"] += entry["bytes"]
    return dict(sorted(sizes.items(), key=lambda part: -part[1]))


def comparison_line(comparison: dict, *, with_tolerance: bool = False) -> str:
    """One compared tensor in a line, each number with what was allowed if asked for; a missing one reads as ``nan``."""
    cosine, ratio, largest = (
        float("nan") if comparison.get(key) is None else comparison[key] for key in ("cosine", "norm_ratio", "max_abs")
    )
    allowed = comparison.get("tolerance")
    if not with_tolerance or allowed is None or comparison.get("largest") is None:
        return f"cosine {cosine:.7f}, norm ratio {ratio:.5f}, max abs {largest:.2e}"
    return (
        f"cosine {cosine:.7f} (≥ {allowed['cosine']:.7g}), norm ratio {ratio:.5f} (1 ± {allowed['norm_drift']:.2g}), "
        f"max abs {largest:.2e} (≤ {allowed['max_abs'] * comparison['largest']:.2e})"
    )


def merge_in_words(merge: dict) -> str:
    """A manifest's ``compression``: the method, the depth, the tokens before and after."""
    if merge["method"] is None:
        return f"none, {merge['tokens_after']} tokens a picture"
    tokens = f"{merge['tokens_before']} → {merge['tokens_after']} tokens"
    if merges := merge.get("merges"):
        after = [f"{entry['ratio']} x {entry['ratio']} after block {entry['block']}" for entry in merges]
        way = " → ".join(str(entry["tokens_after"]) for entry in merges)
        return f"{merge['method']} @{merge['depth']} ({', '.join(after)}), {merge['tokens_before']} → {way} tokens"
    return f"{merge['method']} @{merge['depth']} (after block {merge['block']}), {tokens}"


_NO_WITNESSES = "none: exported before pixel values and the order of tokens were computed independently too"


def _accuracy_lines(accuracy: dict) -> Iterator[tuple[str, str]]:
    if not accuracy.get("tensors"):
        return
    pictures = f"{len(accuracy.get('pictures', []))} {accuracy.get('pictures_are', '')} pictures".replace("  ", " ")
    yield "judged by", f"{accuracy.get('judged_by')}, {pictures}"
    for label, key in (("worst boundary", "tensors"), ("worst block", "branches")):
        if tensors := accuracy.get(key):
            worst = _worst(tensors)
            yield label, f"{worst['name']}: {comparison_line(worst)}"
    yield "image_features", comparison_line(accuracy["tensors"][-1])
    watched = [check["watched"] for check in accuracy.get("witnesses", [])]
    yield "witnesses", f"agree on {', '.join(watched)}" if watched else _NO_WITNESSES
    yield from _decoder_lines(accuracy.get("decoder", {}))
    if rewritten := accuracy.get("rewritten"):
        worst = _worst([*rewritten["tensors"], *rewritten.get("branches", [])])
        yield "rewritten", f"{rewritten['judged_by']}: worst at {worst['name']}: {comparison_line(worst)}"


def _decoder_lines(decoder: dict) -> Iterator[tuple[str, str]]:
    """Is the language model's graph right, and what did its precision cost."""
    if whole := decoder.get("whole"):
        positions, activations = decoder.get("prompt_tokens"), decoder.get("activations")
        against = f"{'some' if positions is None else positions} positions" + (
            f", {activations} activations" if activations else ""
        )
        yield "decoder's graph", f"{comparison_line(whole)} ({against})"
    if not (cost := decoder.get("cost")):
        return
    yield (
        "decoder's cost",
        f"KL {cost['kl_mean']:.4f} nats a token (99th percentile {cost['kl_p99']:.3f}), perplexity "
        f"{cost['perplexity']:.2f} × {cost['perplexity_ratio']:.3f}",
    )
    yield (
        "",
        f"best token kept at {cost['same_where_decided']:.1%} of the positions where the model is decided "
        f"({cost['decided']:.0%} of {cost['positions']})",
    )
    if use := cost.get("vocabulary"):
        yield (
            "",
            f"of the reduced vocabulary's tokens alone: {use['next_has_row']:.1%} of the judged text and "
            f"{use['best_has_row']:.1%} of the whole head's choices have rows; {use['same_where_row']:.1%} of these "
            "choices are kept",
        )
    for answer in cost["greedy"]:
        yield "", f"{answer['question']} {answer['exported']!r} (given model: {answer['given']!r})"


def _worst(tensors: list[dict]) -> dict:
    return min(tensors, key=lambda tensor: -2.0 if tensor["cosine"] is None else tensor["cosine"])


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
