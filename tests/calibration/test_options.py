"""What can be asked of a calibration, and which target it is for."""

from pathlib import Path

import pytest

from laco_calibration.options import CalibrationOptions, source_target_of, with_target
from laco_export.errors import DepthError, UsageError
from laco_export.number_formats import U8S7


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "needs real pictures"),
        ({"images": ["p"], "target": "tensorrt"}, "--target is not known"),
        ({"images": ["p"], "target": "ort-cpu", "number_format": "fp8"}, "--target ort-cpu does not offer --fp8"),
        (
            {"images": ["p"], "target": "trt10.3", "number_format": "w4"},
            "does not read the operators of --weig",
        ),
        ({"images": ["p"], "target": "ort-cpu", "attention": True}, "attention"),
        ({"images": ["p"], "target": "trt10.3", "portable": True}, "--portable is for INT8 on a CPU"),
        ({"images": ["p"], "target": "ort-cpu", "portable": True, "number_format": "w8"}, "--portable is for INT8"),
        ({"images": ["p"], "method": "mean"}, "method"),
        ({"images": ["p"], "max_drop": 0}, "max-drop"),
        ({"images": ["p"], "limit": 0}, "limit"),
        ({"images": ["p"], "model": "m"}, "either"),
        ({"images": ["p"], "force": True, "resume": True}, "resume"),
    ],
)
def test_wrong_usage(options, message):
    with pytest.raises(UsageError, match=message):
        CalibrationOptions("bundle", **options)


def test_a_depth_that_is_none():
    with pytest.raises(DepthError):
        CalibrationOptions("bundle", images=["p"], at="half")


@pytest.mark.parametrize(
    "asked, number_format, source_target, target, name",
    [
        (None, "int8", "trt10.3", "trt10.3", "model-at1_2-int8"),
        (None, "int8", "trt10.14", "trt10.14", "model-at1_2-int8-trt10.14"),
        (None, "int8", "ort-cpu", "ort-cpu", "model-at1_2-int8-ort-cpu"),
        ("ort-cpu", "int8", "trt10.3", "ort-cpu", "model-at1_2-int8-ort-cpu"),
        ("trt10.14", "int8", "trt10.3", "trt10.14", "model-at1_2-int8-trt10.14"),
        (None, "w4", "trt10.3", "trt10.14", "model-at1_2-w4-trt10.14"),
        (None, "w4", "ort-cpu", "ort-cpu", "model-at1_2-w4-ort-cpu"),
    ],
)
def test_the_target_is_the_bundles_unless_asked_for(asked, number_format, source_target, target, name):
    bundle = "model-at1_2-fp32" + ("" if source_target == "trt10.3" else f"-{source_target}")
    options = CalibrationOptions(Path(bundle), images=["p"], target=asked, number_format=number_format)
    options, notes = with_target(options, source_target)
    assert options.target == target
    assert str(options.output_folder) == name
    assert bool(notes) == (asked is None and target != "trt10.3"), "said where it was not asked for"


def test_what_the_bundles_target_does_not_offer_is_refused():
    with pytest.raises(UsageError, match="--target ort-cpu does not offer --fp8"):
        with_target(CalibrationOptions("bundle", images=["p"], number_format="fp8"), "ort-cpu")


def test_a_cpus_int8_has_a_twin_unless_it_is_portable_alone():
    formats = {
        portable: CalibrationOptions("bundle", images=["p"], target="ort-cpu", portable=portable).twin_format
        for portable in (False, True)
    }
    assert formats == {False: U8S7, True: None}
    assert CalibrationOptions("bundle", images=["p"], target="ort-cpu", number_format="w8").twin_format is None
    assert CalibrationOptions("bundle", images=["p"], target="trt10.3").twin_format is None


def test_the_source_target_is_the_bundles_own_or_what_a_checkpoint_is_exported_for(ort_folder):
    assert source_target_of(CalibrationOptions(ort_folder, images=["p"], target="trt10.3")) == "ort-cpu"
    assert source_target_of(CalibrationOptions(model="ckpt", images=["p"])) == "trt10.3"
    assert source_target_of(CalibrationOptions(model="ckpt", images=["p"], target="ort-cpu")) == "ort-cpu"
