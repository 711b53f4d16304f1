"""Faults planted into a copy of the source: ``laco-export``, ``laco-calibrate`` or ``laco-engine diff`` must refuse.

Each of them passes all comparisons whose two sides compute the same function: a picture that is prepared wrongly is
prepared wrongly for PyTorch too.
"""

from dataclasses import dataclass

import pytest
from planted_source import COMMANDS, Edit, plant
from source_tree import PACKAGES

from ...conftest import tiny_model, tiny_tokenizer


@pytest.mark.parametrize(("command", "package"), list(zip(COMMANDS, PACKAGES)), ids=COMMANDS)
def test_the_copy_is_what_runs(tmp_path, command, package):
    path = f"{package}/cli.py"
    source = plant(tmp_path / "source", Edit(path, "from __future__ import annotations\n", "raise SystemExit(71)\n"))
    assert source.run(command, "--help") == (71, "")


@dataclass(frozen=True)
class Planted:
    """A fault, what finds it, and what that says."""

    edit: Edit
    says: str
    tiled: bool = False


EXPORT = {
    "std reversed in the shared preprocessing": Planted(
        Edit(
            "laco_export/preprocessing.py",
            "/ np.asarray(self.std, np.float32)",
            "/ np.asarray(self.std[::-1], np.float32)",
        ),
        "pixel values are not those of transformers' CLIPImageProcessor",
    ),
    "tiles cut in another order": Planted(
        Edit("laco_export/tiling.py", "pixels.transpose(0, 2, 1, 3, 4)", "pixels.transpose(2, 0, 1, 3, 4)"),
        "tiles are not those of transformers' LlavaOnevisionImageProcessor",
        tiled=True,
    ),
    "tiles' tokens in another order": Planted(
        Edit(
            "laco_export/token_layouts.py",
            "tokens.reshape(rows, columns, *grid).transpose(0, 2, 1, 3)",
            "tokens.reshape(columns, rows, *grid).transpose(1, 2, 0, 3)",
        ),
        "the model's visual tokens are not those of the tiles' places in the picture",
        tiled=True,
    ),
    "visual tokens rolled by one": Planted(
        Edit(
            "laco_export/models/modeling.py",
            "torch.cat(images).to(inputs_embeds)",
            "torch.cat(images).to(inputs_embeds).roll(1, 0)",
        ),
        "the language model's inputs are not those of token ids and visual tokens one after another",
    ),
    "windows of columns before rows": Planted(
        Edit(
            "laco_export/models/compressors/space_to_channel.py",
            "grid.permute(0, 3, 1, 2)  # [B, C, H, W]",
            "grid.permute(0, 3, 2, 1)",
        ),
        "merged tokens are not those of the definition of the merge",
    ),
}


GRAPHS = {
    "residual dropped in the graph": Planted(
        Edit(
            "laco_export/exporter/rewrites/average_residual.py",
            """[2, 4])
""",
            """[2, 4])
        for reader in list(mean.outputs[0].outputs):
            kept = [tensor for tensor in reader.inputs if tensor is not mean.outputs[0]]
            reader.inputs = [*kept, gs.Constant("planted", __import__("numpy").zeros(1, "float32"))]
""",
        ),
        "compressors.block_1: cosine",
    ),
    "q and k swapped when written": Planted(
        Edit(
            "laco_export/exporter/decoder/realize.py",
            "for _, module in modules]), bits",
            "for _, module in [*modules[1::-1], *modules[2:]]]), bits",
        ),
        "the exported language model, run in one pass, does not compute what PyTorch computes",
    ),
}
"""Faults of one side alone, which the comparison with PyTorch sees."""


@pytest.fixture(scope="module")
def tiled_checkpoint(tmp_path_factory):
    """A checkpoint with random weights whose single pictures are tiled."""
    from laco_export.models import LacoProcessor, checkpoint

    model = tiny_model(tiling={"tile": 56, "max_rows": 3, "max_columns": 3, "max_tiles": 4})
    folder = tmp_path_factory.mktemp("checkpoints") / "tiled"
    checkpoint.save(model, LacoProcessor.for_model(model, tiny_tokenizer()), folder)
    return folder


@pytest.mark.parametrize("name", [*EXPORT, *GRAPHS])
def test_an_export_refuses(tmp_path, tiny_checkpoint, tiled_checkpoint, name):
    planted = {**EXPORT, **GRAPHS}[name]
    model, output = tiled_checkpoint if planted.tiled else tiny_checkpoint, tmp_path / "bundle"
    source = plant(tmp_path / "source", planted.edit)
    assert planted.says in source.refusal("laco-export", "--model", model, "--fp32", "--output", output)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
