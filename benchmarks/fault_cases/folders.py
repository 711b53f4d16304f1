"""Class g: folders and files as other tools leave them, and machines as they are."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .attempts import Fault, Verdict, answered, execute, refused
from .workshop import Workshop, edit_json, set_tensors

_LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 4000000\n"


def _language_model(done: str, change: Callable[[Path], None], *words: str) -> Fault:
    """A changed language model's folder, which ``init`` refuses by name."""

    def attempt(shop: Workshop) -> Verdict:
        folder = shop.checkpoint_with(change, shop.language_model)
        return refused(shop.start(shop.encoder, folder, shop.place("checkpoint")), *words)

    return Fault("g", done, "refused", attempt)


def _encoder(done: str, change: Callable[[Path], None], *words: str) -> Fault:
    def attempt(shop: Workshop) -> Verdict:
        folder = shop.checkpoint_with(change, shop.encoder)
        return refused(shop.start(folder, shop.language_model, shop.place("checkpoint")), *words)

    return Fault("g", done, "refused", attempt)


def _rope(rope: dict) -> Callable[[Workshop], Verdict]:
    """The folder in transformers 5's form: the checkpoint has the base, and the scaling, that it states."""

    def attempt(shop: Workshop) -> Verdict:
        folder, checkpoint = shop.copy_of(shop.language_model), shop.place("checkpoint")
        edit_json(folder / "config.json", rope_theta=None, rope_scaling=None, rope_parameters=rope)
        ended = shop.start(shop.encoder, folder, checkpoint)
        if ended.code != 0:
            return refused(ended, "rope")
        stored = json.loads((checkpoint / "config.json").read_text())["text_config"]
        kind = (stored.get("rope_scaling") or {}).get("rope_type", "default")
        right = (stored["rope_theta"], kind) == (rope["rope_theta"], rope["rope_type"])
        return Verdict(right, f"rope_theta {stored['rope_theta']}, {kind}")

    return attempt


def _rope_in_a_checkpoint(shop: Workshop) -> Verdict:
    """``rope_parameters`` in a LaCo checkpoint's own text_config: read as stated, or refused by name."""

    def change(folder: Path) -> None:
        text = json.loads((folder / "config.json").read_text())["text_config"]
        text.pop("rope_theta"), text.pop("rope_scaling", None)
        stated = {"rope_theta": 1_000_000.0, "rope_type": "default"}
        edit_json(folder / "config.json", text_config={**text, "rope_parameters": stated})

    checkpoint, bundle = shop.checkpoint_with(change), shop.place("bundle")
    ended = shop.export(checkpoint, output=bundle)
    if ended.code != 0:
        return refused(ended, "rope")
    theta = json.loads((bundle / "llm" / "config.json").read_text()).get("rope_theta")
    return Verdict(theta == 1_000_000.0, f"exported with rope_theta {theta}")


def _tokenizer_of_transformers_5(name: str) -> Callable[[Workshop], Verdict]:
    def attempt(shop: Workshop) -> Verdict:
        folder = shop.copy_of(shop.language_model)
        edit_json(folder / "tokenizer_config.json", tokenizer_class=name, extra_special_tokens=["<|endoftext|>"])
        return answered(shop.start(shop.encoder, folder, shop.place("checkpoint")))

    return attempt


def _greedy_with_temperature(shop: Workshop) -> Verdict:
    folder = shop.copy_of(shop.language_model)
    edit_json(folder / "generation_config.json", do_sample=False, temperature=0.6)
    ended = shop.start(shop.encoder, folder, shop.place("checkpoint"))
    return Verdict(ended.code == 0 and "temperature" in ended.said, str(ended))


def _preprocessor(**fields: object) -> Callable[[Path], None]:
    size = {"shortest_edge": 112}
    sound = {"do_resize": True, "size": size, "resample": 3, "do_center_crop": True, "do_rescale": True}
    sound |= {"crop_size": {"height": 112, "width": 112}, "rescale_factor": 1 / 255, "do_normalize": True}
    sound |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return lambda folder: (folder / "preprocessor_config.json").write_text(json.dumps({**sound, **fields}))


def _quantised(**fields: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", quantization_config=fields)


def _fp8_without_config(folder: Path) -> None:
    """Weights of float8 with their scales, as DeepSeek's folders have them, and no word of it in config.json."""
    import ml_dtypes

    cast = lambda tensors: {
        name: values.astype(ml_dtypes.float8_e4m3fn) if name.endswith("proj.weight") else values
        for name, values in tensors.items()
    }
    set_tensors(folder / "model.safetensors", cast)


def _two_towers(folder: Path) -> None:
    vision = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({"model_type": "aimv2", "vision_config": vision, "text_config": {"model_type": "aimv2_text_model"}})
    )


def _heic(shop: Workshop) -> Verdict:
    path = shop.place("photo.heic")
    path.write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200))
    return refused(shop.ask(shop.bundle, image=path), "HEI[CF]")


def _shadow_file(shop: Workshop) -> Verdict:
    folder = shop.picture_folder(2)
    (folder / "._0.png").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    return answered(shop.export(shop.checkpoint, "--no-llm", "--images", str(folder)))


def _byte_order_mark(shop: Workshop) -> Verdict:
    """The same answer with the mark and without."""
    said = []
    for name, mark in (("plain.txt", ""), ("marked.txt", "\ufeff")):
        path = shop.place(name)
        path.write_text(f"{mark}What is this?\n", encoding="utf-8")
        said.append(shop.ask(shop.bundle, "--questions", str(path), "--json"))
    if any(ended.code for ended in said):
        return answered(next(ended for ended in said if ended.code))
    ids = [ended.said.partition('"token_ids"')[2].partition("]")[0] for ended in said]
    prompts = [ended.said.partition('"prompt_tokens"')[2].partition(",")[0] for ended in said]
    return Verdict(ids[0] == ids[1] and prompts[0] == prompts[1], f"prompt tokens {prompts}")


