"""Class a: a bundle whose manifest or files say something else, with every digest made right again."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .attempts import Fault, Verdict, answered, fork, refused
from .workshop import Workshop, edit_json, entry_of, set_tensors


def _manifest(done: str, change: Callable[[dict, Path], None], *words: str, by: str = "ask") -> Fault:
    """A changed manifest that is refused by name when the bundle is asked (or by ``diff``)."""

    def attempt(shop: Workshop) -> Verdict:
        return refused(getattr(shop, by)(shop.bundle_with(change), seconds=10), *words)

    return Fault("a", f"manifest: {done}", "refused", attempt)


def _set(*place: str | int, to: object) -> Callable[[dict, Path], None]:
    """A change that sets the field at ``place``."""

    def change(document: dict, folder: Path) -> None:
        holder = document
        for step in place[:-1]:
            holder = holder[step]
        holder[place[-1]] = to

    return change


def _first_file_without_digest(document: dict, folder: Path) -> None:
    del next(iter(document["files"].values()))["sha256"]


def _first_file_of_text_bytes(document: dict, folder: Path) -> None:
    next(iter(document["files"].values()))["bytes"] = "196"


def _long_name(document: dict, folder: Path) -> None:
    document["files"]["n" * 5000] = entry_of(b"")


def _fifo(document: dict, folder: Path) -> None:
    os.mkfifo(folder / "pipe.npz")
    document["golden"] = "pipe.npz"
    document["files"]["pipe.npz"] = entry_of(b"")


def _newline(raw: bytes) -> Callable[[dict, Path], None]:
    def change(document: dict, folder: Path) -> None:
        (folder / "newline.npy").write_bytes(raw)
        document["files"]["newline.npy"] = entry_of(raw)
        document["vision"]["image_newline"] = "newline.npy"

    return change


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _unlisted_zeros(*names: Callable[[dict], str]) -> Callable[[dict, Path], None]:
    """A file that the manifest uses is left out of ``files``, and the weights are zeros."""

    def change(document: dict, folder: Path) -> None:
        for name in names:
            del document["files"][name(document)]
        weights = folder / document["vision"]["weights"]
        weights.write_bytes(bytes(weights.stat().st_size))

    return change


def _golden(change: Callable[[dict], dict]) -> Callable[[dict, Path], None]:
    """The golden file with what ``change`` makes of its arrays."""

    def spoil(document: dict, folder: Path) -> None:
        path = folder / document["golden"]
        with np.load(path) as arrays:
            values = change(dict(arrays))
        np.savez_compressed(path, **values)

    return spoil


def _huge_golden(document: dict, folder: Path) -> None:
    """3 GB of zeros in a few MB: an array of 20,000 pictures."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (20_000, 224, 224, 3)}
    )
    with zipfile.ZipFile(folder / document["golden"], "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, count in (("names", 0), ("pictures", 20_000 * 224 * 224 * 3), ("image_features", 0)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(header.getvalue())
                for _ in range(count // (1 << 22)):
                    file.write(bytes(1 << 22))


def _bare_golden(document: dict, folder: Path) -> None:
    (folder / document["golden"]).write_bytes(_npy(np.zeros(3, np.float32)))


def _tokenizer(change: Callable[[dict], None]) -> Callable[[dict, Path], None]:
    def spoil(document: dict, folder: Path) -> None:
        path = folder / "tokenizer.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return spoil


def _id_beyond_the_embedding(tokenizer: dict) -> None:
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][-1], "content": "<|beyond|>", "id": 100_000})


def _exploding_expression(tokenizer: dict) -> None:
    split = {"type": "Split", "pattern": {"Regex": "(?:(a+)+)+$"}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]}


def _multiplying_normaliser(tokenizer: dict) -> None:
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [grow, grow, grow]}


def _asked_with_tokenizer(done: str, change: Callable[[dict], None], question: str) -> Fault:
    """Refused when opened, or bounded."""

    def attempt(shop: Workshop) -> Verdict:
        folder = shop.bundle_with(_tokenizer(change))
        ended = shop.ask(folder, "--question", question, seconds=10)
        return Verdict(not ended.is_crash and ended.peak_bytes < 3 << 30, str(ended))

    return Fault("a", f"tokenizer.json: {done}", "refused or answered", attempt)


def _generation(field: str, value: object) -> Fault:
    def change(document: dict, folder: Path) -> None:
        edit_json(folder / "llm" / "generation_config.json", **{field: value})

    attempt = lambda shop: refused(shop.ask(shop.bundle_with(change), seconds=10), field)
    return Fault("a", f"generation_config.json: {field} {value}", "refused", attempt)


def _weights_zeroed_after_verification(shop: Workshop) -> Verdict:
    """What is opened is what was verified: the answer is the sound one, or there is none."""
    sound, spoilt = shop.bundle, shop.copy_of(shop.bundle)

    def work() -> int:
        from laco_engines.answering import Answerer
        from laco_export.bundle import open_bundle
        from laco_export.errors import LacoError

        expected = Answerer(open_bundle(sound)).answer([shop.picture], "What is this?", max_new_tokens=4).token_ids
        bundle = open_bundle(spoilt)
        for name in (bundle.manifest.vision.weights, "llm/model.onnx_data"):
            path = spoilt / name
            size = path.stat().st_size
            with open(path, "r+b") as file:  # the same inode
                file.write(bytes(size))
        try:
            given = Answerer(bundle).answer([shop.picture], "What is this?", max_new_tokens=4).token_ids
        except LacoError as error:
            print(f"refused: {error}")
            return 0
        print(f"answered {given} where the sound bundle answers {expected}")
        return 0 if given == expected else 3

    return answered(fork(work))


