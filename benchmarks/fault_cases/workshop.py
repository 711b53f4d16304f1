"""The sound bundle, checkpoint, parts and pictures that faults are tried on, and copies of them to spoil."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from .attempts import Ended, fork

ASSETS = Path(__file__).resolve().parents[2] / "tests" / "assets"
_SEAL = re.compile(rb'("manifest_sha256": ")([0-9a-f]{64})(")')
_ZEROS = b"0" * 64


class Workshop:
    """A folder with what the faults need; each thing is made when it is first asked for.

    Args:
        folder: an empty one; it grows by a few MB a case.
    """

    checkpoint = ASSETS / "tiny-checkpoint"

    def __init__(self, folder: Path):
        self.folder = folder
        self._made = 0

    def place(self, name: str = "place") -> Path:
        """A path that is free."""
        self._made += 1
        return self.folder / f"{self._made:03}-{name}"

    # What is run.

    def export(self, checkpoint: Path, *arguments: str, output: Path | None = None, **bounds) -> Ended:
        from laco_export.cli import main

        words = ["--model", str(checkpoint), "--fp32", "--no-compile", "--output", str(output or self.place("bundle"))]
        return fork(lambda: main([*words, *arguments]), **bounds)

    def start(self, encoder: Path, language_model: Path, output: Path, *arguments: str, **bounds) -> Ended:
        """``laco-train init``."""
        from laco_training.init_command import main

        words = ["--encoder", str(encoder), "--llm", str(language_model), "--output", str(output), *arguments]
        return fork(lambda: main(words), **bounds)

    def ask(self, bundle: Path, *arguments: str, image: Path | None = None, **bounds) -> Ended:
        """``laco-engine run`` with one question about one picture."""
        words = ["run", str(bundle), "--image", str(image or self.picture), "--max-new-tokens", "4"]
        return self.engine(*words, *(arguments or ("--question", "What is this?")), **bounds)

    def diff(self, bundle: Path, **bounds) -> Ended:
        return self.engine("diff", str(bundle), "--runtime", "onnxruntime", **bounds)

    def engine(self, *words: str, **bounds) -> Ended:
        from laco_engines.cli import main

        return fork(lambda: main(list(words)), **bounds)

    def calibrate(self, bundle: Path, *arguments: str, **bounds) -> Ended:
        from laco_calibration.cli import main

        output = str(self.place("int8"))
        return fork(lambda: main([str(bundle), "--no-compile", "--output", output, *arguments]), **bounds)

    def in_full(self, encoder: Path, language_model: Path, *arguments: str) -> Ended:
        """``init``, export and ``run``; what ended badly, or the answer."""
        checkpoint, bundle = self.place("checkpoint"), self.place("bundle")
        ended = self.start(encoder, language_model, checkpoint, *arguments)
        ended = self.export(checkpoint, output=bundle) if ended.code == 0 else ended
        return self.ask(bundle) if bundle.exists() else ended

    # What is sound.

    @cached_property
    def bundle(self) -> Path:
        """The tiny checkpoint's, in FP32, with the decoder."""
        return self._exported(self.checkpoint)

    @cached_property
    def two_batches(self) -> Path:
        """The same with a graph for two tiles."""
        return self._exported(self.checkpoint, "--batch", "1", "2")

    @cached_property
    def tiled_checkpoint(self) -> Path:
        """The parts of the tiny checkpoint with a new merge, over pictures in up to four tiles."""
        checkpoint = self.place("tiled-checkpoint")
        ended = self.start(self.encoder, self.language_model, checkpoint, "--tiling", "2x2")
        if ended.code:
            raise RuntimeError(f"the tiled checkpoint could not be started: {ended}")
        return checkpoint

    def _exported(self, checkpoint: Path, *arguments: str) -> Path:
        bundle = self.place("sound")
        ended = self.export(checkpoint, *arguments, output=bundle, seconds=300)
        if ended.code:
            raise RuntimeError(f"the sound bundle could not be exported: {ended}")
        return bundle

    @cached_property
    def encoder(self) -> Path:
        self._take_apart()
        return self.folder / "encoder"

    @cached_property
    def language_model(self) -> Path:
        self._take_apart()
        return self.folder / "language-model"

    def _take_apart(self) -> None:
        if (self.folder / "encoder").exists():
            return
        from laco_export.models import checkpoint
        from laco_export.quiet import quiet_libraries

        with quiet_libraries():
            loaded = checkpoint.load(self.checkpoint)
        loaded.model.vision_model.encoder.save_pretrained(self.folder / "encoder")
        loaded.model.language_model.save_pretrained(self.folder / "language-model")
        loaded.processor.tokenizer.save_pretrained(self.folder / "language-model")

    @cached_property
    def picture(self) -> Path:
        path = self.folder / "picture.png"
        values = np.random.default_rng(0).integers(0, 255, (7, 9, 3), np.uint8)
        Image.fromarray(values).resize((90, 70), Image.Resampling.BICUBIC).save(path)
        return path

    def picture_folder(self, count: int, *, colour: str | None = None) -> Path:
        """Pictures of noise, or all of one colour."""
        folder = self.place("pictures")
        folder.mkdir()
        draw = np.random.default_rng(1)
        for number in range(count):
            side = 112 + number  # so that no two files are the same
            noise = Image.fromarray(draw.integers(0, 255, (8, 8, 3), np.uint8)).resize((side, side))
            (Image.new("RGB", (side, side), colour) if colour else noise).save(folder / f"{number}.png")
        return folder

    # What is spoilt.

    def copy_of(self, source: Path, name: str | None = None) -> Path:
        copy = self.place(name or "copy")
        shutil.copytree(source, copy)
        return copy

    def bundle_with(self, change: Callable[[dict, Path], None], source: Path | None = None) -> Path:
        """A copy whose manifest, and perhaps whose folder, was changed, and whose digests are right again.

        Args:
            change: called with the manifest's document and the folder. Entries of ``files`` that it leaves as objects
                with ``sha256`` and ``bytes`` are brought up to date where their file was touched.
        """
        folder = self.copy_of(source or self.bundle, "bundle")
        path = folder / "laco.json"
        document = json.loads(path.read_bytes())
        before = {name: (folder / name).read_bytes() for name in document["files"]}
        change(document, folder)
        listed = document.get("files")
        for name, old in before.items():
            if isinstance(listed, dict) and name in listed and (folder / name).is_file():
                raw = (folder / name).read_bytes()
                if raw != old:
                    listed[name] = entry_of(raw)
        seal(path, document)
        return folder

    def checkpoint_with(self, change: Callable[[Path], None], source: Path | None = None) -> Path:
        """A copy of a checkpoint's folder, or of a part's, that was changed; without checksums."""
        folder = self.copy_of(source or self.checkpoint, "checkpoint")
        (folder / "checksums.json").unlink(missing_ok=True)
        change(folder)
        return folder


def entry_of(raw: bytes) -> dict:
    """A file's entry in a manifest."""
    return {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}


def seal(path: Path, document: dict) -> None:
    """Write a manifest with the digest that it then needs: of itself, with zeros in the digest's place."""
    raw = (json.dumps({**document, "manifest_sha256": "0" * 64}, indent=2) + "\n").encode()
    digest = hashlib.sha256(raw).hexdigest().encode()
    path.write_bytes(_SEAL.sub(rb"\g<1>" + digest + rb"\g<3>", raw))


def edit_json(path: Path, **fields) -> None:
    """Set fields of a JSON file; None removes one."""
    values = json.loads(path.read_text(encoding="utf-8")) | fields
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}), encoding="utf-8")


def set_tensors(path: Path, change: Callable[[dict], dict | None]) -> None:
    """Rewrite a safetensors file with what ``change`` makes of its numpy arrays, in place or returned."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    save_file(change(tensors) or tensors, path, metadata={"format": "pt"})
