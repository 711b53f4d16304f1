"""What a benchmark was measured on, for its results: device, processor, versions of the libraries.

from measured_on import measured_on

{**measured_on("torch", "onnxruntime"), "rounds": 5, …}
"""

from __future__ import annotations

from laco_export.machine import cpu_name, cpu_title, library_versions


def measured_on(*distributions: str, device: str = "cpu") -> dict:
    """The entries ``device``, ``cpu`` and ``versions``.

    Args:
        distributions: the libraries that the figures depend on; those that are not installed are left out.
        device: as PyTorch names it.
    """
    return {"device": device_title(device), "cpu": cpu_name(), "versions": library_versions(distributions)}


def device_title(device: str = "cpu") -> str:
    """The GPU's name where ``device`` is one, else the processor and the threads that may be used of it."""
    if not device.startswith("cuda"):
        return cpu_title()
    import torch

    return torch.cuda.get_device_name(device)
