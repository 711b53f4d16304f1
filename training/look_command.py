"""``laco-train look``: what a picture is worth to a checkpoint, measured on any conversations."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from laco_export.console import progress, run_command, say
from laco_export.errors import UsageError, check_whole
from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

_SAMPLES, _BATCH = 64, 16


def build_parser() -> argparse.ArgumentParser:
    """The options of ``laco-train look``."""
    parser = argparse.ArgumentParser(
        prog="laco-train look",
        description="Measure whether a checkpoint looks at its pictures: the loss of answers with their own pictures "
        "and with those of other samples. The difference, in nats a token, is what a picture is worth.",
        epilog="example: laco-train look run/checkpoint --data pictures/heldout.json",
    )
    parser.add_argument("checkpoint", type=path_argument, metavar="CKPT", help="a LaCo checkpoint")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="conversations, as recipes take them")
    parser.add_argument("--images", type=Path, metavar="DIR", help="their pictures (default: the data file's folder)")
    parser.add_argument(
        "--samples", type=int, default=_SAMPLES, metavar="N", help=f"spread over the data (default: {_SAMPLES})"
    )
    parser.add_argument("--batch", type=int, default=_BATCH, metavar="N", help=f"of a pass (default: {_BATCH})")
    parser.add_argument("--plain", action="store_true", help="stage 1's form: the caption follows the picture")
    parser.add_argument("--at", metavar="DEPTH", help="of an elastic checkpoint (default: its first)")
    parser.add_argument("--json", action="store_true", help="print the measurement as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: _run(arguments), debug=arguments.debug)


def _run(arguments: argparse.Namespace) -> None:
    from laco_export.quiet import quiet_libraries

    from .refusals import check_checkpoint, require_conversations

    check_whole("--samples", arguments.samples, least=4)
    check_whole("--batch", arguments.batch, least=2)
    stated = check_checkpoint(arguments.checkpoint)
    if arguments.at and stated.is_resolved:
        stated.find(arguments.at)
    require_conversations(arguments.data)
    with quiet_libraries():
        from laco_export.models import checkpoint

        from .look import LEAST_SAMPLES, measure_look

        loaded = checkpoint.load(arguments.checkpoint)
        if arguments.at:
            loaded = loaded.at_depth(arguments.at)
        look = measure_look(loaded.model, _batches(loaded, arguments))
    if look is None:
        raise UsageError(
            f"too few samples of '{arguments.data}' can exchange their pictures",
            allowed=f"at least {LEAST_SAMPLES} samples with different pictures of one layout",
        )
    if arguments.json:
        print_json(look.to_dict())
        return
    say(look.verdict())
    say(f"loss {look.loss:.3f} with their own pictures, {look.exchanged_loss:.3f} with others'")
    say(
        f"visual embeddings: root mean square {look.visual_rms:.3g}, {look.rms_over_text:.2g} x the text's; "
        f"{look.between_tiles:.0%} of their variance lies between tiles"
    )


def _batches(loaded, arguments: argparse.Namespace) -> Iterator[dict]:
    """Samples spread over the data, in batches of the model's inputs; one that is broken is left out."""
    import torch

    from .data import Collator, open_dataset
    from .stages import padding_id

    dataset = open_dataset(arguments.data, loaded.processor, images=arguments.images, plain=arguments.plain)
    collator = Collator(padding_id(loaded.processor))
    wanted = min(arguments.samples, len(dataset))
    places = torch.linspace(0, len(dataset) - 1, wanted).long().unique().tolist()
    count = -(-len(places) // arguments.batch)
    broken: list[str] = []
    with progress("looking", count) as advance:
        for first in range(count):
            # Neighbours may be questions about one picture, which they could not exchange: every count-th place.
            samples = [dataset[place] for place in places[first::count]]
            whole = [sample for sample in samples if not sample["notes"].broken]
            broken += [f"{note.id}: {note.reason}" for s in samples for note in s["notes"].broken[:1]]
            if whole:
                batch = collator(whole)
                del batch["notes"]
                yield batch
            advance(1)
    if broken:
        say(f"{len(broken)} of {len(places)} samples could not be used; the first is {broken[0]}")
