"""What several commands and pages are tested on as a whole."""

from pathlib import Path

import pytest

ASSETS = Path(__file__).resolve().parents[1] / "assets"


@pytest.fixture(scope="session")
def trained_bundle(tmp_path_factory) -> Path:
    """An FP32 bundle of the tiny checkpoint that was trained; not to be changed."""
    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle

    output = tmp_path_factory.mktemp("trained") / "laco-tiny"
    return export_bundle(
        ExportOptions(ASSETS / "tiny-checkpoint", precision="fp32", output=output, compile=False)
    ).output
