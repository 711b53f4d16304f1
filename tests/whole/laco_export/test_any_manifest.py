"""Whatever JSON stands in ``laco.json``: the bundle is refused by name, or all that reads it can.

Every field of a real manifest is set to wrong values, one at a time, and the manifest is given the digest that it then
needs. What opens nevertheless goes through the code that reads it.
"""

import dataclasses
import io
import json
import random
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from laco_engines.commands.inspect import _lines
from laco_engines.comparison.golden_check import check_golden
from laco_engines.picture_encoder import read_newline
from laco_engines.prompts.prompter import Prompter
from laco_engines.store.fallback import fallback_of
from laco_engines.store.processor_form import form_for_processor
from laco_export import bundle as bundles
from laco_export.bundle import open_bundle, read_manifest, write_manifest
from laco_export.embedding_table import EmbeddingTable
from laco_export.errors import LacoError
from laco_export.golden import read_golden
from laco_export.golden_answers import read_golden_answers
from laco_export.number_formats import LARGEST
from laco_export.summary import show_summary

from ...engines.fixtures import answering_model, bundle_folder  # noqa: F401 - fixtures

WRONG = [
    *(None, True, -1, 0, 1, 7, 10**12, 10**400, 1.5, -1e308, float("nan"), float("inf")),
    *("", "x", "7", "\ud800", "\x1b[31m", "[/red]", "/etc/passwd", "../x", ".", "a//b", "laco.json", "n" * 5000),
    *([], [None], [[[]]], [0, 0], {}, {"x": {}}, {"": 0}),
]
DRAWN = 6
"""Wrong values a field; which, is drawn."""

CALIBRATION = {
    "target": "trt10.3",
    "number_format": "int8",
    "activations": "int8",
    "weights": next(iter(LARGEST)),
    "half_scales": True,
    "attention": False,
    "method": "auto",
    "max_drop": 1.0,
    "base": "fp16",
    "source_graph_sha256": "0" * 64,
    "statistics": None,
    "statistics_sha256": "0" * 64,
    "pictures": 64,
    "judged_on": ["0" * 64],
    "judged": {"cosine": 0.996, "norm_ratio": 0.994, "agreement": None},
    "points": 0.5,
    "answers": {"questions": 2, "same": 2, "with_answer": 1, "right_base": 1, "right": None},
    "smoothing_equal_in_fp32": {"cosine": 1.0, "norm_ratio": 1.0, "agreement": None},
    "time": "unmeasured",
    "device": None,
    "milliseconds": {"base": {"milliseconds": 5.0, "spread": 0.1, "cpu_over_wall": 1.9, "rejected": 0}},
    "blocks": [
        {
            "name": "layers.0",
            "region": "before the merge",
            "eight_bit": True,
            "reason": None,
            "cosine": 0.999,
            "norm_ratio": 0.997,
            "agreement": None,
            "points": 0.3,
            "base_ms": None,
            "eight_bit_ms": None,
            "smoothing": 0.65,
            "method": "max",
        }
    ],
    "linears": [{"module": "layers.0.q_proj", "input": "layer_norm", "scale": 0.09, "zero_point": 0}],
}
VOCABULARY = {
    "rows": 260,
    "of": 264,
    "source": "mine.txt",
    "bytes_saved": 768,
    "held_out_coverage": 0.97,
    "left_out": [{"script": "Latin", "tokens": 3, "of": 52, "examples": ["a"]}],
}


@pytest.fixture(scope="module")
def whole_folder(bundle_folder, tmp_path_factory):  # noqa: F811
    """A bundle whose manifest uses every field: calibrated, tiled, with a fallback, a reduced vocabulary and something
    compiled."""
    folder = tmp_path_factory.mktemp("manifests") / "bundle"
    shutil.copytree(bundle_folder, folder)
    manifest = read_manifest(folder)
    vision, side = manifest.vision, manifest.image_preprocessing.height
    graphs = [dataclasses.asdict(graph) for graph in vision.graphs]
    np.save(folder / "image_newline.npy", np.zeros(vision.graphs[0].output.shape[-1], np.float32))
    vision = dataclasses.replace(
        vision,
        tiling={"tile": side, "max_rows": 2, "max_columns": 2, "max_tiles": 4, "grids": [[1, 2], [2, 1]]},
        image_newline="image_newline.npy",
        calibration=CALIBRATION,
        fallback={"precision": "fp16", "weights": vision.weights, "graphs": graphs},
        products="u8s8",
        twin={"products": "u8s7", "graphs": graphs},
        kept_fp32=[{"node": "norm", "reason": "largest 7e4"}],
    )
    build = {"seconds": {"trace": 1.0}, "compiled": [{"builder": "tensorrt", "version": "10.3", "plan_bytes": 9}]}
    decoder = dataclasses.replace(manifest.decoder, vocabulary=VOCABULARY)
    fields = {"vision": vision, "decoder": decoder, "build": build, "notes": ["a note"]}
    write_manifest(folder, dataclasses.replace(manifest, **fields))
    return folder


