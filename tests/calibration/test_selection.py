"""Blocks are chosen and quantized until the file is within the budget, or there is none."""

import pytest

from laco_calibration.cli import main
from laco_calibration.errors import NotWorthItError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate


@pytest.fixture(scope="module")
def hopeless(make_tiny_model, make_fp32_bundle):
    """A model that no INT8 can save: behind every GELU, through which no scale can be folded, one channel is a
    thousand times the others, and nothing that comes after it reads that channel."""
    import torch

    model = make_tiny_model("siglip", blocks=2, grid=(4, 4), method="pixel_shuffle")  # no branch around the merge's MLP
    layers = model.vision_model.encoder.vision_model.encoder.layers
    merge = next(iter(model.vision_model.compressors.values())).mlp
    pairs = [(layer.mlp.fc1, layer.mlp.fc2) for layer in layers]
    pairs += [(merge.linear_1, merge.linear_2), (model.projector.linear_1, model.projector.linear_2)]
    with torch.no_grad():
        for first, second in pairs:
            first.weight[0] *= 1e3
            first.bias[0] = 1e3
            second.weight *= 5
            second.weight[:, 0] = 0
    return make_fp32_bundle(model)


def test_a_model_that_no_int8_can_save_leaves_no_bundle(hopeless, photographs, tmp_path, capsys):
    """The command says so and by how much, exits 1, and leaves nothing but what --resume would use."""
    output = tmp_path / "none"
    arguments = [str(hopeless), "--images", str(photographs), "--target", "trt10.3", "--output", str(output)]
    assert main(arguments) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "there is no INT8 graph of this model that is worth having" in said
    assert "the worst block alone is" in said and "points" in said
    assert not output.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".none.calibration.json"], "the statistics stay"
    with pytest.raises(NotWorthItError):
        calibrate(CalibrationOptions(hopeless, images=[photographs], output=output, max_drop=0.5, resume=True))


def test_on_the_cpu_a_graph_that_gains_no_time_is_not_handed_out(fp32_folder, photographs, tmp_path, monkeypatch):
    from laco_calibration import sensitivity
    from laco_calibration.blocks.choice import BlockTime

    slower = lambda graph, blocks, *_, **__: {block.name: BlockTime(1.0, 1.5) for block in blocks}
    monkeypatch.setattr(sensitivity, "measure_blocks", slower)
    options = CalibrationOptions(
        fp32_folder, images=[photographs], target="ort-cpu", method="max", smoothing=False, output=tmp_path / "none"
    )
    with pytest.raises(NotWorthItError, match="gains time"):
        calibrate(options)
    assert not (tmp_path / "none").exists()
