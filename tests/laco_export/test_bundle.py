"""Bundles: what is written is read back, and one flipped byte anywhere is an error."""

import dataclasses
import json
import os
import shutil

import pytest

from laco_export import bundle as bundles
from laco_export.bundle import Decoder, Manifest, TensorSpec, Vision, VisionGraph, open_bundle, write_manifest
from laco_export.embedding_table import EmbeddingStorage, StoredTensor
from laco_export.errors import BundleError, OutputExistsError
from laco_export.preprocessing import ImagePreprocessing
from laco_export.verified_files import BundleChangedError

GRAPH = VisionGraph(
    "vision_b1.onnx",
    1,
    TensorSpec("pixel_values", "float32", (1, 3, 28, 28)),
    TensorSpec("image_features", "float16", (1, 4, 8)),
)
EMBEDDING = EmbeddingStorage(
    StoredTensor("llm/model.onnx_data", 0, "uint8", (10, 1, 32)),
    8,
    tied=True,
    scales=StoredTensor("llm/model.onnx_data", 320, "float32", (10,)),
    bits=8,
)
MANIFEST = Manifest(
    tool_version="0.1.0",
    libraries={"onnx": "1.2.3"},
    source={"name": "tiny", "sha256": "ab" * 32},
    encoder={"model_type": "aimv2_vision_model", "hidden_size": 16, "num_blocks": 4},
    compression={
        "method": "laco",
        "depth": "1/2",
        "block": 2,
        "ratio": 2,
        "tokens_before": 16,
        "tokens_after": 4,
    },
    vision=Vision(
        [GRAPH],
        "vision.data",
        20,
        10,
        "fp16",
        kept_fp32=[{"node": "norm", "reason": "largest 7e4"}],
        token_grid=(2, 2),
    ),
    preprocessing=ImagePreprocessing(28, 28, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).to_dict(),
    golden="golden.npz",
    accuracy={"tensors": [{"name": "image_features", "cosine": 0.99999, "norm_ratio": 1, "max_abs": 0.1}]},
    decoder=Decoder(
        "llm", "llm/model.onnx", EMBEDDING, "qwen2", "int8", 8, 10, 64, image_token_id=7, eos_token_ids=[2]
    ),
    notes=["é中"],
)
FILES = {
    "vision_b1.onnx": b"graph",
    "vision.data": b"weights",
    "llm/model.onnx": b"",
    "llm/model.onnx_data": bytes(10 * 36),
    "golden.npz": b"golden",
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "bundle"
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    write_manifest(path, MANIFEST)
    return path


def test_what_is_written_is_read_back(folder):
    bundle = open_bundle(folder)
    assert set(bundle.manifest.files) == set(FILES)
    assert dataclasses.replace(bundle.manifest, files={}) == MANIFEST
    assert bundle.manifest.image_preprocessing.resize == "squash"
    assert bundle.file("llm/model.onnx") == folder / "llm/model.onnx"


def test_numbers_that_json_does_not_have_are_refused_by_name(folder):
    manifest = bundles.read_manifest(folder)
    before = (folder / bundles.MANIFEST_NAME).read_bytes()
    accuracy = {"decoder": {"whole": {"cosine": float("nan")}, "steps": [1.0, float("-inf")]}}
    with pytest.raises(BundleError) as caught:
        write_manifest(folder, dataclasses.replace(manifest, accuracy=accuracy))
    assert "accuracy.decoder.whole.cosine nan, accuracy.decoder.steps[1] -inf" in str(caught.value)
    assert (folder / bundles.MANIFEST_NAME).read_bytes() == before


def test_a_bundle_may_have_no_language_model(folder):
    write_manifest(folder, dataclasses.replace(MANIFEST, decoder=None))
    assert open_bundle(folder).manifest.decoder is None


def test_every_flipped_byte_of_every_file_is_an_error(folder):
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for position in range(len(content)):
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            with pytest.raises(BundleError):
                open_bundle(folder)
        path.write_bytes(content)
    open_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    assert name in str(caught.value)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_another_size_is_told(folder, change):
    (folder / "vision.data").write_bytes(change(FILES["vision.data"]))
    with pytest.raises(BundleError, match=r"vision.data.*bytes where the manifest says 7"):
        open_bundle(folder)


def test_a_folder_in_a_files_place_is_an_error(folder):
    (folder / "golden.npz").unlink()
    (folder / "golden.npz").mkdir()
    with pytest.raises(BundleError, match="lacks a file"):
        open_bundle(folder)


def test_nothing_is_parsed_before_all_is_verified(folder, monkeypatch):
    (folder / "llm/model.onnx").write_bytes(b"x")
    monkeypatch.setattr(bundles, "Bundle", lambda *args: pytest.fail("handed out"))
    with pytest.raises(BundleError):
        open_bundle(folder)


def seal(folder, document):
    """Write any document as the manifest, with the digest that it needs."""
    raw = (json.dumps(document | {"manifest_sha256": "0" * 64}, indent=2) + "\n").encode()
    (folder / "laco.json").write_bytes(bundles._DIGEST.sub(rb"\g<1>" + bundles._digest(raw) + rb"\g<3>", raw))


def rewrite(folder, **changes):
    """Change fields of the manifest and seal it again."""
    seal(folder, json.loads((folder / "laco.json").read_text(encoding="utf-8")) | changes)


def test_a_newer_schema_asks_for_an_upgrade(folder):
    rewrite(folder, schema_version=bundles.SCHEMA_VERSION + 1, tool_version="9.9")
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    message = str(caught.value)
    assert "newer" in message
    assert "9.9" in message
    assert "upgrade" in message


def test_only_a_familys_own_layout_needs_the_newer_schema(folder, tmp_path):
    """Readers from before would lay out its pictures in another way; all other bundles they read as they did."""
    written = json.loads((folder / "laco.json").read_text(encoding="utf-8"))
    assert written["schema_version"] == 1
    assert "token_layout" not in written["vision"]
    internvl = {"tile": 28, "rule": "aspect_ratio", "max_tiles": 12}
    vision = dataclasses.replace(MANIFEST.vision, token_layout="internvl", tiling=internvl)
    write_manifest(folder, dataclasses.replace(MANIFEST, vision=vision))
    assert json.loads((folder / "laco.json").read_text(encoding="utf-8"))["schema_version"] == 2
    read = open_bundle(folder).manifest.vision
    assert (read.token_layout, read.tiling["rule"], read.image_newline) == ("internvl", "aspect_ratio", None)
    padded = dataclasses.replace(MANIFEST, preprocessing={**MANIFEST.preprocessing, "do_pad": True})
    write_manifest(folder, padded)
    assert open_bundle(folder).manifest.schema_version == 2
    assert open_bundle(folder).manifest.image_preprocessing.resize == "pad"


def test_an_unknown_field_of_the_same_schema_is_let_pass(folder):
    rewrite(folder, remark="from a patch release")
    open_bundle(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"vision": None},
        {"vision": {"graphs": []}},
        {"files": {"../outside": {"sha256": "0" * 64, "bytes": 0}}},
        {"files": {"/etc/passwd": {"sha256": "0" * 64, "bytes": 0}}},
        {"decoder": {"folder": "llm"}},
        {"schema_version": "1"},
        {"schema_version": 0},
    ],
    ids=str,
)
def test_a_manifest_of_the_wrong_shape_is_an_error(folder, changes):
    rewrite(folder, **changes)
    with pytest.raises(BundleError):
        open_bundle(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"schema_version": null}', b"[" * 100000]
)
def test_a_manifest_that_is_no_manifest_is_an_error(folder, content):
    (folder / "laco.json").write_bytes(content)
    with pytest.raises(BundleError):
        open_bundle(folder)