def fields_of(value, place=()):
    """The places of all fields and of all objects and lists; of a list's entries and of many alike, the first."""
    if place:
        yield place
    if isinstance(value, dict):
        alike = len(value) > 12 and len({type(entry) for entry in value.values()}) == 1
        for name in list(value)[: 1 if alike else None]:
            yield from fields_of(value[name], (*place, name))
    elif isinstance(value, list) and value:
        yield from fields_of(value[0], (*place, 0))


def seal(folder, document):
    raw = json.dumps({**document, "manifest_sha256": "0" * 64}).encode()
    raw = bundles._DIGEST.sub(rb"\g<1>" + bundles._digest(raw) + rb"\g<3>", raw)
    (folder / bundles.MANIFEST_NAME).write_bytes(raw)


def changed(document, place, change):
    """A copy of the document in which ``change(holder, key)`` was done at the place."""
    copy = json.loads(json.dumps(document))
    holder = copy
    for step in place[:-1]:
        holder = holder[step]
    change(holder, place[-1])
    return copy


class Grey:
    """A runtime that computes zeros."""

    name = "grey"

    def __init__(self, bundle):
        self._shape = bundle.manifest.vision.graphs[0].output.shape[1:]

    def encode(self, pixel_values):
        return np.zeros((len(pixel_values), *self._shape), np.float32)


def use(folder):
    """All that reads a manifest without a runtime."""
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    show_summary(manifest, Console(file=io.StringIO(), width=200), title="bundle")
    "\n".join(f"{label} {text}" for label, text in _lines(manifest)).encode("utf-8")
    json.dumps(dataclasses.asdict(manifest), allow_nan=False).encode("utf-8")
    read_golden_answers(bundle, len(read_golden(bundle).names))
    read_newline(bundle)
    fallback_of(bundle)
    form_for_processor(bundle)
    assert not check_golden(bundle, Grey(bundle)).passed
    if manifest.decoder is not None:
        EmbeddingTable(bundle.path, manifest.decoder.embedding).rows(np.array([0, manifest.decoder.image_token_id]))
        Prompter(bundle).prepare([Image.new("RGB", (40, 30))], "What is this?")


def test_the_manifest_that_nothing_is_wrong_with_is_of_use(whole_folder):
    use(whole_folder)


def test_any_field_of_any_value_is_refused_by_name_or_of_use(whole_folder):
    path = whole_folder / bundles.MANIFEST_NAME
    sound = path.read_bytes()
    document = json.loads(sound)
    draw = random.Random(24)
    places = [place for place in fields_of(document) if place != ("manifest_sha256",)]
    assert len(places) > 250
    opened = refused = 0
    try:
        for place in places:
            documents = [changed(document, place, lambda holder, key: holder.pop(key))]
            for value in draw.sample(WRONG, DRAWN):
                documents.append(
                    changed(
                        document,
                        place,
                        lambda holder, key, value=value: (
                            holder.update({key: value}) if isinstance(holder, dict) else holder.__setitem__(key, value)
                        ),
                    )
                )
            for wrong in documents:
                seal(whole_folder, wrong)
                try:
                    use(whole_folder)
                    opened += 1
                except LacoError as error:
                    assert len(str(error)) < 2000
                    str(error).encode("utf-8")
                    refused += 1
                except Exception as error:
                    raise AssertionError(f"{place}: {error!r}") from error
    finally:
        path.write_bytes(sound)
    assert refused > 2 * opened > 0
