"""What is kept of the public figures is what the script computes of them now."""

import json

import plan_public_figures
import pytest

from laco_engines.plan.spans import SMALLEST_FIGURE


def test_the_results_are_those_of_the_script():
    kept = json.loads(plan_public_figures.OUTPUT.read_text())
    for part, rows in plan_public_figures.compared().items():
        assert [row["ratio"] for row in rows] == pytest.approx([row["ratio"] for row in kept[part]])
        assert plan_public_figures.span(rows) == pytest.approx(kept["spans"][part])


def test_a_towers_operations_are_those_of_the_model():
    """ViT-B/16 on 224 x 224 pixels: 17.6 billion multiply-adds and 86.6 million weights, as torchvision states them."""
    sizes = plan_public_figures.VITS["ViT-B/16"]
    assert (sizes.linear_flops + sizes.attention_flops) / 2 == pytest.approx(17.56e9, rel=0.003)
    assert sizes.weights == pytest.approx(86.6e6, rel=0.005)


def test_no_figure_is_of_a_smaller_tower():
    smallest = min(sizes.linear_flops + sizes.attention_flops for sizes in plan_public_figures.VITS.values())
    assert pytest.approx(smallest, rel=0.02) == SMALLEST_FIGURE


def test_language_models_have_the_weights_that_they_are_named_after():
    weights = {name: sizes.layer_weights for name, sizes in plan_public_figures.LANGUAGE_MODELS.items()}
    assert weights["Qwen3-0.6B"] == pytest.approx(0.44e9, rel=0.01)  # the model card's, without embeddings
    assert weights["Qwen3-VL-2B"] == pytest.approx(1.4e9, rel=0.01)
    assert weights["Qwen3-4B"] == pytest.approx(3.6e9, rel=0.02)
    assert weights["Llama-3.1-8B"] == pytest.approx(6.98e9, rel=0.01)