def test_what_is_no_bundle_says_how_to_make_one(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BundleError, match="is not a bundle") as caught:
            open_bundle(path)
        assert caught.value.exit_code == 1
        assert "laco-export --model" in str(caught.value)


def test_a_bundle_can_be_moved(folder, tmp_path):
    shutil.move(folder, tmp_path / "elsewhere")
    open_bundle(tmp_path / "elsewhere")


def sealed(folder, place, value):
    """Set one field of the manifest, as ``("vision", "graphs", 0, "batch")``, and seal it again."""
    document = json.loads((folder / "laco.json").read_text(encoding="utf-8"))
    holder = document
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    seal(folder, document)


OTHER = {"sha256": "0" * 64, "bytes": 1}
EMBEDDED = ("decoder", "embedding")
GRAPH_FIELDS = dataclasses.asdict(MANIFEST.vision.graphs[0])


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("files",), [], "files"),
        (("files",), {}, "files"),
        (("files", "vision.data"), {"bytes": 7}, "files.vision.data.sha256"),
        (("files", "vision.data", "bytes"), "7", "files.vision.data.bytes"),
        (("files", "vision.data", "bytes"), True, "files.vision.data.bytes"),
        (("files", "vision.data", "sha256"), "x" * 64, "files.vision.data.sha256"),
        (("files", "n" * 5000), OTHER, "files: a name"),
        (("files", "a/" + "n" * 256), OTHER, "files: a name"),
        (("files", "/etc/passwd"), OTHER, "files: a name"),
        (("files", "llm/../../x"), OTHER, "files: a name"),
        (("files", "llm//x"), OTHER, "files: a name"),
        (("files", "a\0b"), OTHER, "files: a name"),
        (("files", "\ud800"), OTHER, "files: a name"),
        (("golden",), None, "golden"),
        (("golden",), 3, "golden"),
        (("golden",), "/dev/zero", "golden"),
        (("golden",), "elsewhere.npz", "golden"),
        (("vision", "weights"), "other.data", "vision.weights"),
        (("vision", "image_newline"), "newline.npy", "vision.image_newline"),
        (("vision", "graphs"), [], "vision.graphs"),
        (("vision", "graphs", 0, "file"), "none.onnx", "vision.graphs[0].file"),
        (("vision", "graphs", 0, "batch"), 0, "vision.graphs[0].batch"),
        (("vision", "graphs", 0, "batch"), -1, "vision.graphs[0].batch"),
        (("vision", "graphs", 0, "batch"), 10**12, "vision.graphs[0].batch"),
        (("vision", "graphs", 0, "batch"), 10**400, "vision.graphs[0].batch"),
        (("vision", "graphs", 0, "batch"), "1", "vision.graphs[0].batch"),
        (("vision", "graphs", 0, "batch"), 2, "vision.graphs[0].input.shape"),
        (("vision", "graphs", 0, "input", "dtype"), "object", "vision.graphs[0].input.dtype"),
        (("vision", "graphs", 0, "output", "shape"), [1, 5, 8], "vision.graphs[0].output.shape"),
        (("vision", "token_grid"), [2, 3], "vision.graphs[0].output.shape"),
        (("vision", "token_grid"), [4], "vision.token_grid"),
        (("vision", "precision"), "fp33", "vision.precision"),
        (("vision", "tiling"), {"tile": 28, "max_rows": 10**9}, "vision.tiling.max_rows"),
        (("vision", "tiling"), {"tile": 14}, "vision.tiling.tile"),
        (("vision", "tiling"), {"tile": 28}, "vision.image_newline"),
        (("vision", "tiling"), {"tile": 28, "rule": "largest"}, "vision.tiling.rule"),
        (("vision", "tiling"), {"tile": 28, "rule": "aspect_ratio", "min_tiles": 10}, "vision.tiling"),
        (("vision", "token_layout"), "qwen_vl", "vision.token_layout"),
        (("vision", "token_layout"), "llava_onevision", "vision.tiling"),
        (("vision", "fallback"), {"precision": "fp16", "weights": "x", "graphs": []}, "vision.fallback.graphs"),
        (("vision", "products"), "u8u8", "vision.products"),
        (("vision", "twin"), {"products": "u8s7", "graphs": []}, "vision.twin.graphs"),
        (("vision", "twin"), {"products": "u8s8", "graphs": [GRAPH_FIELDS]}, "vision.twin.products"),
        (("vision", "twin"), {"products": "u8s7", "graphs": [GRAPH_FIELDS]}, "vision.products"),
        (
            ("vision", "twin"),
            {"products": "u8s7", "graphs": [{**GRAPH_FIELDS, "file": "x.onnx"}]},
            "vision.twin.graphs[0].file",
        ),
        (("vision", "calibration"), {"statistics": "x.json"}, "vision.calibration.statistics"),
        (("preprocessing",), None, "preprocessing"),
        (("preprocessing", "image_mean"), ["0.5", "0.5", "0.5"], "preprocessing.image_mean[0]"),
        (("preprocessing", "image_mean"), [0.5], "preprocessing.image_mean"),
        (("preprocessing", "image_std"), [0, 1, 1], "preprocessing.image_std[0]"),
        (("preprocessing", "size"), {"height": 10**9, "width": 28}, "preprocessing.size.height"),
        (("preprocessing", "size"), {"longest_edge": 28}, "preprocessing.size"),
        (("preprocessing", "size"), {"height": 56, "width": 28}, "vision.graphs[0].input.shape"),
        (("preprocessing", "resample"), 2, "preprocessing"),
        (("accuracy",), [], "accuracy"),
        (("accuracy", "pictures"), [], "accuracy.pictures"),
        (("accuracy", "tolerance"), {"cosine": "0.9", "norm_drift": 0, "max_abs": 0}, "accuracy.tolerance.cosine"),
        (("accuracy", "tolerance"), {"cosine": -1, "norm_drift": 0, "max_abs": 0}, "accuracy.tolerance.cosine"),
        (("accuracy", "tensors", 0, "cosine"), float("nan"), "accuracy.tensors[0].cosine"),
        (("accuracy", "tensors", 0, "cosine"), 10**400, "accuracy.tensors[0].cosine"),
        (("notes",), ["\x1b[2J"], "notes[0]"),
        (("libraries",), {"onnx": 1}, "libraries.onnx"),
        (("decoder", "graph"), "vision_b1.onnx", "decoder.graph"),
        (("decoder", "vocab_size"), 11, "decoder.vocab_size"),
        (("decoder", "hidden_size"), 9, "decoder.embedding.hidden_size"),
        (("decoder", "image_token_id"), 10, "decoder.image_token_id"),
        (("decoder", "eos_token_ids"), [2, 10], "decoder.eos_token_ids[1]"),
        ((*EMBEDDED, "bits"), 5, "decoder.embedding"),
        ((*EMBEDDED, "scales"), None, "decoder.embedding"),
        ((*EMBEDDED, "rows", "file"), "../secret", "decoder.embedding.rows.file"),
        ((*EMBEDDED, "rows", "file"), "elsewhere", "decoder.embedding.rows.file"),
        ((*EMBEDDED, "rows", "shape"), [10, 2, 32], "decoder.embedding.scales"),
        ((*EMBEDDED, "scales", "offset"), 321, "decoder.embedding.scales"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_a_wrong_field_is_named(folder, place, value, named):
    sealed(folder, place, value)
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    assert f"its field {named} is not what" in caught.value.failed
    assert caught.value.allowed and len(str(caught.value)) < 600


def test_what_no_reader_would_take_is_not_written(folder):
    before = (folder / "laco.json").read_bytes()
    with pytest.raises(BundleError, match="golden"):
        write_manifest(folder, dataclasses.replace(MANIFEST, golden="elsewhere.npz"))
    assert (folder / "laco.json").read_bytes() == before


def test_a_manifest_of_any_length_is_not_read(folder):
    with open(folder / "laco.json", "ab") as file:
        file.truncate(bundles._LONGEST_MANIFEST + 1)
    with pytest.raises(BundleError, match="longer"):
        open_bundle(folder)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("laco.json.none", path)])
