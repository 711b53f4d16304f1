"""The fixtures of this folder's tests; tests/whole/calibration uses them too."""

from .fixtures import (  # noqa: F401 - fixtures
    _one_thread,
    calibrated,
    fp32_bundle,
    fp32_folder,
    graph,
    make_fp32_bundle,
    ort_folder,
    photographs,
    pixels,
    plant_outliers,
)
