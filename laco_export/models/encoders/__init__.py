"""Vision encoders: transformers' own classes, and where their parts are.

One file per encoder holds an :class:`EncoderSpec`; adding one is that file and one line in :data:`ENCODERS`.

- :mod:`.specification`: what the LaCo model needs to know of an encoder;
- :mod:`.aimv2`: Apple's AIMv2;
- :mod:`.clip`: OpenAI's CLIP;
- :mod:`.internvit`: OpenGVLab's InternViT;
- :mod:`.siglip`: Google's SigLIP;
- :mod:`.vision_level`: SigLIP's and CLIP's parts where either version of transformers finds them;
- :mod:`.loading`: an encoder from its published folder.
"""

from __future__ import annotations

from ...errors import ConfigError
from .aimv2 import AIMV2
from .clip import CLIP
from .internvit import INTERNVIT
from .siglip import SIGLIP
from .specification import EncoderSpec

ENCODERS: dict[str, EncoderSpec] = {spec.model_type: spec for spec in (AIMV2, CLIP, INTERNVIT, SIGLIP)}


def encoder_spec(model_type: str) -> EncoderSpec:
    """The specification of an encoder by its ``model_type`` in ``config.json``.

    Raises:
        ConfigError: no encoder of that type is known.
    """
    try:
        return ENCODERS[model_type]
    except KeyError:
        raise ConfigError(
            "vision_config.model_type is not a known encoder", given=model_type, allowed=", ".join(sorted(ENCODERS))
        ) from None


__all__ = ["ENCODERS", "EncoderSpec", "encoder_spec"]
