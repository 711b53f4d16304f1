"""The bundle: what the exporter writes and the engines read.

A bundle is a folder whose ``laco.json`` names every other file with its size and SHA-256 and carries a digest of
itself, so that one flipped byte anywhere is an error before anything is parsed. What each field may hold is said by
:mod:`.manifest_schema`, to which manifests are held when they are written and when they are read. Neither torch nor
ONNX is imported.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from .atomic import write_bytes
from .carried_depths import depth_name, find_depth
from .embedding_table import EmbeddingStorage
from .errors import BundleError, OutputExistsError
from .field_types import FieldError
from .layout_rules import DEFAULT_TOKEN_LAYOUT
from .manifest_agreement import named_files, read_fields
from .preprocessing import ImagePreprocessing
from .verified_files import BundleChangedError, FileState, damaged, open_verified, sha256_of

MANIFEST_NAME = "laco.json"
SCHEMA_VERSION = 3
"""The newest that is read. A bundle is written with the oldest whose readers do not overlook any of its fields: 2 where
a ``token_layout`` is not this project's own, or pictures are padded to squares; 3 where there are several depths."""
PIXEL_VALUES, IMAGE_FEATURES = "pixel_values", "image_features"
"""The vision graph's input and output, in every graph and in the golden file."""

_DIGEST = re.compile(rb'("manifest_sha256": ")([0-9a-f]{64})(")')
_ZEROS = b"0" * 64
_LONGEST_MANIFEST = 64 << 20  # bytes; a calibrated tower of 48 blocks has 0.2 MB


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output: its name, numpy dtype name and static shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class VisionGraph:
    """One static batch size of the vision tower: ``pixel_values`` in, ``image_features`` out."""

    file: str
    batch: int
    input: TensorSpec
    output: TensorSpec


@dataclass(frozen=True)
class Vision:
    """The vision tower with its projector.

    Attributes:
        graphs: one per batch size, over the one weight file ``weights``.
        precision: ``fp32``, ``fp16`` or ``bf16``; of a calibrated graph ``int8``, ``fp8``, ``w8`` or ``w4`` (weights).
        target: who the graph's forms were chosen for, as ``laco-export --target`` spells it.
        kept_fp32: in a half-precision graph, what stays FP32 and why: ``[{"node": …, "reason": …}]``.
        rewrites: ``[{"name": …, "fired": n, "refused": [reasons]}]`` in the order in which they ran.
        nodes: node count by ONNX operator after the rewrites; ``nodes_before`` as traced.
        token_grid: a tile's visual embeddings as rows and columns.
        tiling: fields of :class:`~laco_export.tiling.Tiling` where pictures are tiled, else None.
        token_layout: a name of :data:`~laco_export.layout_rules.TOKEN_LAYOUTS`.
        image_newline: a ``.npy`` of dtype float32 ``[D]``, the embedding that ends a row of a tiled picture.
        flops: of one picture by layer arithmetic: ``{"total", "ratio_to_1"}``, the ratio to a merge at @1.
        calibration: of a calibrated graph: target, method, blocks with their errors and times, what it was judged on.
        products: what integer products the graphs are made of, where a CPU computes them: ``u8s8``, of uint8 inputs and
            int8 weights, or ``u8s7``, whose weights have seven bits. On x86 without VNNI the fast product of the former
            cuts off sums, that of the latter does not. None where there are none, or an earlier version does not say.
        twin: graphs of ``u8s7`` beside those of ``u8s8``, over ``weights`` and for the processors that need them:
            ``{"products", "graphs"}``, the graphs as above.
        fallback: the same tower in FP16, for a device on which eight bits turn out no faster: ``{"precision",
            "weights", "graphs"}``, the graphs as above.
    """

    graphs: list[VisionGraph]
    weights: str
    opset: int
    ir_version: int
    precision: str
    target: str = "trt10.3"
    kept_fp32: list[dict] = field(default_factory=list)
    rewrites: list[dict] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=dict)
    nodes_before: dict[str, int] = field(default_factory=dict)
    token_grid: tuple[int, int] = ()
    tiling: dict | None = None
    token_layout: str = DEFAULT_TOKEN_LAYOUT
    image_newline: str | None = None
    flops: dict = field(default_factory=dict)
    calibration: dict | None = None
    fallback: dict | None = None
    products: str | None = None
    twin: dict | None = None


