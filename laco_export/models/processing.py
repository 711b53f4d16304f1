"""Pictures and text to model inputs, as a transformers processor around the shared preprocessing."""

from __future__ import annotations

import math
import re
from itertools import islice

import numpy as np
from PIL import Image
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from ..conversation import CHAT_TEMPLATE, IMAGE_MARK, IMAGE_TOKEN, VIDEO_MARK, expand_image_tokens
from ..errors import ConfigError, UsageError
from ..preprocessing import ImagePreprocessing
from ..tiling import SINGLE_TILE, VIDEO_FRAME, Tiling, TokenLayout, layouts, sample_frames


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

    A prompt with one picture has it tiled where ``tiling`` is set; of several pictures each is one tile, and so is each
    frame of a video (LLaVA-OneVision's budgets). A ``<video>`` mark stands for the frames of one video.

    Args:
        image_seq_length: visual embeddings of one tile, as ``model.tokens_per_image``.
        token_grid: a tile's token grid after the merge, (⌈H/r⌉, ⌈W/r⌉); None takes a square of that many tokens.
        tiling: fields of :class:`~laco_export.tiling.Tiling`, or None.
        video_pooling: as in the model's configuration.
        max_frames: frames taken of a video, uniformly.
    """

    attributes = ["image_processor", "tokenizer"]
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        image_seq_length: int = 0,
        chat_template=None,
        token_grid=None,
        tiling=None,
        video_pooling: int = 1,
        max_frames: int = 32,
        **kwargs,
    ):
        self.image_seq_length = image_seq_length
        self.token_grid = list(token_grid or (math.isqrt(image_seq_length),) * 2)
        if math.prod(self.token_grid) != image_seq_length:
            raise ConfigError("token_grid does not hold image_seq_length tokens", given=(token_grid, image_seq_length))
        self.tiling = dict(tiling) if tiling else None
        self.video_pooling = video_pooling
        self.max_frames = max_frames
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if self.image_token_id is None or self.image_token_id == tokenizer.unk_token_id:
            raise ConfigError(
                f"the tokenizer has no token {IMAGE_TOKEN}", allowed="a tokenizer with Qwen2.5's special tokens"
            )
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    @classmethod
    def for_model(cls, model, tokenizer) -> LacoProcessor:
        """The processor of a model that is new: its encoder's published preprocessing, its own token counts."""
        config = model.config
        preprocessing = model.vision_model.spec.preprocessing(config.vision_config)
        return cls(
            LacoImageProcessor(**preprocessing.to_dict()),
            tokenizer,
            image_seq_length=model.tokens_per_image,
            token_grid=model.vision_model.merged_grid,
            tiling=config.tiling,
            video_pooling=config.video_pooling,
        )

    def __call__(
        self, images=None, text=None, videos=None, audio=None, return_tensors: str | None = None, **tokenizer_options
    ) -> BatchFeature:
        """Prepare one prompt or a batch of them.

        Args:
            images: the PIL pictures of all prompts, in reading order; also as one list for each prompt.
            text: a prompt or a list of prompts, with one ``<image>`` per picture and one ``<video>`` per video.
            videos: the videos of all prompts in reading order, each a list of PIL frames.
            audio: None, which transformers' ``apply_chat_template`` passes.
            return_tensors: ``pt`` or ``np``.
            tokenizer_options: passed to the tokenizer (``padding=True``, ``padding_side="left"``, …).

        Returns:
            ``input_ids``, ``attention_mask`` and, with pictures, ``pixel_values [tiles, 3, H, W]`` and ``image_sizes
            [num_images, 2]``.

        Raises:
            UsageError: the prompts mark another number of pictures or videos than are given, or a prompt is longer
                than the tokenizer's ``model_max_length``, or sound is given.
        """
        if audio is not None:
            raise UsageError("a LaCo model takes no audio", allowed="images, videos and text")
        texts = [text] if isinstance(text, str) else list(text)
        images = _flat_list(images)
        texts, pictures, sizes = place_pictures(texts, images, videos or [], self.max_frames, tiled=bool(self.tiling))
        plans = self.token_layouts(sizes)
        lengths = iter([len(plan) for plan in plans])
        expanded = [expand_image_tokens(text, islice(lengths, text.count(IMAGE_MARK))) for text in texts]
        encoded = self.tokenizer(expanded, add_special_tokens=False, **tokenizer_options)
        self._check_length(encoded["input_ids"])
        values = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        if pictures:
            values["pixel_values"] = np.concatenate(
                [self._tiles(picture, size) for picture, size in zip(pictures, sizes, strict=True)]
            )
            values["image_sizes"] = np.asarray(sizes, np.int64)
        return BatchFeature(values, tensor_type=return_tensors)

    def token_layouts(self, image_sizes) -> list[TokenLayout]:
        """Each picture's token layout; its length is the number of its image tokens."""
        tiling = Tiling.from_mapping(self.tiling) if self.tiling else None
        return layouts(image_sizes, grid=tuple(self.token_grid), tiling=tiling, video_pooling=self.video_pooling)

    def _tiles(self, picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
        preprocessing, picture = self.image_processor.preprocessing, picture.convert("RGB")
        if size in (SINGLE_TILE, VIDEO_FRAME):
            return preprocessing(picture)[None]  # [1, 3, H, W]
        return Tiling.from_mapping(self.tiling).split(picture, preprocessing)  # [tiles, 3, H, W]

    def _check_length(self, input_ids) -> None:
        longest, limit = max((len(ids) for ids in input_ids), default=0), self.tokenizer.model_max_length
        if longest > limit:
            raise UsageError(
                "a prompt is longer than the model's context",
                given=f"{longest} tokens with its pictures",
                allowed=f"tokenizer.model_max_length: {limit}",
                todo="give fewer pictures or frames, or a shorter text",
            )

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values", "image_sizes"]


def _flat_list(images) -> list[Image.Image]:
    """One picture, a list of them, or a list for each prompt: as one list.

    Raises:
        UsageError: something else than a PIL picture.
    """
    if images is None or isinstance(images, Image.Image):
        return [] if images is None else [images]
    flat = []
    for entry in images:
        flat += entry if isinstance(entry, (list, tuple)) else [entry]
    if wrong := [entry for entry in flat if not isinstance(entry, Image.Image)]:
        raise UsageError(
            "images holds something else than a picture",
            given=type(wrong[0]).__name__,
            allowed="PIL.Image.Image",
            todo="open files with laco_export.preprocessing.load_image, arrays with PIL.Image.fromarray",
        )
    return flat


def place_pictures(
    texts: list[str], images: list[Image.Image], videos: list[list[Image.Image]], max_frames: int, *, tiled: bool
) -> tuple[list[str], list[Image.Image], list[tuple[int, int]]]:
    """Turn videos into their frames and say which pictures are tiled.

    Returns:
        the texts with ``<video>`` marks as runs of ``<image>``, all pictures in reading order, and their
        ``image_sizes`` entries.
    """
    for kind, mark, given in (("pictures", IMAGE_MARK, len(images)), ("videos", VIDEO_MARK, len(videos))):
        marks = sum(text.count(mark) for text in texts)
        if marks != given:
            raise UsageError(f"the text marks {marks} {kind} and {given} are given", allowed=f"one {mark} for each")
    next_image, next_video = iter(images), iter(videos)
    placed, pictures, sizes = [], [], []
    for text in texts:
        alone = tiled and text.count(IMAGE_MARK) == 1 and VIDEO_MARK not in text
        pieces = []
        for piece in re.split(f"({IMAGE_MARK}|{VIDEO_MARK})", text):
            if piece == IMAGE_MARK:
                picture = next(next_image)
                pictures.append(picture)
                sizes.append((picture.height, picture.width) if alone else SINGLE_TILE)
            elif piece == VIDEO_MARK:
                frames = next(next_video)
                taken = sample_frames(len(frames), max_frames)
                pictures += [frames[index] for index in taken]
                sizes += [VIDEO_FRAME] * len(taken)
                piece = IMAGE_MARK * len(taken)
            pieces.append(piece)
        placed.append("".join(pieces))
    return placed, pictures, sizes
