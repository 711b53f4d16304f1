"""The fixtures of laco_calibration's parts."""

from ...calibration.fixtures import (  # noqa: F401 - fixtures
    _one_thread,
    fp32_bundle,
    fp32_folder,
    make_fp32_bundle,
    photographs,
    pixels,
)
