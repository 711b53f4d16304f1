"""What this machine has, lacks and would use; and whether a bundle fits into it (``laco-engine doctor``).

Nothing is installed or changed, and no model is loaded unless a bundle is given.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from laco_export.bundle import Bundle
from laco_export.machine import available_memory

from .cost.estimate import CONTEXT_BYTES, estimate
from .cost.graph_cost import graph_cost
from .devices.cuda import CudaDevice, present_device
from .devices.jetpack import jetpack_of
from .devices.state import MachineState, machine_state
from .generation.text_runtime import choose_text_runtime
from .packages import PACKAGES, installed_version, library_version
from .providers import ProviderMissingError, choose_provider

PROCESS_BYTES = {"optimum": 650 << 20, "lean": 200 << 20}
"""By text runtime, of a process that has answered with a bundle of 1 MiB: with PyTorch, transformers and ONNX Runtime
it was measured at 633 MiB; with ONNX Runtime alone at 77 MiB, and at 192 where TensorRT-RTX is installed (Linux x86-64,
the versions of constraints.txt)."""
CACHE_POSITIONS = 2048
"""Of the KV cache that is counted: a few pictures and a long answer."""


@dataclass(frozen=True)
class Fit:
    """A bundle's memory, by arithmetic on its files.

    Attributes:
        vision_bytes: engine or weights, activations, and CUDA's context where there is a device.
        decoder_bytes: the language model's files; cache_bytes: its KV cache of :data:`CACHE_POSITIONS`.
        process_bytes: Python and its packages, of :data:`PROCESS_BYTES`.
        free_bytes: what a program could take now; None if unknown.
    """

    vision_bytes: int
    decoder_bytes: int
    cache_bytes: int
    process_bytes: int
    free_bytes: int | None

    @property
    def needed_bytes(self) -> int:
        return self.vision_bytes + self.decoder_bytes + self.cache_bytes + self.process_bytes

    @property
    def fits(self) -> bool | None:
        return None if self.free_bytes is None else self.needed_bytes <= self.free_bytes


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        packages: name → installed version, or None.
        vision: the runtime that encodes pictures, or None where none can; passed_over: why the better ones are not it.
        language: ONNX Runtime's execution provider of the language model, or None.
        text_runtime: what would run the language model: ``optimum`` or ``lean``.
        todo: commands and hints, in order.
        fit: of the bundle, where one was given.
    """

    machine: MachineState
    packages: dict[str, str | None]
    vision: str | None
    passed_over: list[str]
    language: str | None
    text_runtime: str
    todo: list[str] = field(default_factory=list)
    fit: Fit | None = None

    @property
    def ready(self) -> bool:
        """Pictures can be encoded here, and the bundle fits as far as that is known."""
        return self.vision is not None and (self.fit is None or self.fit.fits is not False)

    def to_dict(self) -> dict:
        """For ``--json``."""
        fit = None
        if self.fit is not None:
            fit = {**asdict(self.fit), "needed_bytes": self.fit.needed_bytes, "fits": self.fit.fits}
        return {**asdict(self), "fit": fit, "ready": self.ready}


def diagnose(bundle: Bundle | None = None) -> Diagnosis:
    """Look.

    Args:
        bundle: a verified bundle; its runtime is opened, to see that it starts.
    """
    machine, device = machine_state(), present_device()
    vision, passed_over = _vision(bundle, device)
    diagnosis = Diagnosis(
        machine=machine,
        packages={package.name: installed_version(package) for package in PACKAGES},
        vision=vision,
        passed_over=passed_over,
        language=_language(),
        text_runtime=choose_text_runtime()[0],
    )
    if bundle is not None:
        diagnosis.fit = bundle_fit(bundle, device)
    diagnosis.todo = _todo(diagnosis, device)
    return diagnosis


def bundle_fit(bundle: Bundle, device: CudaDevice | None) -> Fit:
    """Estimate a bundle's memory beside what is free; a GPU's own memory is not looked at, the system's is."""
    manifest = bundle.manifest
    try:
        costs = [graph_cost(bundle.file(graph.file)) for graph in manifest.vision.graphs]
        vision = max(estimate(cost, workspace_bytes=None, profile=None).run_bytes for cost in costs)
    except ModuleNotFoundError:  # without the package onnx the activations, a few per cent, are left out
        vision = manifest.files[manifest.vision.weights]["bytes"] + CONTEXT_BYTES
    vision -= 0 if device is not None else CONTEXT_BYTES
    decoder = cache = 0
    if manifest.decoder is not None:
        inside = f"{manifest.decoder.folder}/"
        decoder = sum(entry["bytes"] for name, entry in manifest.files.items() if name.startswith(inside))
        cache = _cache_bytes(bundle)
    return Fit(vision, decoder, cache, PROCESS_BYTES[choose_text_runtime()[0]], available_memory())


def _cache_bytes(bundle: Bundle) -> int:
    """Of the FP32 keys and values of :data:`CACHE_POSITIONS`, or of the whole context where that is shorter."""
    decoder = bundle.manifest.decoder
    config = json.loads(bundle.file(f"{decoder.folder}/config.json").read_text(encoding="utf-8"))
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    positions = min(CACHE_POSITIONS, decoder.context_length)
    return 2 * 4 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * width * positions


def _vision(bundle: Bundle | None, device: CudaDevice | None) -> tuple[str | None, list[str]]:
    from .runtimes import RuntimeMissingError, open_runtime

    if bundle is not None:
        try:
            runtime = open_runtime(bundle)
        except RuntimeMissingError as error:
            return None, [error.failed, *([str(error.given)] if error.given else [])]
        return runtime.name, list(runtime.passed_over)
    reasons = []
    for library, title in (("tensorrt", "TensorRT"), ("tensorrt_rtx", "TensorRT-RTX")):
        installed = library_version(library)
        if installed is None:
            reasons.append(f"{title} is not installed")
        elif device is None:
            reasons.append(f"{title} has no device")
        else:
            return f"{title} {installed}, once laco-engine build has made an engine", reasons
    provider = _language()
    return (f"onnxruntime {provider}" if provider else None), reasons


def _language() -> str | None:
    try:
        return choose_provider().execution_provider
    except ProviderMissingError:
        return None


def _todo(diagnosis: Diagnosis, device: CudaDevice | None) -> list[str]:
    board = diagnosis.machine.board
    missing = [package for package in PACKAGES if package.needed and diagnosis.packages[package.name] is None]
    lines = []
    if board is not None:
        jetpack = jetpack_of(board["jetpack"])
        if jetpack is None:
            lines.append(f"flash JetPack 6 or 7: JetPack {board['jetpack'] or 'unknown'} is not supported")
        elif missing or diagnosis.packages["tensorrt"] is None:
            lines += jetpack.commands
        if board["power_mode"] is None:
            lines.append("nvpmodel does not answer: power mode unknown")
    elif missing or diagnosis.vision is None:
        lines.append(f"pip install 'laco-export[{'gpu' if device is not None else 'cpu'}]'")
    elif device is not None and diagnosis.packages["tensorrt"] is None and diagnosis.packages["tensorrt-rtx"] is None:
        lines.append("pip install tensorrt (or tensorrt-rtx), then: laco-engine build BUNDLE")
    if diagnosis.fit is not None and diagnosis.fit.fits is False:
        lines.append("the bundle does not fit: close other programs, or export with --llm int4")
    return lines
