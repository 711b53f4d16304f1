"""What a bundle's ``processor_config.json`` says of prompts; bundles of earlier versions say less."""

from __future__ import annotations

import json

from laco_export.bundle import Bundle
from laco_export.chat_format import CHATML, ChatFormat
from laco_export.errors import BundleError, ConfigError
from laco_export.field_types import FieldError, NumberField

DEFAULT_MAX_FRAMES = 32  # LLaVA-OneVision's, where the bundle's processor names none
MOST_FRAMES = 100_000  # an hour of video has as many

_NAME = "processor_config.json"


def video_fields(bundle: Bundle) -> tuple[int, int]:
    """``max_frames`` and ``video_pooling`` of the checkpoint's processor.

    Raises:
        BundleError: the file cannot be read, or a field holds what it may not.
    """
    fields = _fields(bundle)
    max_frames, video_pooling = fields.get("max_frames", DEFAULT_MAX_FRAMES), fields.get("video_pooling", 1)
    try:
        for field, number in (("max_frames", max_frames), ("video_pooling", video_pooling)):
            NumberField(1, MOST_FRAMES, whole=True).read(number, field)
    except FieldError as error:
        raise _unusable(error) from None
    return max_frames, video_pooling


def chat_format_of_bundle(bundle: Bundle) -> ChatFormat:
    """How the bundle's conversations are written; ChatML where its processor does not say.

    Raises:
        BundleError: as :func:`video_fields`.
    """
    stated = _fields(bundle).get("chat_format")
    try:
        return CHATML if stated is None else ChatFormat.from_dict(stated)
    except ConfigError as error:
        raise _unusable(error) from None


def _fields(bundle: Bundle) -> dict:
    if _NAME not in bundle.manifest.files:
        return {}
    try:
        fields = json.loads(bundle.read(_NAME))
    except (ValueError, RecursionError) as error:
        raise _unusable(error) from None
    if not isinstance(fields, dict):
        raise _unusable("it is no JSON object")
    return fields


def _unusable(reason: object) -> BundleError:
    return BundleError(f"the bundle's {_NAME} cannot be used: {reason}", todo="export the bundle again")
