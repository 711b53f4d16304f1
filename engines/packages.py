"""The packages that running a bundle can use, what each is for, and whether it is there; nothing is imported."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


@dataclass(frozen=True)
class Package:
    """A package.

    Attributes:
        name: as pip knows it.
        module: as Python imports it.
        purpose: what is not possible without it.
        others: distributions that bring the same module.
        needed: for answers about pictures; else it makes something faster or better.
    """

    name: str
    module: str
    purpose: str
    others: tuple[str, ...] = ()
    needed: bool = False


PACKAGES: tuple[Package, ...] = (
    Package(
        "onnxruntime",
        "onnxruntime",
        "the language model; the vision tower where there is no TensorRT",
        ("onnxruntime-gpu", "onnxruntime-openvino"),
        needed=True,
    ),
    Package("optimum-onnx", "optimum.onnxruntime", "the text runtime optimum; without it: lean"),
    Package("transformers", "transformers", "the text runtime optimum"),
    Package("torch", "torch", "the text runtime optimum"),
    Package("tokenizers", "tokenizers", "prompts", needed=True),
    Package("tensorrt", "tensorrt", "engines for this device", ("tensorrt-cu12", "tensorrt-cu13")),
    Package("tensorrt-rtx", "tensorrt_rtx", "engines for RTX devices, also built without one", ("tensorrt_rtx_cu13",)),
    Package("cuda-bindings", "cuda.bindings", "to see the GPU and to run engines", ("cuda-python",)),
    Package("polygraphy", "polygraphy", "laco-engine build"),
    Package("onnx", "onnx", "estimates, floors, laco-engine diff --blocks"),
    Package("av", "av", "coded video"),
)


def installed_version(package: Package) -> str | None:
    """Its version; ``?`` where the module is there without pip's record of it, as JetPack installs TensorRT."""
    for name in (package.name, *package.others):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    try:
        return "?" if find_spec(package.module) else None
    except ModuleNotFoundError:  # its parent package is not there
        return None


def is_installed(library: str) -> bool:
    """Whether a top-level module is there to be imported, which is not tried."""
    return library in sys.modules or find_spec(library) is not None


def library_version(library: str) -> str | None:
    """The installed version of ``tensorrt`` or ``tensorrt_rtx`` without importing it; None where it is missing."""
    if not is_installed(library):
        return None
    for name in (library, library.replace("_", "-"), f"{library}_cu13", f"{library}_cu12"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    # A Jetson's system package is a Debian one; its Python side says its version itself.
    return import_module(library).__version__
