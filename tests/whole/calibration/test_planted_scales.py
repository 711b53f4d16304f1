"""A scale that is made wrongly in the function that judging, writing and recording share is told by the command."""

from planted_source import Edit, plant

QUARTER_TOO_WIDE = Edit(
    "laco_export/number_formats.py",
    "_stored((high - low) / 255, half_scales)",
    "_stored(1.25 * (high - low) / 255, half_scales)",
)


def test_an_activation_scale_a_quarter_too_wide_is_refused(fp32_folder, photographs, tmp_path):
    """It costs a quarter of the steps, which is within the budget; --all-int8 asks for no budget at all."""
    output = tmp_path / "out"
    arguments = (fp32_folder, "--images", photographs, "--target", "ort-cpu", "--method", "max", "--no-smoothing")
    planted = plant(tmp_path / "source", QUARTER_TOO_WIDE)
    said = planted.refusal("laco-calibrate", *arguments, "--all-int8", "--output", output)
    assert "does not hold the numbers that were chosen: the interval of the numbers of" in said
    assert not output.exists()
