"""The LaCo model: a vision encoder that merges its tokens half-way, a projector and a language model.

Importing this package registers the classes with transformers' Auto classes, so that ``AutoConfig``,
``AutoModelForImageTextToText`` and ``AutoProcessor`` load a LaCo checkpoint. It needs torch and transformers.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

from .configuration import CompressionConfig, LacoConfig
from .modeling import LacoForConditionalGeneration
from .processing import LacoImageProcessor, LacoProcessor
from .vision import LacoVisionModel

AutoConfig.register(LacoConfig.model_type, LacoConfig, exist_ok=True)
AutoModelForImageTextToText.register(LacoConfig, LacoForConditionalGeneration, exist_ok=True)
AutoImageProcessor.register(LacoConfig, slow_image_processor_class=LacoImageProcessor, exist_ok=True)
AutoProcessor.register(LacoConfig, LacoProcessor, exist_ok=True)

__all__ = [
    "CompressionConfig",
    "LacoConfig",
    "LacoForConditionalGeneration",
    "LacoImageProcessor",
    "LacoProcessor",
    "LacoVisionModel",
]