def test_what_is_no_plain_file_is_refused_at_once(folder, make):
    (folder / "golden.npz").unlink()
    make(folder / "golden.npz")
    with pytest.raises(BundleError, match="lacks a file"):
        open_bundle(folder)


def test_a_link_out_of_the_bundle_is_refused_and_one_inside_is_not(folder, tmp_path):
    shutil.move(folder / "golden.npz", folder / "pictures")
    os.symlink("pictures", folder / "golden.npz")
    open_bundle(folder)
    shutil.move(folder / "pictures", tmp_path / "pictures")
    (folder / "golden.npz").unlink()
    os.symlink(tmp_path / "pictures", folder / "golden.npz")
    with pytest.raises(BundleError, match="leads out of it"):
        open_bundle(folder)


def test_a_file_that_nobody_listed_is_not_read_with_the_language_model(folder):
    (folder / "remarks.txt").write_text("beside it, a file of the user's harms nobody")
    open_bundle(folder)
    (folder / "llm" / "generation_config.json").write_text("{}")
    with pytest.raises(BundleError, match="does not name"):
        open_bundle(folder)


@pytest.mark.parametrize("manifest", ["{}", "no JSON", '{"files": ["mine.txt"]}', "[" * 100000])
def test_what_no_manifest_names_is_never_replaced(tmp_path, manifest):
    (tmp_path / "laco.json").write_text(manifest)
    bundles.refuse_to_replace_non_bundle(tmp_path)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"letters/mine\.txt"):
        bundles.refuse_to_replace_non_bundle(tmp_path)


