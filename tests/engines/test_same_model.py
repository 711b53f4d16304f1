"""Which bundles may stand beside each other; only manifests are looked at."""

from dataclasses import replace
from pathlib import Path

import pytest

from laco_engines.same_model import require_same_model
from laco_export.bundle import Bundle
from laco_export.errors import UsageError


def other(bundle: Bundle, **fields) -> Bundle:
    """The bundle elsewhere, with other fields of its manifest."""
    return Bundle(Path("elsewhere"), replace(bundle.manifest, **fields))


@pytest.mark.parametrize(
    "changed",
    [
        lambda manifest: {"source": {"name": "healed", "sha256": "0" * 64}},
        lambda manifest: {"compression": {**manifest.compression, "depth": "1", "block": 4}},
        lambda manifest: {"vision": replace(manifest.vision, precision="int8")},
        lambda manifest: {"decoder": replace(manifest.decoder, precision="int4", vocab_size=100)},
        lambda manifest: {"decoder": None},
    ],
)
def test_one_model_in_another_form_passes(bundle, changed):
    require_same_model({"one": bundle, "two": other(bundle, **changed(bundle.manifest))})


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        (lambda manifest: {"encoder": {**manifest.encoder, "num_blocks": 5}}, "the encoder's num_blocks"),
        (lambda manifest: {"encoder": {**manifest.encoder, "model_type": "siglip_vision_model"}}, "model_type"),
        (lambda manifest: {"preprocessing": {**manifest.preprocessing, "image_mean": [0.1] * 3}}, "image_mean"),
        (lambda manifest: {"decoder": replace(manifest.decoder, hidden_size=64)}, "the language model's hidden_size"),
    ],
)
def test_another_model_is_refused_by_the_fact_that_differs(bundle, changed, fact):
    bundles = {"one": bundle, "two": other(bundle, **changed(bundle.manifest))}
    with pytest.raises(UsageError, match=fact) as raised:
        require_same_model(bundles)
    assert "one: " in raised.value.given and "two: " in raised.value.given


def test_a_bundle_without_a_language_model_hides_no_difference_of_two_others(bundle):
    decoder = replace(bundle.manifest.decoder, hidden_size=64)
    tower, changed = other(bundle, decoder=None), other(bundle, decoder=decoder)
    with pytest.raises(UsageError, match="hidden_size"):
        require_same_model({"one": bundle, "tower": tower, "two": changed})
