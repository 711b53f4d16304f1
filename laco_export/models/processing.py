"""Pictures and text to model inputs, as a transformers processor around the shared preprocessing."""

from __future__ import annotations

import numpy as np
from PIL import Image
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from ..conversation import CHAT_TEMPLATE, IMAGE_MARK, IMAGE_TOKEN, expand_image_tokens
from ..errors import ConfigError
from ..preprocessing import ImagePreprocessing


class LacoImageProcessor(BaseImageProcessor):
    """:class:`~laco_export.preprocessing.ImagePreprocessing` with transformers' loading and saving."""

    model_input_names = ["pixel_values"]

    def __init__(self, **fields):
        known = ImagePreprocessing.from_dict(fields).to_dict()
        super().__init__(**{name: value for name, value in fields.items() if name not in known})
        for name, value in known.items():
            setattr(self, name, value)

    @property
    def preprocessing(self) -> ImagePreprocessing:
        return ImagePreprocessing.from_dict(self.__dict__)

    def preprocess(self, images, return_tensors: str | None = None, **_) -> BatchFeature:
        """One PIL picture or a list of them to ``pixel_values``, float32 ``[num_images, 3, H, W]``."""
        images = [images] if isinstance(images, Image.Image) else list(images)
        prepare = self.preprocessing
        values = np.stack([prepare(image.convert("RGB")) for image in images])  # [num_images, 3, H, W]
        return BatchFeature({"pixel_values": values}, tensor_type=return_tensors)


class LacoProcessor(ProcessorMixin):
    """Tokenizer and image processor together; each ``<image>`` of the text becomes that picture's image tokens.

    Args:
        image_seq_length: visual embeddings of one picture, as ``model.tokens_per_image``.
    """

    attributes = ["image_processor", "tokenizer"]
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor=None, tokenizer=None, image_seq_length: int = 0, chat_template=None, **kwargs):
        self.image_seq_length = image_seq_length
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if self.image_token_id is None or self.image_token_id == tokenizer.unk_token_id:
            raise ConfigError(
                f"the tokenizer has no token {IMAGE_TOKEN}", allowed="a tokenizer with Qwen2.5's special tokens"
            )
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    def __call__(self, images=None, text=None, return_tensors: str | None = None, **tokenizer_options) -> BatchFeature:
        """Prepare one prompt or a batch of them.

        Args:
            images: the PIL pictures of all prompts, in reading order.
            text: a prompt or a list of prompts, with one ``<image>`` per picture.
            return_tensors: ``pt`` or ``np``.
            tokenizer_options: passed to the tokenizer (``padding=True``, ``padding_side="left"``, …).

        Raises:
            UsageError: the prompts mark another number of pictures than are given.
        """
        texts = [text] if isinstance(text, str) else list(text)
        images = [] if images is None else [images] if isinstance(images, Image.Image) else list(images)
        # One separator that no text contains lets marks be counted over the whole batch and split again.
        joined = expand_image_tokens("\0".join(texts), [self.image_seq_length] * len(images))
        encoded = self.tokenizer(joined.split("\0"), add_special_tokens=False, **tokenizer_options)
        values = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        if images:
            values.update(self.image_processor(images))
        return BatchFeature(values, tensor_type=return_tensors)

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values"]


__all__ = ["IMAGE_MARK", "LacoImageProcessor", "LacoProcessor"]