@dataclass(frozen=True)
class Decoder:
    """The language model, for Optimum ONNX Runtime.

    Attributes:
        folder: where Optimum's files are; ``graph`` is the ONNX file in it, taking ``inputs_embeds`` and a KV cache.
        embedding: where the rows are from which input embeddings are looked up; of a tied model, the head's.
        precision: ``fp32``, ``fp16``, ``int8`` or ``int4``.
        quantization: of an integer precision: bits, block size, accuracy level, and what stayed wider and why.
        context_length: positions that the model was made for.
        vocabulary: where the head has rows for some of the tokens alone, and the others' logits are -inf: ``{"rows",
            "of", "source", "bytes_saved", "held_out_coverage", "left_out"}``, the bytes those that a step reads less.
    """

    folder: str
    graph: str
    embedding: EmbeddingStorage
    model_type: str
    precision: str
    hidden_size: int
    vocab_size: int
    context_length: int
    image_token_id: int
    eos_token_ids: list[int]
    quantization: dict | None = None
    vocabulary: dict | None = None


@dataclass(frozen=True)
class FurtherDepth:
    """What a bundle of several depths says of one behind its first: fields of :class:`Manifest`, of this depth.

    ``accuracy`` is without ``decoder``: the language model is the same for all, and compared once.
    """

    compression: dict
    vision: Vision
    golden: str
    accuracy: dict
    golden_answers: str | None = None
    notes: list[str] = field(default_factory=list)
    build: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What ``laco.json`` holds; see the attributes of the parts.

    Attributes:
        source: the checkpoint: ``{"name", "sha256"}``.
        encoder: ``{"model_type", "hidden_size", "num_blocks", "image_size", "patch_size"}``.
        compression: ``{"method", "depth", "block", "ratio", "tokens_before", "tokens_after"}``; of a path of several
            merges ``block`` is the first's, ``ratio`` the product, and ``merges`` says ``{"block", "ratio",
            "tokens_after"}`` of each.
        preprocessing: the fields of ``preprocessor_config.json``.
        accuracy: the comparison with PyTorch: ``{"tensors": [{"name", "cosine", "norm_ratio", "max_abs", …}], …}``.
        golden_answers: the file of PyTorch's answers (:mod:`.golden_answers`); bundles of earlier versions have none.
        build: how the export went: seconds by step, what the compile gate built.
        files: path → ``{"sha256", "bytes"}`` of every file but the manifest.
        depths: of a bundle of several, those behind the first, which the other fields are about; see :meth:`at`.
    """

    tool_version: str
    libraries: dict[str, str]
    source: dict
    encoder: dict
    compression: dict
    vision: Vision
    preprocessing: dict
    golden: str
    accuracy: dict
    decoder: Decoder | None = None
    golden_answers: str | None = None
    notes: list[str] = field(default_factory=list)
    build: dict = field(default_factory=dict)
    files: dict[str, dict] = field(default_factory=dict)
    schema_version: int = 1
    depths: list[FurtherDepth] = field(default_factory=list)

    @property
    def image_preprocessing(self) -> ImagePreprocessing:
        return ImagePreprocessing.from_dict(self.preprocessing)

    @property
    def compressions(self) -> list[dict]:
        """``compression`` of each depth, the first's first."""
        return [self.compression, *(further.compression for further in self.depths)]

    def at(self, depth: str | None) -> Manifest:
        """The manifest that a bundle of this depth alone would have, without the files that others alone read; None
        takes the first.

        Raises:
            DepthError: the bundle does not carry it.
        """
        index = 0 if depth is None else find_depth(self.compressions, depth)
        if not self.depths:
            return self
        alone = replace(self, depths=[], schema_version=1, files=self._files_of(index))
        if index == 0:
            return alone
        fields = {name: getattr(self.depths[index - 1], name) for name in FurtherDepth.__dataclass_fields__}
        if (decoder := self.accuracy.get("decoder")) is not None:
            fields["accuracy"] = {**fields["accuracy"], "decoder": decoder}
        return replace(alone, **fields)

    def _files_of(self, index: int) -> dict[str, dict]:
        """``files`` without those that only other depths than number ``index`` name."""
        read = [
            {name for _, name in named_files({**vars(depth), "decoder": None, "vision": asdict(depth.vision)})}
            for depth in (self, *self.depths)
        ]
        others = set().union(*(names for number, names in enumerate(read) if number != index)) - read[index]
        return {name: entry for name, entry in self.files.items() if name not in others}

    def joined_with(self, others: Sequence[Manifest]) -> Manifest:
        """This depth's manifest and those of further depths, each over the same model, as one: :meth:`at` undone."""
        further = [
            FurtherDepth(**{name: getattr(other, name) for name in FurtherDepth.__dataclass_fields__})
            for other in others
        ]
        without_decoder = [
            replace(depth, accuracy={name: value for name, value in depth.accuracy.items() if name != "decoder"})
            for depth in further
        ]
        return replace(self, depths=without_decoder)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Its folder may be replaced while it is in use. So that no process computes with parts of two models, files are read
    by :meth:`open`, and those that another library opens by their path are opened within :meth:`unchanged`.

    Attributes:
        path: its folder.
        manifest_entry: ``{"bytes", "sha256"}`` of ``laco.json``, where it was opened by :func:`open_bundle`.
        states: of the files that were verified. A file without one is verified when it is opened.
    """

    path: Path
    manifest: Manifest
    manifest_entry: dict | None = None
    states: dict[str, FileState] = field(default_factory=dict, repr=False, compare=False)

    @property
    def depths(self) -> tuple[str, ...]:
        """The depths that it carries, the one that it is used at where none is named first: ``("1/2", "1/4")``."""
        return tuple(map(depth_name, self.manifest.compressions))

    def at(self, depth: str | None) -> Bundle:
        """The same folder as a bundle of this depth alone; None takes the first.

        Raises:
            DepthError: it is not one of :attr:`depths`.
        """
        manifest = self.manifest.at(depth)
        return self if manifest is self.manifest else replace(self, manifest=manifest)

    def file(self, name: str) -> Path:
        return self.path / name

    def open(self, name: str) -> BinaryIO:
        """A file of :attr:`Manifest.files`, for reading from its begin.

        Raises:
            BundleChangedError: it is not what was verified.
        """
        try:
            return open_verified(self.path, name, self.manifest.files[name], self.states)
        except (BundleError, OSError) as error:
            raise BundleChangedError(
                f"bundle '{self.path}' was replaced or changed after it was verified",
                given=error.failed if isinstance(error, BundleError) else error,
                allowed="the files that were verified when it was opened",
                todo="start again, with the bundle that stands there now",
            ) from error

    def read(self, name: str) -> bytes:
        """The whole of :meth:`open`'s file."""
        with self.open(name) as file:
            return file.read()

    @contextmanager
    def unchanged(self, *names: str) -> Iterator[None]:
        """For a block that opens files by their path: what it opened is what was verified.

        Raises:
            BundleChangedError: at the end of the block, and in the place of an error that the block ends with.
        """
        try:
            yield
        except Exception:
            self.require_unchanged(*names)
            raise
        self.require_unchanged(*names)

    def require_unchanged(self, *names: str) -> None:
        """Raise :class:`BundleChangedError` unless the files (all, where none is named) are what was verified."""
        for name in names or self.manifest.files:
            self.open(name).close()

    def is_replaced(self) -> bool:
        """Whether its folder is gone or holds another bundle by now, which its manifest tells."""
        try:
            open_verified(self.path, MANIFEST_NAME, self.manifest_entry, self.states).close()
        except (BundleError, OSError):
            return True
        return False

    def decoder_files(self) -> list[str]:
        """What opening the language model reads: its folder, and the embedding's rows wherever they are."""
        entry = self.manifest.decoder
        tensors = (entry.embedding.rows, entry.embedding.scales)
        inside = [name for name in self.manifest.files if name.startswith(f"{entry.folder}/")]
        return list(dict.fromkeys([*inside, *(tensor.file for tensor in tensors if tensor is not None)]))

    def graph_sha256(self, graph: VisionGraph) -> str:
        """SHA-256 over the manifest's (verified) hashes of a vision graph and of the weight file that it reads."""
        names = (graph.file, self.manifest.vision.weights)
        text = "\n".join(self.manifest.files[name]["sha256"] for name in names)
        return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path | str, manifest: Manifest) -> Manifest:
    """Hash every file of ``folder`` and write ``laco.json``, as the last file of a bundle that is being built.

    Returns:
        the manifest as written, with ``files``.

    Raises:
        BundleError: a number in it is inf or NaN, which JSON does not have and other readers refuse; or another field
            is not what :mod:`.manifest_schema` says, so that it could not be opened again.
    """
    folder = Path(folder)
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }
    document = {**_fields_of(manifest), "files": files, "manifest_sha256": _ZEROS.decode()}
    try:
        raw = (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except ValueError:
        raise BundleError(
            "the manifest would hold numbers that are inf or NaN",
            given=", ".join(_not_finite(document)),
            todo="look for inf and NaN in the checkpoint's weights",
        ) from None
    try:
        read_fields(json.loads(raw))
    except FieldError as error:
        failed = "the manifest would hold a field that no reader takes"
        raise error.as_error(BundleError, failed, "report this, with the checkpoint's config.json") from None
    write_bytes(folder / MANIFEST_NAME, _DIGEST.sub(rb"\g<1>" + _digest(raw) + rb"\g<3>", raw))
    return replace(manifest, files=files)


def _fields_of(manifest: Manifest) -> dict:
    """The manifest as JSON has it, by the oldest schema that says all of it."""
    fields = asdict(manifest)
    if manifest.decoder is not None and manifest.decoder.vocabulary is None:
        del fields["decoder"]["vocabulary"]
    newer = manifest.vision.token_layout != DEFAULT_TOKEN_LAYOUT or manifest.preprocessing.get("do_pad")
    for depth in (fields, *fields["depths"]):
        if depth["vision"]["token_layout"] == DEFAULT_TOKEN_LAYOUT:
            del depth["vision"]["token_layout"]
    if not manifest.depths:
        del fields["depths"]
    oldest = 3 if manifest.depths else 2 if newer else 1
    return {**fields, "schema_version": max(manifest.schema_version, oldest)}


def _not_finite(value: object, path: str = "") -> Iterator[str]:
    """Where inf or NaN stand in a document, as ``accuracy.decoder.whole.cosine``."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path.lstrip('.')} {value}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{index}]")


def read_manifest(folder: Path | str) -> Manifest:
    """Read and check ``laco.json`` alone (the files that it names are checked by :func:`open_bundle`).

    Raises:
        BundleError: no bundle, a damaged manifest, or one of a newer schema.
    """
    return _parse(Path(folder), _read_raw(Path(folder)))


def _read_raw(folder: Path) -> bytes:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise BundleError(
            f"'{folder}' is not a bundle: it has no {MANIFEST_NAME}",
            allowed="a folder written by laco-export",
            todo="export one: laco-export --model CHECKPOINT --at 1/2 --fp16",
        )
    if path.stat().st_size > _LONGEST_MANIFEST:
        raise damaged(path, f"it is longer than any manifest, {_LONGEST_MANIFEST:,} bytes")
    return path.read_bytes()


def _parse(folder: Path, raw: bytes) -> Manifest:
    path = folder / MANIFEST_NAME
    try:
        document = json.loads(raw)
        version = document["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, f"it is not the JSON that laco-export writes ({type(error).__name__})") from None
    if type(version) is not int or not 1 <= version < 1 << 53:
        raise damaged(path, "its schema version is no whole number of at least 1")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"bundle '{folder}' was made by a newer laco-export",
            given=f"schema version {version} (laco-export {ascii(document.get('tool_version', 'unknown'))[:40]})",
            allowed=f"schema version up to {SCHEMA_VERSION}",
            todo="upgrade this laco-export, or export the bundle again with this version",
        )
    match = _DIGEST.search(raw)
    if match is None or match[2] != _digest(raw):
        raise damaged(path, "its digest does not match its content")
    try:
        return _manifest_from(document)
    except FieldError as error:
        raise BundleError(
            f"'{path}' is damaged: its field {error.place} is not what laco-export writes",
            given=error.value,
            allowed=error.allowed,
            todo="copy the bundle again, or export it again; nothing of it was loaded",
        ) from None


def open_bundle(folder: Path | str, at: str | None = None) -> Bundle:
    """Verify the manifest and every file that it names, then hand the bundle out.

    Args:
        at: the depth that it is used at, as :meth:`Bundle.at` takes it; None hands it out with all that it carries.

    Raises:
        DepthError: it does not carry ``at``.
        BundleError: as :func:`read_manifest`; or a file is missing, no plain file inside the folder, of another size,
            or of another content; or a file that the manifest does not name stands among the language model's.
    """
    folder = Path(folder)
    raw = _read_raw(folder)
    manifest, root = _parse(folder, raw), folder.resolve()
    if at is not None:
        manifest = manifest.at(at)
    states: dict[str, FileState] = {}
    for name, expected in manifest.files.items():
        open_verified(folder, name, expected, states, root=root).close()
    if manifest.decoder is not None:  # whose reader takes what it finds there
        _refuse_unlisted(folder, manifest.decoder.folder, manifest.files)
    return Bundle(folder, manifest, {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}, states)


def _refuse_unlisted(folder: Path, inside: str, files: dict) -> None:
    for path in sorted((folder / inside).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in files and not (path.is_dir() and not path.is_symlink()):
            raise BundleError(
                f"bundle '{folder}' has a file among its language model's that its manifest does not name",
                given=ascii(name)[1:-1],
                todo="remove it if it is yours, or copy the bundle again",
            )


def refuse_to_replace_non_bundle(output: Path | str) -> None:
    """Let ``--force`` replace a bundle (whole or damaged) and an empty folder, and nothing else that a person may have.

    A bundle's own files are its manifest and those that this names, whatever is in them.

    Raises:
        OutputExistsError: a file, a folder with something in it that is no bundle, or a bundle with other files in it,
            stands at ``output``.
    """
    output = Path(output)
    if not os.path.lexists(output) or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / MANIFEST_NAME).is_file():
        raise OutputExistsError(
            f"the output '{output}' exists already and is no bundle, so that --force does not replace it",
            allowed=f"--force replaces a folder with a {MANIFEST_NAME}",
            todo="choose another --output, or remove what stands there yourself",
        )
    if output.is_symlink():  # which alone is replaced
        return
    own = _own_files(output / MANIFEST_NAME)
    others = [
        name
        for path in sorted(output.rglob("*"))
        if (name := path.relative_to(output).as_posix()) not in own and (path.is_symlink() or not path.is_dir())
    ]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise OutputExistsError(
            f"the output '{output}' holds files that are not the bundle's, so that --force does not replace it",
            given=", ".join(ascii(name)[1:-1] for name in others[:3]) + more,
            allowed=f"a folder of {MANIFEST_NAME} and the files that it names",
            todo="move them, or choose another --output",
        )


def _own_files(manifest: Path) -> set[str]:
    """What a manifest, sound or not, names as the bundle's files, and itself."""
    try:
        listed = json.loads(manifest.read_bytes())["files"] if manifest.stat().st_size <= _LONGEST_MANIFEST else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        listed = {}
    return {MANIFEST_NAME, *(listed if isinstance(listed, dict) else ())}


def _digest(raw: bytes) -> bytes:
    return hashlib.sha256(_DIGEST.sub(rb"\g<1>" + _ZEROS + rb"\g<3>", raw)).hexdigest().encode()


def _manifest_from(document: dict) -> Manifest:
    decoder = document.get("decoder")
    if isinstance(decoder, dict) and "embedding_table" in decoder:  # before the table was read from the decoder's own
        raise BundleError(
            "the bundle's language model was written by an older laco-export", todo="export the checkpoint again"
        )
    values = read_fields(document)
    if decoder := values.get("decoder"):
        decoder = Decoder(**{**decoder, "embedding": EmbeddingStorage.from_dict(decoder["embedding"])})
    depths = [FurtherDepth(**{**depth, "vision": _vision_from(depth["vision"])}) for depth in values.get("depths", [])]
    return Manifest(
        **{**values, "vision": _vision_from(values["vision"]), "decoder": decoder or None, "depths": depths}
    )


def _vision_from(fields: dict) -> Vision:
    grid = tuple(fields["token_grid"])
    return Vision(**{**fields, "graphs": graphs_from(fields["graphs"]), "token_grid": grid})


def graphs_from(entries: list[dict]) -> list[VisionGraph]:
    """The graphs of ``vision.graphs``, ``vision.fallback`` or ``vision.twin``, from the manifest's JSON."""
    return [
        VisionGraph(**{**entry, **{side: _tensor(entry[side]) for side in ("input", "output")}}) for entry in entries
    ]


def _tensor(value: dict) -> TensorSpec:
    return TensorSpec(value["name"], value["dtype"], tuple(value["shape"]))
