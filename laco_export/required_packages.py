"""The packages that a command needs, asked for before anything is imported, and the extra that installs each."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import LacoError

_EXTRA_OF = {
    "torch": "cpu",
    "transformers": "cpu",
    "safetensors": "cpu",
    "onnx": "cpu",
    "onnxscript": "cpu",
    "onnx_graphsurgeon": "cpu",
    "polygraphy": "cpu",
    "optimum": "llm",
    "onnxruntime": "cpu",
    "matplotlib": "plots",
    "accelerate": "train",
    "datasets": "train",
    "fastapi": "serve",
    "jinja2": "report",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "lmms_eval": "eval",
}
"""Top-level module → the extra that installs it."""

MODEL_PACKAGES = ("torch", "transformers", "safetensors")
"""What a checkpoint is loaded with."""

EXPORT_PACKAGES = (*MODEL_PACKAGES, "onnx", "onnxscript", "onnx_graphsurgeon", "polygraphy", "onnxruntime")
"""What a bundle is made with."""

TRAINING_PACKAGES = (*MODEL_PACKAGES, "accelerate")

SERVER_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


class PackageMissingError(LacoError):
    """A command needs a package that is not installed."""


def package_missing(module: str) -> PackageMissingError | None:
    """What to tell of a module that is not installed; None for one that no extra brings.

    Args:
        module: as it is imported, ``onnx.helper`` too.
    """
    package = module.split(".")[0]
    if package not in _EXTRA_OF:
        return None
    return PackageMissingError(
        f"this command needs the package '{package}', which is not installed",
        todo=f"pip install 'laco-export[{_EXTRA_OF[package]}]' (on a Jetson: see the extra 'jetson')",
    )


def require_packages(*modules: str) -> None:
    """Look for top-level modules without importing them.

    Raises:
        PackageMissingError: the first that is not there.
    """
    for module in modules:
        if find_spec(module) is None:
            raise package_missing(module)
