"""``laco-engine build``: a bundle's vision graphs become TensorRT engines, or an estimate where that cannot be here."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

from ..devices.profiles import PROFILES
from .command import Command, add_depth_argument
from .quantities import size


class _NamesDevice(argparse.Action):
    """The old spelling of ``--device``; a target is who reads a graph (``laco-export --target``)."""

    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(f"{option_string} is now --device: give --device {values or 'NAME'}")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=path_argument, metavar="BUNDLE", help="a folder written by laco-export")
    add_depth_argument(parser, "all that it carries")
    parser.add_argument(
        "--device",
        metavar="NAME",
        help=f"default: the one that is here. rtx: TensorRT-RTX, needs no GPU. {', '.join(PROFILES)}: an estimate of "
        "memory, size and time, unless that device is here",
    )
    parser.add_argument("--target", nargs="?", action=_NamesDevice, help=argparse.SUPPRESS)
    parser.add_argument(
        "--compute-capability",
        type=int,
        nargs="+",
        default=[],
        metavar="SM",
        help="with --device rtx: 75, 80, 86, 89, 120, 121 (default: all of them, or the device that is here)",
    )
    parser.add_argument(
        "--workspace",
        type=size,
        metavar="SIZE",
        help="most scratch memory of a tactic, as 1GiB (default: what is free)",
    )
    parser.add_argument("--level", type=int, metavar="0-5", help="the builder's effort (default: TensorRT's own)")
    parser.add_argument("--no-diff", dest="diff", action="store_false", help="skip the comparison after the build")
    parser.add_argument("--verbose", action="store_true", help="show all of TensorRT's messages")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def _run(args: argparse.Namespace) -> int:
    from laco_export.bundle import open_bundle
    from laco_export.console import progress

    from ..building.build_device import BuildDevice, resolve_device
    from ..building.builder import BuildOptions

    options = BuildOptions(workspace_bytes=args.workspace, level=args.level)
    device = resolve_device(args.device, tuple(args.compute_capability))
    with progress("verifying the bundle", transient=True):
        bundle = open_bundle(args.bundle, args.at)
    if not isinstance(device, BuildDevice):
        return _estimate_only(args, bundle, device, options)
    documents = {depth: _build(args, bundle.at(depth), device, options) for depth in bundle.depths}
    if args.json:
        print_json({"depths": documents} if len(documents) > 1 else next(iter(documents.values())))
    compared = [comparison for document in documents.values() for comparison in document["comparisons"]]
    return 1 if any(comparison["passed"] is False for comparison in compared) else 0


def _build(args, bundle, device, options) -> dict:
    """Build the graphs of a bundle of one depth, and say so unless everything is said at the end, as JSON."""
    from laco_export.console import progress, say

    from ..building.builder import build_bundle
    from ..building.faster_form import find_faster_forms
    from ..building.verification import compare_after_build, open_engines
    from ..store.engine_cache import EngineCache
    from ..store.fallback import fallback_of

    def on_message(line: str) -> None:
        if line.strip():
            say(line)

    cache, fallback, others, findings, compared = EngineCache(), fallback_of(bundle), [], {}, []
    builder = f"{device.library} {device.version}"
    with progress(f"building with {builder}", transient=True) as advance:

        def on_start(graph) -> None:
            advance(0, f"building {graph.file} for {device.title} with {builder}")

        told = {"cache": cache, "on_message": on_message if args.verbose else None, "on_start": on_start}
        results = build_bundle(bundle, device, options, **told)
        if fallback is not None:
            others = build_bundle(fallback, device, options, **told)
        if args.diff:
            advance(0, "comparing with golden.npz")
            compared = compare_after_build(bundle, device, results)
            if fallback is not None and device.cuda is not None:
                compared += compare_after_build(fallback, device, others)
        if fallback is not None and device.cuda is not None:
            advance(0, f"timing {bundle.manifest.vision.precision} and {fallback.manifest.vision.precision}")
            open_built = lambda form, built: open_engines(form, device, built)
            findings = find_faster_forms(bundle, fallback, results, others, cache, open_built)
    document = {
        "bundle": str(args.bundle),
        "library": device.library,
        "version": device.version,
        "device": device.identity or None,
        "system": device.system or None,
        "compute_capabilities": list(device.compute_capabilities),
        "built": True,
        "engines": [result.to_dict() for result in (*results, *others)],
        "faster_forms": {batch: asdict(finding) for batch, finding in findings.items()},
        "comparisons": [comparison.to_dict() for comparison in compared],
    }
    if not args.json:
        _show(device, (*results, *others))
        for line in (*(comparison.summary for comparison in compared), *_forms(bundle, fallback, findings)):
            print(line)
    return document


def _forms(bundle, fallback, findings: dict) -> list[str]:
    """What is known of which form is faster."""
    if fallback is None:
        return []
    if not findings:
        return [
            f"whether {bundle.manifest.vision.precision} is faster than {fallback.manifest.vision.precision} is not "
            "known here: build on the device, which times both"
        ]
    return [finding.summary(batch) for batch, finding in findings.items()]


def _show(device, results) -> None:
    print(f"{device.library} {device.version}")
    for result in results:
        status = {"cached": "in the cache", "built": "built", "rebuilt": "built again"}[result.status]
        seconds = f" in {result.built.seconds:.1f} s" if result.built else ""
        why = f" ({result.reason})" if result.reason else ""
        engine, built_for = result.stored.sidecar["engine"], result.stored.sidecar["built_for"]
        print(f"  {result.graph.file}: {status}{why}{seconds}, {_mib(engine['bytes'])}, for {built_for}")
        print(f"    {result.stored.path}")
        if result.left_out:
            numbers = ", ".join(f"{number / 10:.1f}" for number in result.left_out)
            print(f"    not for compute capability {numbers}: {result.left_out_reason}")
        for warning in result.built.warnings if result.built else ():
            print(f"    TensorRT warns: {warning}")


def _estimate_only(args, bundle, profile, options) -> int:
    """Print what the device would need, then refuse: an engine is built on the device that runs it."""
    from ..building.build_device import DeviceElsewhereError
    from ..cost.estimate import estimate
    from ..cost.graph_cost import graph_cost

    rows = []
    for graph in (graph for depth in bundle.depths for graph in bundle.at(depth).manifest.vision.graphs):
        expected = estimate(
            graph_cost(bundle.file(graph.file)), workspace_bytes=options.workspace_bytes, profile=profile
        )
        rows.append((graph, expected, expected.build_bytes <= profile.usable_bytes))
    if args.json:
        engines = [
            {"graph": graph.file, "batch": graph.batch, "fits": fits, "estimate": expected.to_dict()}
            for graph, expected, fits in rows
        ]
        document = {"bundle": str(args.bundle), "device": profile.name, "built": False, "engines": engines}
        print_json(document)
    else:
        print(f"estimated for {profile.title}, {_mib(profile.usable_bytes)} usable; TensorRT {profile.tensorrt}")
        for graph, expected, fits in rows:
            print(f"  {graph.file}: engine {_mib(expected.engine_bytes)}, running {_mib(expected.run_bytes)}")
            print(f"    building {_mib(expected.build_bytes)}: {'fits' if fits else 'DOES NOT FIT'}")
            print(f"    building takes {_build_time(expected)}")
            if expected.encode_floor:
                floor = expected.encode_floor
                print(f"    a run takes at least {floor.ms:.2f} ms ({floor.bound}, by the data sheet's peaks)")
    raise DeviceElsewhereError(
        f"nothing was built: an engine for {profile.title} is built on one",
        todo=f"copy the bundle there and run: laco-engine build {args.bundle.name}",
    )


def _build_time(expected) -> str:
    from ..cost.estimate import BUILD_TIMEOUT

    least = f"{expected.build_seconds:.0f} s" if expected.build_seconds >= 1 else "a second"
    return (
        f"at least {least} (its weights read and written) and at most {BUILD_TIMEOUT / 60:.0f} minutes (then it is "
        "ended); timing tactics takes minutes of them"
    )


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


BUILD = Command("build", "build TensorRT engines of a bundle's vision graphs", _add_arguments, _run)