def _forced_export_under_a_live_process(shop: Workshop) -> Verdict:
    """Two pictures after the folder was replaced: the old model's answer or a word of it, never a mixture."""
    other = shop.checkpoint_with(
        lambda folder: set_tensors(
            folder / "model.safetensors", lambda t: {n: v * np.float32(0.8) for n, v in t.items()}
        )
    )
    live, untouched = shop.copy_of(shop.two_batches), shop.two_batches
    words = ["--model", str(other), "--fp32", "--no-compile", "--batch", "1", "2", "--force", "--output", str(live)]
    second = shop.folder / "second.png"
    Image.open(shop.picture).rotate(90).save(second)

    def work() -> int:
        from laco_engines.answering import Answerer
        from laco_export.bundle import open_bundle
        from laco_export.cli import main
        from laco_export.errors import LacoError

        ask = lambda answerer, *pictures: answerer.answer(pictures, "What is this?", max_new_tokens=4).token_ids
        expected = ask(Answerer(open_bundle(untouched)), shop.picture, second)
        answerer = Answerer(open_bundle(live))
        ask(answerer, shop.picture)
        if main(words):
            return 4
        try:
            given = ask(answerer, shop.picture, second)
        except LacoError as error:
            print(f"told: {error}")
            return 0
        print(f"answered {given} where the verified model answers {expected}")
        return 0 if given == expected else 3

    return answered(fork(work, seconds=240))


def _decoder_zeroed(shop: Workshop) -> Verdict:
    def change(document: dict, folder: Path) -> None:
        path = folder / "llm" / "model.onnx_data"
        path.write_bytes(bytes(path.stat().st_size))

    return refused(shop.diff(shop.bundle_with(change), seconds=120))


_GRAPH = ("vision", "graphs", 0)

FAULTS = (
    _manifest("files a list", _set("files", to=[]), "files"),
    _manifest("an entry without sha256", _first_file_without_digest, "sha256"),
    _manifest("bytes a string", _first_file_of_text_bytes, "bytes"),
    _manifest("a name of 5,000 characters", _long_name, "files"),
    _manifest("golden a FIFO", _fifo, "pipe.npz"),
    _manifest("golden null", _set("golden", to=None), "golden"),
    _manifest("golden a number", _set("golden", to=7), "golden"),
    _manifest("image_newline a text file", _newline(b"newline"), "newline"),
    _manifest("image_newline an object array", _newline(_npy(np.array([{}], object))), "newline"),
    _manifest("image_newline of a wrong shape", _newline(_npy(np.zeros((2, 3), np.float32))), "newline"),
    _manifest("graphs empty", _set("vision", "graphs", to=[]), "graphs"),
    *(_manifest(f"batch {value!r}", _set(*_GRAPH, "batch", to=value), "batch") for value in (0, -1, 10**12, "one")),
    _manifest("an input dtype that the graph has not", _set(*_GRAPH, "input", "dtype", to="int64"), "dtype", "input"),
    _manifest("preprocessing null", _set("preprocessing", to=None), "preprocessing"),
    _manifest("means as text", _set("preprocessing", "image_mean", to="0.5"), "image_mean"),
    _manifest("a size of 10^9", _set("preprocessing", "size", to={"shortest_edge": 10**9}), "size", "preprocessing"),
    _manifest("a token grid that is not the graph's", _set("vision", "token_grid", to=[9, 9]), "token.grid"),
    _manifest("a tolerance as text", _set("accuracy", "tolerance", "cosine", to="0.9"), "cosine", by="diff"),
    _manifest("accuracy a list", _set("accuracy", to=[]), "accuracy", by="diff"),
    _manifest("the graph unlisted, weights zero", _unlisted_zeros(lambda d: d["vision"]["graphs"][0]["file"])),
    _manifest(
        "the weights unlisted and zero", _unlisted_zeros(lambda d: d["vision"]["weights"]), "weights", "vision.data"
    ),
    _manifest("the golden file unlisted", _unlisted_zeros(lambda d: d["golden"]), "golden"),
    _manifest("golden.npz: no pictures", _golden(lambda a: a | {"names": a["names"][:0]}), "golden", by="diff"),
    _manifest("golden.npz: none of anything", _golden(lambda a: {n: v[:0] for n, v in a.items()}), "golden", by="diff"),
    _manifest(
        "golden.npz: 2-D pictures", _golden(lambda a: a | {"pictures": a["pictures"][0, :, :, 0]}), "golden", by="diff"
    ),
    _manifest("golden.npz: strings", _golden(lambda a: a | {"pictures": a["names"]}), "golden", by="diff"),
    _manifest("golden.npz: a bare npy", _bare_golden, "golden", by="diff"),
    _manifest("golden.npz: 3 GB of zeros in a few MB", _huge_golden, "golden", by="diff"),
    _asked_with_tokenizer("an id beyond the embedding", _id_beyond_the_embedding, "what is <|beyond|>?"),
    _asked_with_tokenizer("an expression that explodes", _exploding_expression, "a" * 40 + "b"),
    _asked_with_tokenizer("a normaliser that multiplies text", _multiplying_normaliser, "a" * 30),
    _generation("repetition_penalty", 0.0),
    _generation("stop_strings", ["."]),
    _generation("max_time", 0.001),
    Fault("a", "weights zeroed between verification and opening", "answered", _weights_zeroed_after_verification),
    Fault("a", "--force export under a live process", "answered", _forced_export_under_a_live_process),
    Fault("a", "LLM weights zeroed, resealed; diff", "refused", _decoder_zeroed),
)
