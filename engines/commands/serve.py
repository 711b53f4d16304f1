"""``laco-engine serve``: a bundle behind an HTTP endpoint of OpenAI's form, with a page to try it."""

from __future__ import annotations

import argparse
import os
from functools import partial

from laco_export.utf8 import path_argument

from ..serving.settings import ServeSettings
from .answer_arguments import (
    add_machine_arguments,
    add_prompt_lookup_argument,
    check_runtime_names,
    open_answerer,
)
from .command import Command, add_depth_argument, positive

KEY_VARIABLE = "LACO_API_KEY"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=path_argument, metavar="BUNDLE", help="a folder written by laco-export")
    add_depth_argument(parser, "its first; a request may name another")
    parser.add_argument(
        "--host", default=ServeSettings.host, help="address to listen on (127.0.0.1: only this machine)"
    )
    parser.add_argument(
        "--port", type=int, default=ServeSettings.port, metavar="N", help=f"0 takes a free one ({ServeSettings.port})"
    )
    parser.add_argument("--name", metavar="ID", help="the model's id for clients (the bundle folder's name)")
    access = parser.add_argument_group("access")
    access.add_argument(
        "--api-key",
        metavar="KEY",
        help=f"clients must send it; better in the environment's {KEY_VARIABLE}, which other users cannot see; "
        "needed where --host is not loopback",
    )
    access.add_argument(
        "--allow-host", metavar="NAME", action="append", default=[], help="answer to this Host too; may be repeated"
    )
    access.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="let web pages of this origin ask (https://app.example.org); may be repeated",
    )
    access.add_argument(
        "--allow-fetch",
        action="store_true",
        help="fetch pictures that clients name by http(s) URLs, from public addresses only (never)",
    )
    governor = parser.add_argument_group(
        "governor", "the depth of requests that name none, of a bundle of several: lower under load, higher again after"
    )
    governor.add_argument(
        "--deadline", type=float, metavar="MS", help="milliseconds from a request's arrival to its first token"
    )
    governor.add_argument(
        "--waiting-per-step", type=positive, metavar="N", help="a depth lower for each N requests that wait"
    )
    governor.add_argument(
        "--keep-below",
        metavar="WHAT=LIMIT",
        action="append",
        default=[],
        help="a depth lower while it is above the limit: a file that holds a number "
        "(/sys/class/thermal/thermal_zone0/temp=70000), or power=WATTS by the board's sensors; may be repeated",
    )
    governor.add_argument(
        "--shared-weights",
        action="store_true",
        help="the towers of all depths compute with the weight file's own pages (ONNX Runtime): less memory, slower",
    )
    limits = parser.add_argument_group("limits")
    for flag, metavar, type_, default, meaning in (
        ("--queue", "N", positive, ServeSettings.queue, "requests that may wait"),
        ("--timeout", "S", float, ServeSettings.timeout_s, "seconds for a request, with its wait"),
        ("--drain", "S", float, ServeSettings.drain_s, "seconds to answer what is left at the end"),
        ("--max-body", "MB", positive, ServeSettings.max_body_bytes >> 20, "largest request body"),
        ("--max-pixels", "N", positive, ServeSettings.max_pixels, "of a picture"),
        ("--max-pictures", "N", positive, ServeSettings.max_pictures, "of a request"),
        ("--max-new-tokens", "N", positive, ServeSettings.max_new_tokens, "longest answer"),
    ):
        limits.add_argument(flag, metavar=metavar, type=type_, default=default, help=f"{meaning} ({default:,.0f})")
    add_prompt_lookup_argument(parser)
    add_machine_arguments(parser)


def _run(args: argparse.Namespace) -> int:
    # The cheap checks first: wrong settings, a missing extra or a port in use are told before anything is loaded.
    settings = ServeSettings(
        host=args.host,
        port=args.port,
        api_key=args.api_key if args.api_key is not None else os.environ.get(KEY_VARIABLE),
        queue=args.queue,
        timeout_s=args.timeout,
        drain_s=args.drain,
        max_body_bytes=args.max_body << 20,
        max_pixels=args.max_pixels,
        max_pictures=args.max_pictures,
        max_new_tokens=args.max_new_tokens,
        allow_fetch=args.allow_fetch,
        allowed_hosts=tuple(args.allow_host),
        allowed_origins=tuple(args.allow_origin),
        prompt_lookup=args.prompt_lookup,
    )
    check_runtime_names(args)

    from laco_export.bundle import open_bundle, read_manifest
    from laco_export.console import progress
    from laco_export.required_packages import SERVER_PACKAGES, require_packages

    require_packages(*SERVER_PACKAGES)
    manifest = read_manifest(args.bundle)  # no bundle is told at once; its files are verified when the port is ours
    manifest.at(args.at)
    governed = _governed(args, manifest)

    from ..prompts.prompter import Prompter
    from ..serving.server import bind, serve

    with bind(settings.host, settings.port) as listener:
        with progress("verifying the bundle", transient=True):
            bundle = open_bundle(args.bundle)
            prompter = Prompter(bundle.at(args.at))

        load = partial(open_answerer, bundle, prompter, args, at=args.at, shared_weights=args.shared_weights)
        name = args.name or bundle.path.resolve().name
        depths = {"at": args.at, "governed": governed}
        serve(bundle, prompter, settings, load=load, model=name, **depths, listener=listener)
    return 0


def _governed(args: argparse.Namespace, manifest):
    """The :class:`~laco_engines.serving.governed.GovernedDepths` that are asked for; None where none are."""
    from laco_export.errors import UsageError

    from ..devices.watched import WatchedValue
    from ..governor import Governor, GovernorRules
    from ..serving.governed import GovernedDepths

    watched = [WatchedValue.parse(text) for text in args.keep_below]
    if args.deadline is None and args.waiting_per_step is None and not watched:
        return None
    if args.at is not None:
        raise UsageError(
            "--at fixes the depth that --deadline, --waiting-per-step and --keep-below choose",
            given=f"--at {args.at}",
            todo="leave out --at: a request names its depth itself where it needs one",
        )
    rules = GovernorRules(args.deadline, args.waiting_per_step, tuple(value.limit for value in watched))
    return GovernedDepths(Governor.of_manifest(manifest, rules), watched)


SERVE = Command("serve", "answer other programs, and people on a small page", _add_arguments, _run)
