"""``laco-engine serve``: a bundle behind an HTTP endpoint of OpenAI's form, with a page to try it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .answer_arguments import check_provider_name
from .command import Command, positive

KEY_VARIABLE = "LACO_API_KEY"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a folder written by laco-export")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: only this machine)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0 takes a free one (8000)")
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
    limits = parser.add_argument_group("limits")
    limits.add_argument("--queue", type=positive, metavar="N", default=32, help="requests that may wait (32)")
    limits.add_argument(
        "--timeout", type=float, metavar="S", default=120.0, help="for a request, its waiting included (120)"
    )
    limits.add_argument("--drain", type=float, metavar="S", default=30.0, help="to answer what is left at the end (30)")
    limits.add_argument("--max-body", type=positive, metavar="MB", default=20, help="largest request body (20)")
    limits.add_argument(
        "--max-pixels", type=positive, metavar="N", default=50_000_000, help="of a picture (50,000,000)"
    )
    limits.add_argument("--max-pictures", type=positive, metavar="N", default=16, help="of a request (16)")
    limits.add_argument("--max-new-tokens", type=positive, metavar="N", default=1024, help="longest answer (1024)")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--threads", type=positive, metavar="N", help="CPU threads (the cores this process may use)")
    machine.add_argument(
        "--provider", metavar="NAME", help="ONNX Runtime's: cpu, cuda, tensorrt (the best that is there, but tensorrt)"
    )


def _run(args: argparse.Namespace) -> int:
    # The cheap checks first: wrong settings, a missing extra or a port in use are told before anything is loaded.
    from ..serving.settings import ServeSettings

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
    )
    check_provider_name(args)

    from laco_export.bundle import open_bundle
    from laco_export.console import console

    from ..prompt import Prompter
    from ..serving.server import bind, serve

    with bind(settings.host, settings.port) as listener:
        with console().status("verifying the bundle"):
            bundle = open_bundle(args.bundle)
            prompter = Prompter(bundle)

        def load():
            from ..answering import Answerer

            return Answerer(bundle, prompter=prompter, threads=args.threads, provider=args.provider)

        name = args.name or bundle.path.resolve().name
        serve(bundle, prompter, settings, load=load, model=name, listener=listener)
    return 0


SERVE = Command("serve", "answer programs over HTTP, and people on a small page", _add_arguments, _run)
