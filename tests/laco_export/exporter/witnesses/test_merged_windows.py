"""What PyTorch merged is what the definition gives, and another window, order or lost part is told."""

import pytest
import torch

from laco_export.errors import ExportError
from laco_export.exporter.proof import Reference
from laco_export.exporter.tower import VisionTower
from laco_export.exporter.witnesses.merged_windows import check_merged_windows
from laco_export.models.compressors import average_pool, patch_merge

from ....conftest import tiny_model


def checked(model):
    height, width = model.vision_model.spec.image_size(model.config.vision_config)
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randn(1, 3, height, width, generator=generator).numpy() for _ in range(2)]
    reference = Reference.of(VisionTower(model).eval(), pictures)
    return check_merged_windows(reference.tower, reference.expected)


@pytest.mark.parametrize("kind", ["aimv2", "siglip", "clip", "internvit"])
@pytest.mark.parametrize("method", ["laco", "pixel_shuffle", "average_pool"])
def test_every_encoder_and_method(kind, method):
    check = checked(tiny_model(kind, method=method))
    assert check.cases == 2
    assert check.max_abs < 1e-5 * check.largest


@pytest.mark.parametrize(
    "options",
    [{"grid": (5, 5)}, {"grid": (6, 6), "ratio": 3}, {"grid": (5, 5), "ratio": 3}, {"at": "1"}, {"feature_layer": -2}],
    ids=str,
)
def test_padded_windows_other_ratios_and_depths(options):
    assert checked(tiny_model(**options)).cases == 2


def test_after_the_final_norm():
    assert checked(tiny_model("siglip", at="1", merge_before_final_norm=False)).cases == 2


@pytest.mark.parametrize("method", [None, "ldpv2", "token_packer"])
def test_what_has_no_definition_here_is_not_compared(method):
    assert checked(tiny_model(method=method)) is None


FAULTS = {
    "rows for columns": ("space_to_channel", lambda grid, ratio, given: given(grid.transpose(1, 2), ratio)),
    "rolled by one": ("space_to_channel", lambda grid, ratio, given: given(grid.roll(1, 2), ratio)),
    "position-major": (
        "space_to_channel",
        lambda grid, ratio, given: given(grid, ratio).unflatten(-1, (-1, ratio**2)).transpose(-1, -2).flatten(-2),
    ),
    "residual lost": ("channel_average", lambda windows, ratio, given: 0 * given(windows, ratio)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_merge_is_told(monkeypatch, fault):
    name, plant = FAULTS[fault]
    given = getattr(patch_merge, name)
    monkeypatch.setattr(patch_merge, name, lambda first, ratio: plant(first, ratio, given))
    with pytest.raises(ExportError, match="merged tokens are not those of the definition"):
        checked(tiny_model())


def test_a_fault_in_pooling_is_told(monkeypatch):
    monkeypatch.setattr(average_pool, "channel_average", lambda windows, ratio: windows[..., :: ratio * ratio])
    with pytest.raises(ExportError, match="merged tokens"):
        checked(tiny_model(method="average_pool"))
