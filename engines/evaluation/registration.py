"""What the entry points ``lmms_eval.models`` name; lmms-eval calls them for its list of models."""

from __future__ import annotations

_MODULE = f"{__package__}.lmms_models"


def checkpoint_manifest():
    """lmms-eval's ``ModelManifest`` of ``laco``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("laco", simple_class_path=f"{_MODULE}.LacoCheckpointModel")


def bundle_manifest():
    """lmms-eval's ``ModelManifest`` of ``laco_bundle``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("laco_bundle", simple_class_path=f"{_MODULE}.LacoBundleModel")
