import numpy as np
import pytest

from laco_export.exporter.boundaries import STRICTNESS, BoundaryComparison, Branch, boundary_of, branches_of

LAYERS = "vision_model.encoder.encoder.layers"


def names(comparison, expected, actual):
    return list(comparison(expected, actual))


def test_each_block_and_the_merge_have_a_branch(trace):
    traced = trace(blocks=4)
    pairs = [
        (branch.after.rpartition("model.")[2], branch.before.rpartition("model.")[2])
        for branch in branches_of(traced.tower)
    ]
    layers = "encoder.encoder.layers"
    assert pairs == [
        (f"{layers}.0", "embeddings"),
        (f"{layers}.1", f"{layers}.0"),
        ("compressors.block_2", "compressors.block_2.residual"),
        (f"{layers}.2", "compressors.block_2"),
        (f"{layers}.3", f"{layers}.2"),
    ]


def test_everything_is_compared_in_the_order_of_the_encoder(trace):
    traced = trace()
    comparison = BoundaryComparison(traced.tower, [traced.expected], "fp16")
    compared = names(comparison, traced.expected, traced.expected)
    assert compared == [
        "vision_model.embeddings",
        f"{LAYERS}.0",
        f"{LAYERS}.0 minus its input",
        "vision_model.compressors.block_1.residual",
        "vision_model.compressors.block_1",
        "vision_model.compressors.block_1 minus the residual",
        f"{LAYERS}.1",
        f"{LAYERS}.1 minus its input",
        "vision_model.encoder.rms_norm",
        "image_features",
    ]
    assert {boundary_of(name) for name in compared} == set(traced.expected)


@pytest.mark.parametrize("kind", ["aimv2", "siglip", "internvit"])
@pytest.mark.parametrize("strictness", STRICTNESS)
def test_every_comparison_has_three_numbers_each_with_a_tolerance(trace, kind, strictness):
    traced = trace(kind)
    for agreement in BoundaryComparison(traced.tower, [traced.expected], strictness)(
        traced.expected, traced.expected
    ).values():
        assert (agreement.cosine, agreement.norm_ratio, agreement.max_abs) == (1.0, 1.0, 0.0)
        assert 0 < agreement.tolerance.norm_drift < 2
        assert agreement.tolerance.max_abs > 0
        assert agreement.tolerance.cosine < 1
        assert agreement.within()


def test_a_branch_shows_what_the_stream_hides(trace):
    """What a block adds is small beside the stream: its sign is wrong, and the stream's cosine hardly moves."""
    traced = trace()
    stream, block = "vision_model.embeddings", f"{LAYERS}.0"
    large = {**traced.expected, **{name: traced.expected[name] + 30 for name in (stream, block)}}
    wrong = {**large, block: 2 * large[stream] - large[block]}
    compared = BoundaryComparison(traced.tower, [large], "fp16")(large, wrong)
    assert compared[block].within(STRICTNESS["fp16"].tensor)
    assert compared[f"{block} minus its input"].cosine < -0.99
    assert not compared[f"{block} minus its input"].within()


def test_a_branch_of_a_forced_run_starts_from_pytorchs_value(trace):
    traced = trace()
    doubled = {**traced.expected, "vision_model.embeddings": 2 * traced.expected["vision_model.embeddings"]}
    branch = f"{LAYERS}.0 minus its input"
    own = BoundaryComparison(traced.tower, [traced.expected], "fp16")(traced.expected, doubled)
    forced = BoundaryComparison(traced.tower, [traced.expected], "fp16", forced=True)(traced.expected, doubled)
    assert own[branch].cosine < 0.99
    assert forced[branch].cosine == 1
    assert not forced["vision_model.embeddings"].within()


def test_a_branch_lacks_prefix_tokens_where_its_start_does():
    tensors = {"merge": np.ones((1, 5, 2)), "residual": np.full((1, 2, 2, 2), 0.25)}
    assert Branch("x", "merge", "residual").of(tensors).shape == (1, 4, 2)
    np.testing.assert_array_equal(Branch("x", "merge", "residual").of(tensors), 0.75)


def test_a_branch_is_allowed_the_streams_rounding(trace):
    """Its ends were rounded relative to the stream: a small branch of a large stream is allowed more."""
    traced = trace()
    usual = BoundaryComparison(traced.tower, [traced.expected], "fp16")(traced.expected, traced.expected)
    shifted = {name: tensor + 50 for name, tensor in traced.expected.items()}
    larger = BoundaryComparison(traced.tower, [shifted], "fp16")(shifted, shifted)
    name = f"{LAYERS}.1 minus its input"
    assert larger[name].tolerance.norm_drift > 2 * usual[name].tolerance.norm_drift
