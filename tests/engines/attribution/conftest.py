"""A tiny bundle, and copies of it with one fault each."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest

from laco_export.bundle import read_manifest, write_manifest


@pytest.fixture
def planted(bundle_folder, tmp_path):
    """``planted(name, edit=, edit_file=, **manifest_changes)``: a copy of the bundle with valid hashes.

    ``graph(model)`` changes the vision graph for one picture, whose weights lie inside it.
    """

    def make(name, *, graph=None, decoder=None, **changes):
        folder = tmp_path / name
        shutil.copytree(bundle_folder, folder)
        manifest = dataclasses.replace(read_manifest(folder), **changes)
        for path, edit in ((manifest.vision.graphs[0].file, graph), (manifest.decoder.graph, decoder)):
            if edit is not None:
                model = onnx.load(folder / path)
                edit(model)
                onnx.save(model, folder / path)
        write_manifest(folder, manifest)
        return folder

    return make