def test_a_bundle_may_be_replaced_whole_or_damaged(folder, tmp_path):
    bundles.refuse_to_replace_non_bundle(folder)
    (folder / "vision.data").write_bytes(b"cut")
    (folder / "golden.npz").unlink()
    bundles.refuse_to_replace_non_bundle(folder)
    (tmp_path / "link").symlink_to(folder)
    (folder / "mine.txt").touch()
    bundles.refuse_to_replace_non_bundle(tmp_path / "link")  # the link goes, and nothing behind it
    with pytest.raises(OutputExistsError, match=r"mine\.txt"):
        bundles.refuse_to_replace_non_bundle(folder)


def test_a_decoder_of_an_older_version_is_told_as_such(folder):
    document = json.loads((folder / "laco.json").read_text())
    del document["decoder"]["embedding"]
    document["decoder"]["embedding_table"] = "llm/embed_tokens.npy"
    with pytest.raises(BundleError, match="older laco-export"):
        bundles._manifest_from(document)


def test_a_reduced_vocabulary_is_read_as_written_and_a_whole_one_leaves_no_trace(folder):
    record = {"rows": 9, "of": 10, "source": "mine.txt", "bytes_saved": 12, "left_out": [], "held_out_coverage": None}
    assert '"vocabulary"' not in (folder / "laco.json").read_text()
    write_manifest(
        folder, dataclasses.replace(MANIFEST, decoder=dataclasses.replace(MANIFEST.decoder, vocabulary=record))
    )
    assert open_bundle(folder).manifest.decoder.vocabulary == record
    for wrong in ({"rows": 11}, {"of": 9}):
        reduced = dataclasses.replace(MANIFEST.decoder, vocabulary={**record, **wrong})
        with pytest.raises(BundleError, match="no reader takes"):
            write_manifest(folder, dataclasses.replace(MANIFEST, decoder=reduced))


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def test_what_is_opened_is_what_was_verified(folder):
    bundle = open_bundle(folder)
    assert bundle.read("vision.data") == (folder / "vision.data").read_bytes()
    with bundle.unchanged("vision.data"):
        pass
    zero(folder / "vision.data")
    bundle.require_unchanged("golden.npz")
    for use in (lambda: bundle.read("vision.data"), bundle.require_unchanged):
        with pytest.raises(BundleChangedError, match="was replaced or changed after it was verified") as refusal:
            use()
        assert "vision.data" in refusal.value.given


def test_a_change_is_told_in_the_place_of_the_error_that_it_causes(folder):
    bundle = open_bundle(folder)
    with pytest.raises(KeyError), bundle.unchanged("vision.data"):
        raise KeyError("not of the files")
    with pytest.raises(BundleChangedError), bundle.unchanged("vision.data"):
        zero(folder / "vision.data")
        raise ValueError("what a parser makes of zeros")


def test_a_folder_that_holds_another_bundle_is_noticed(folder, tmp_path):
    bundle = open_bundle(folder)
    assert not bundle.is_replaced()
    shutil.move(folder, tmp_path / "elsewhere")
    assert bundle.is_replaced()
    shutil.copytree(tmp_path / "elsewhere", folder)
    assert not bundle.is_replaced()  # the same again
    write_manifest(folder, dataclasses.replace(bundle.manifest, notes=["another"]))
    assert bundle.is_replaced()
