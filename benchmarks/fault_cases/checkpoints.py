"""Class b: checkpoints that are damaged, blind, or of a kind that is trained and cannot be exported."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .attempts import Ended, Fault, Verdict, answered, refused, remarked
from .workshop import Workshop, edit_json, set_tensors

_REMARK = (r"\bcolour\b", r"\bcopies\b", r"\bzero\b", r"\bdepend\b")
"""A word of each remark that no other line of an export has; the table may break a longer phrase."""


def _spoilt(done: str, change: Callable[[Path], None], *words: str, seconds: float = 60) -> Fault:
    """A changed checkpoint, whose export is refused by name."""
    attempt = lambda shop: refused(shop.export(shop.checkpoint_with(change), seconds=seconds), *words)
    return Fault("b", done, "refused", attempt)


def _without_fast_tokenizer(shop: Workshop) -> Verdict:
    """Refused, or the bundle answers."""
    folder, bundle = shop.checkpoint_with(lambda folder: (folder / "tokenizer.json").unlink()), shop.place("bundle")
    ended = shop.export(folder, output=bundle)
    return answered(shop.ask(bundle)) if ended.code == 0 else refused(ended, "tokenizer")


def _extended_llama(shop: Workshop) -> Verdict:
    """Tokens were added to a Llama's tokenizer, and its embedding was left as it was."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = shop.place("llama")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=256, max_position_embeddings=512, **sizes)).save_pretrained(folder)
    alphabet = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(alphabet, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    added = ["<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>", "<pad>"]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>").save_pretrained(folder)
    ended = shop.in_full(shop.encoder, folder)
    return answered(ended) if ended.code == 0 else refused(ended, "no row", "resize_token_embeddings")


def _zeroed(*parts: str) -> Callable[[Workshop], Ended]:
    """The export of a checkpoint whose weights with these in their names are zero."""

    def change(tensors: dict) -> None:
        for name, values in tensors.items():
            if any(part in name for part in parts):
                tensors[name] = np.zeros_like(values)

    spoil = lambda folder: set_tensors(folder / "model.safetensors", change)
    return lambda shop: shop.export(shop.checkpoint_with(spoil), "--no-llm")


def _with_remark(done: str, export: Callable[[Workshop], Ended]) -> Fault:
    return Fault("b", done, "remarked", lambda shop: remarked(export(shop), *_REMARK))


def _one_picture_three_times(shop: Workshop) -> Ended:
    copies = shop.place("pictures")
    copies.mkdir()
    for number in range(3):
        (copies / f"{number}.png").write_bytes(shop.picture.read_bytes())
    return shop.export(shop.checkpoint, "--no-llm", "--images", str(copies))


def _black_pictures(shop: Workshop) -> Ended:
    return shop.export(shop.checkpoint, "--no-llm", "--images", str(shop.picture_folder(3, colour="black")))


def _of_dtype(dtype: object) -> Callable[[Path], None]:
    cast = lambda tensors: {name: (100 * values).astype(dtype) for name, values in tensors.items()}
    return lambda folder: set_tensors(folder / "model.safetensors", cast)


def _with_header(spoil: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """The weight file with another header in front of the same data."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        header = spoil(raw[8 : 8 + size])
        path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + size :])

    return change


def _complex(header: bytes) -> bytes:
    entries = json.loads(header)
    for entry in entries.values():
        if "dtype" in entry:
            entry["dtype"], entry["shape"] = "C64", [*entry["shape"][:-1], entry["shape"][-1] // 2]
    return json.dumps(entries).encode()


def _metadata_of_99_mb(header: bytes) -> bytes:
    return json.dumps({**json.loads(header), "__metadata__": {"format": "pt", "note": "x" * 99_000_000}}).encode()


def _layers(count: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        text = {**config["text_config"], "num_hidden_layers": count}
        text.pop("layer_types", None)
        edit_json(folder / "config.json", text_config=text)

    return change


def _packer(ratio: int) -> Fault:
    options = ("--compressor", "token_packer", "--ratio", str(ratio))
    attempt = lambda shop: answered(shop.in_full(shop.encoder, shop.language_model, *options))
    return Fault("b", f"token_packer with ratio {ratio}: init, export, run", "answered", attempt)


def _family(family: str) -> Fault:
    def attempt(shop: Workshop) -> Verdict:
        from transformers import CONFIG_MAPPING, AutoModelForCausalLM

        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
        sizes |= {"num_key_value_heads": 1, "vocab_size": 448, "head_dim": 16, "pad_token_id": None}
        folder = shop.copy_of(shop.language_model, family)
        (folder / "model.safetensors").unlink()
        AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**sizes)).save_pretrained(folder)
        return refused(shop.start(shop.encoder, folder, shop.place("checkpoint")), family)

    return Fault("b", f"{family}: init", "refused", attempt)


def _foreign_file_in_a_checkpoint(shop: Workshop) -> Verdict:
    """``--force`` on a checkpoint's folder in which somebody keeps a file of his own."""
    folder = shop.copy_of(shop.checkpoint)
    (folder / "thesis.txt").write_text("years")
    ended = shop.start(shop.encoder, shop.language_model, folder, "--force")
    verdict = refused(ended, "thesis.txt")
    return verdict if (folder / "thesis.txt").exists() else Verdict(False, f"thesis.txt is gone; {ended}")


FAULTS = (
    Fault("b", "no tokenizer.json (a slow tokenizer loads)", "refused or answered", _without_fast_tokenizer),
    _spoilt("image_token_id 10^9", lambda f: edit_json(f / "config.json", image_token_id=10**9), "image"),
    _spoilt("image_token_id another token's", lambda f: edit_json(f / "config.json", image_token_id=5), "image"),
    Fault("b", "a Llama's tokenizer with ids beyond the rows", "refused or answered", _extended_llama),
    _with_remark("projector all zero", _zeroed("projector")),
    _with_remark("patch embedding all zero", _zeroed("patch_embed.")),
    _with_remark("golden pictures all black", _black_pictures),
    _with_remark("one picture three times", _one_picture_three_times),
    _spoilt("weights of int8", _of_dtype(np.int8), "I8", "float"),
    _spoilt("weights of int32", _of_dtype(np.int32), "I32", "float"),
    _spoilt("weights of complex64", _with_header(_complex), "C64", "float"),
    _spoilt("metadata of 99 MB", _with_header(_metadata_of_99_mb), "header", seconds=20),
    _spoilt("a header of nested JSON", _with_header(lambda header: b"[" * 100_000 + b"]" * 100_000), "header"),
    _spoilt("config.json of nested JSON", lambda f: (f / "config.json").write_text("[" * 100_000), "nested|JSON"),
    _spoilt("10^6 text layers", _layers(10**6), "num_hidden_layers", seconds=20),
    _packer(3),
    _packer(4),
    *map(_family, ("mistral", "phi3", "gemma2")),
    Fault("b", "--force on a checkpoint with another file in it", "refused", _foreign_file_in_a_checkpoint),
)
