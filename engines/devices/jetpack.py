"""What each JetPack brings, and what is to be installed beside it: one entry a major version.

Not run here: no Jetson was at hand. Versions by NVIDIA's release notes; wheels for the board's own CUDA are on the
Jetson AI Lab's index, since those of PyPI hold no kernels for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JetPack:
    """A major version.

    Attributes:
        index: of the wheels for its CUDA and its Python.
        constraints: pip's argument that names the tested set, where there is one for this Python.
    """

    index: str
    constraints: str = ""

    @property
    def commands(self) -> tuple[str, ...]:
        """What to type, in order."""
        return (
            "sudo apt install python3-venv python3-libnvinfer tensorrt",
            "python3 -m venv --system-site-packages ~/laco && . ~/laco/bin/activate",
            f"pip install onnxruntime-gpu --index-url {self.index}",
            f"pip install {self.constraints}'laco-export[jetson]'",
        )


JETPACKS: dict[str, JetPack] = {
    "6": JetPack("https://pypi.jetson-ai-lab.io/jp6/cu126", "-c constraints-jetson.txt "),
    "7": JetPack("https://pypi.jetson-ai-lab.io/sbsa/cu130"),
}
"""By major version. JetPack 5 has Python 3.8, which is too old."""


def jetpack_of(version: str | None) -> JetPack | None:
    """The entry of a version as ``6.2`` or ``6.x``; None where it is unknown or too old."""
    return JETPACKS.get((version or "").split(".")[0])