def _without_docstrings(shop: Workshop) -> Verdict:
    """``PYTHONOPTIMIZE=2``: it works, or a message says so."""
    words = [sys.executable, "-m", "laco_export.cli", "--model", str(shop.checkpoint), "--fp32", "--no-compile"]
    words += ["--no-llm", "--output", str(shop.place("bundle"))]
    ended = execute(words, environment={**os.environ, "PYTHONOPTIMIZE": "2"}, cwd=shop.folder)
    return answered(ended) if ended.code == 0 else refused(ended, "PYTHONOPTIMIZE|optimi[sz]e|-OO")


def _reporting(shop: Workshop) -> Verdict:
    """One ``run`` with an empty home: no file is left there."""
    home = shop.place("home")
    home.mkdir()
    dropped = ("XDG_", "HF_", "ORT_", "CI")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    words = [sys.executable, "-m", "laco_engines.cli", "run", str(shop.bundle), "--image", str(shop.picture)]
    ended = execute(
        [*words, "--question", "What?", "--max-new-tokens", "2"],
        environment=environment | {"HOME": str(home), "TMPDIR": str(home)},
        cwd=shop.folder,
    )
    left = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    return Verdict(ended.code == 0 and not left, f"left {left}; {ended}")


def _long_error(shop: Workshop) -> Verdict:
    """An operator that ONNX Runtime lacks, behind a long name: its name is told, whole with ``--debug``."""
    import onnx

    long_name = "a_module_of_a_long_name/" * 20 + "Missing"

    def change(document: dict, folder: Path) -> None:
        path = folder / document["vision"]["graphs"][0]["file"]
        model = onnx.load(str(path), load_external_data=False)
        node = model.graph.node[0]
        node.name, node.op_type = long_name, "OperatorThatIsNot"
        path.write_bytes(model.SerializeToString())

    bundle = shop.bundle_with(change)
    plain, debugged = shop.ask(bundle), shop.ask(bundle, "--question", "What?", "--debug")
    told = refused(plain, "OperatorThatIsNot")
    return Verdict(told.right and "OperatorThatIsNot" in debugged.said, str(plain))


def _junk_model(shop: Workshop) -> Verdict:
    """A decoder whose file is no graph: the library's own line is told."""

    def change(document: dict, folder: Path) -> None:
        (folder / document["decoder"]["graph"]).write_bytes(np.random.default_rng(0).bytes(4000))

    return refused(shop.ask(shop.bundle_with(change)), "model.onnx|protobuf|decoder|language model")


_ROPE = {"rope_theta": 1_000_000.0, "rope_type": "default"}
_YARN = {**_ROPE, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
_WINDOW = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0, "layer_types": None}

FAULTS = (
    Fault("g", "rope_parameters in place of rope_theta: init", "refused or answered", _rope(_ROPE)),
    Fault("g", "rope_parameters with YaRN: init", "refused or answered", _rope(_YARN)),
    Fault("g", "rope_parameters in a checkpoint's text_config", "refused or answered", _rope_in_a_checkpoint),
    Fault("g", "ONNX Runtime's reporting leaves files", "answered", _reporting),
    *(
        Fault("g", f"tokenizer saved by transformers 5: {name}", "answered", _tokenizer_of_transformers_5(name))
        for name in ("Qwen2TokenizerFast", "TokenizersBackend")
    ),
    Fault("g", "generation_config.json: greedy with a temperature", "remarked", _greedy_with_temperature),
    _encoder("preprocessor_config.json: another resample", _preprocessor(resample=2), "resample"),
    _encoder("preprocessor_config.json: another size", _preprocessor(size={"shortest_edge": 224}), "size"),
    _encoder("preprocessor_config.json: no rescaling", _preprocessor(do_rescale=False), "rescale"),
    Fault("g", "a long error of ONNX Runtime", "refused", _long_error),
    Fault("g", "a decoder's file that is no graph", "refused", _junk_model),
    _language_model("use_sliding_window: init", lambda f: edit_json(f / "config.json", **_WINDOW), "sliding"),
    _encoder("two-tower AIMv2 (LiT)", _two_towers, "text tower|LiT"),
    _language_model("Git LFS's pointer as weights", lambda f: (f / "model.safetensors").write_text(_LFS), "LFS"),
    _language_model("Git LFS's pointer as tokenizer", lambda f: (f / "tokenizer.json").write_text(_LFS), "LFS"),
    _encoder("an encoder's Git LFS pointer", lambda f: (f / "model.safetensors").write_text(_LFS), "LFS"),
    _language_model("a folder of GPTQ", _quantised(quant_method="gptq", bits=4, group_size=128), "gptq"),
    _language_model(
        "a folder of bitsandbytes", _quantised(load_in_4bit=True, quant_method="bitsandbytes"), "bitsandbytes"
    ),
    _language_model("a folder of FP8", _quantised(quant_method="fp8", weight_block_size=[128, 128]), "fp8"),
    _language_model("weights of float8 without a word of it", _fp8_without_config, "F8_E4M3|float"),
    Fault("g", "a HEIC picture", "refused", _heic),
    Fault("g", "._a.png among --images", "answered", _shadow_file),
    Fault("g", "a byte-order mark in --questions", "answered", _byte_order_mark),
    Fault("g", "PYTHONOPTIMIZE=2", "refused or answered", _without_docstrings),
)
