"""Copies of a tiny bundle with one fault each, and what their drift is attributed to."""

import dataclasses
import shutil

import onnx
import pytest

from laco_export.bundle import open_bundle, read_manifest, write_manifest


@pytest.fixture
def planted(bundle_folder, tmp_path):
    """``planted(name, graph=, decoder=, source=, **manifest_changes)``: a copy of a bundle with valid hashes.

    ``graph(model)`` changes its vision graph for one picture and ``decoder(model)`` its language model's, in place;
    their weights lie inside them then.
    """

    def make(name, *, graph=None, decoder=None, source=bundle_folder, **changes):
        folder = tmp_path / name
        shutil.copytree(source, folder)
        manifest = dataclasses.replace(read_manifest(folder), **changes)
        for path, edit in ((manifest.vision.graphs[0].file, graph), (manifest.decoder.graph, decoder)):
            if edit is not None:
                model = onnx.load(folder / path)
                edit(model)
                onnx.save(model, folder / path)
        write_manifest(folder, manifest)
        return folder

    return make


@pytest.fixture
def attributed(bundle):
    """``attributed(folder, reference=bundle, **options)``: the drift of the bundle in the folder on its golden
    pictures, and its rows by part."""
    from laco_engines.attribution.attributing import attribute_drift
    from laco_engines.attribution.drift_questions import golden_questions
    from laco_engines.attribution.reference import reference_at_depth
    from laco_engines.attribution.switched_bundle import AttributionOptions

    def call(folder, reference=bundle, **options):
        actual = open_bundle(folder)
        settings = AttributionOptions(**{"threads": 1, "text_runtime": "lean", "max_new_tokens": 8, **options})
        reference = reference_at_depth(reference, actual)
        drift = attribute_drift(reference, actual, golden_questions(actual), settings)
        return drift, {row.part: row for row in drift.rows}

    return call
