"""The LaCo model: a vision encoder that merges its tokens half-way, a projector and a language model.

Importing this package registers the classes with transformers' Auto classes, so that ``AutoConfig``,
``AutoModelForImageTextToText`` and ``AutoProcessor`` load a LaCo checkpoint. It needs torch and transformers.

- :mod:`.configuration`: ``config.json``, and how and where the tokens are merged;
- :mod:`.vision`: the encoder that merges its tokens after a block;
- :mod:`.encoders`: which encoders, and where their parts are;
- :mod:`.compressors`: the merges;
- :mod:`.projector`: from the encoder's width to the language model's;
- :mod:`.modeling`: encoder, projector and language model as one;
- :mod:`.processing`: pictures, videos and text to the model's inputs;
- :mod:`.chat_template`: a chat format from a published folder's chat template;
- :mod:`.written_template`: a chat template from a chat format;
- :mod:`.language_models`: a language model's folder, read and made ready;
- :mod:`.vocabulary`: its tokenizer made ready for pictures, and the rows for it;
- :mod:`.own_vocabulary`: a tokenizer that is kept as it is, but for a picture's token;
- :mod:`.own_chat_format`: the chat format of a language model that is not ChatML;
- :mod:`.initialization`: a checkpoint from an encoder's and a language model's folder;
- :mod:`.published`: published vision-language models, from their folders;
- :mod:`.merging`: merges put inside a model that has none;
- :mod:`.checkpoint`: saved, audited, loaded;
- :mod:`.tower_weights`: its tower without its language model;
- :mod:`.stated_pixels`: are pictures prepared as the encoder's folder states;
- :mod:`.stated_config`: a published ``config.json`` as it was meant, whichever transformers wrote it;
- :mod:`.tensor_audit`: whether its tensors are those of its configuration, and finite;
- :mod:`.transformers_versions`: where transformers 4.57 and 5 differ;
- :mod:`.unallocated`: modules that are built before their weights are there;
- :mod:`.flops`: what a picture costs by layer arithmetic.
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
