"""Pictures and text to model inputs, as a transformers processor around the shared preprocessing."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from ..chat_format import CHATML, ChatFormat
from ..conversation import CHAT_TEMPLATE, IMAGE_MARK, VIDEO_MARK, expand_image_tokens, frame_marks
from ..errors import ConfigError, UsageError
from ..layout_rules import DEFAULT_TOKEN_LAYOUT, layout_rules
from ..preprocessing import ImagePreprocessing
from ..scaled_decoding import full_size
from ..tiling import Tiling, sample_frames
from ..token_layouts import TokenLayout, layouts, prepare_tiles
from .transformers_versions import made_of
from .written_template import chat_template_of


class LacoImageProcessor(BaseImageProcessor):
    """:class:`~laco_export.preprocessing.ImagePreprocessing` with transformers' loading and saving."""

    model_input_names = ["pixel_values"]

    def __init__(self, **fields):
        preprocessing = ImagePreprocessing.from_dict(fields).to_dict()
        super().__init__(**{name: value for name, value in fields.items() if name not in preprocessing})
        for name, value in preprocessing.items():
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


class PlacedPrompt(NamedTuple):
    """A prompt whose pictures have their places.

    Attributes:
        pieces: the text, each picture and each frame marked ``<image>``.
        pictures: in reading order, each with its ``image_sizes`` entry.
        tokens: visual embeddings of each picture in the prompt.
    """

    pieces: list[str]
    pictures: list[tuple[Image.Image, tuple[int, int]]]
    tokens: list[int]


@made_of(image_processor="AutoImageProcessor", tokenizer="AutoTokenizer")
class LacoProcessor(ProcessorMixin):
    """Tokenizer and image processor together; each ``<image>`` of the text becomes that picture's image tokens.

    A prompt with one picture has it tiled where ``tiling`` is set; of several pictures each is one tile (each is tiled
    where the ``token_layout`` says so), and so is each frame of a video (LLaVA-OneVision's budgets). A ``<video>`` mark
    stands for the frames of one video.

    Args:
        image_seq_length: visual embeddings of one tile, as ``model.tokens_per_image``.
        token_grid: a tile's token grid after the merge, (⌈H/r⌉, ⌈W/r⌉); None takes a square of that many tokens.
        tiling: fields of :class:`~laco_export.tiling.Tiling`, or None.
        video_pooling: as in the model's configuration.
        max_frames: frames taken of a video, uniformly.
        token_layout: as in the model's configuration; stored where it is not ``laco``.
        chat_format: a :class:`~laco_export.chat_format.ChatFormat` or its fields; None is ChatML.
    """

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
        token_layout: str = DEFAULT_TOKEN_LAYOUT,
        chat_format: ChatFormat | Mapping | None = None,
        **kwargs,
    ):
        self.image_seq_length = image_seq_length
        self.token_grid = list(token_grid or (math.isqrt(image_seq_length),) * 2)
        if math.prod(self.token_grid) != image_seq_length:
            raise ConfigError("token_grid does not hold image_seq_length tokens", given=(token_grid, image_seq_length))
        self.tiling = dict(tiling) if tiling else None
        self.video_pooling = video_pooling
        self.max_frames = max_frames
        self.token_layout = token_layout
        self.chat_format = _chat_format(chat_format)
        self.image_token = self.chat_format.image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        ids = tokenizer(self.image_token, add_special_tokens=False)["input_ids"]
        if ids != [self.image_token_id] or self.image_token_id == tokenizer.unk_token_id:
            raise ConfigError(
                f"the tokenizer has no special token {self.image_token}",
                given=f"{self.image_token} becomes {ids}",
                allowed="a tokenizer that makes it one id of its own",
                todo="laco-train init makes a language model's tokenizer ready",
            )
        if chat_template is None:
            chat_template = CHAT_TEMPLATE if self.chat_format == CHATML else chat_template_of(self.chat_format)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def to_dict(self, *arguments, **options) -> dict:
        """transformers' own; ChatML and this project's token layout, which checkpoints had before there was a choice,
        are not written."""
        values = super().to_dict(*arguments, **options)
        values.pop("image_processor", None)  # a file of its own
        del values["chat_format"]
        if self.token_layout == DEFAULT_TOKEN_LAYOUT:
            del values["token_layout"]
        return values if self.chat_format == CHATML else {**values, "chat_format": self.chat_format.to_dict()}

    def save_pretrained(self, save_directory, **options) -> None:
        """transformers' own, with the picture's preprocessing in ``preprocessor_config.json``, where 4.57 puts it and
        whatever reads a checkpoint or a bundle looks for it."""
        super().save_pretrained(save_directory, **options)
        if not (Path(save_directory) / "preprocessor_config.json").is_file():
            self.image_processor.processor_class = type(self).__name__
            self.image_processor.save_pretrained(save_directory)

    @classmethod
    def for_model(
        cls,
        model,
        tokenizer,
        preprocessing: ImagePreprocessing | None = None,
        *,
        chat_format: ChatFormat = CHATML,
        chat_template: str | None = None,
    ) -> LacoProcessor:
        """The processor of a model that is new: its own token counts, and by default its encoder's published
        preprocessing and ChatML.

        Args:
            chat_template: jinja's, which writes what ``chat_format`` does; None makes one.
        """
        config = model.config
        preprocessing = preprocessing or model.vision_model.spec.preprocessing(config.vision_config)
        return cls(
            LacoImageProcessor(**preprocessing.to_dict()),
            tokenizer,
            image_seq_length=model.tokens_per_image,
            token_grid=model.token_grid,
            tiling=config.tiling,
            video_pooling=config.video_pooling,
            token_layout=config.token_layout,
            chat_format=chat_format,
            chat_template=chat_template,
        )

    def fitted_to(self, model) -> LacoProcessor:
        """A copy that makes as many image tokens as ``model`` has at the depth that is set."""
        fitted = copy.copy(self)
        fitted.image_seq_length, fitted.token_grid = model.tokens_per_image, list(model.token_grid)
        fitted.video_pooling = model.config.video_pooling
        return fitted

    def __call__(
        self,
        images=None,
        text=None,
        videos=None,
        audio=None,
        return_tensors: str | None = None,
        add_special_tokens: bool | None = None,
        **tokenizer_options,
    ) -> BatchFeature:
        """Prepare one prompt or a batch of them.

        Args:
            images: the PIL pictures of all prompts, in reading order; also as one list for each prompt.
            text: a prompt or a list of prompts, with one ``<image>`` per picture and one ``<video>`` per video. The
                image token itself marks a picture too: some published templates write it so.
            videos: the videos of all prompts in reading order, each a list of PIL frames.
            audio: None, which transformers' ``apply_chat_template`` passes.
            return_tensors: ``pt`` or ``np``.
            add_special_tokens: let the tokenizer put its own first or last token around the prompt. None does so
                where the chat format has a ``begin_token``, since a template writes every other token of a prompt;
                transformers' ``apply_chat_template`` says False where the prompt begins with the tokenizer's first
                token (SmolLM2).
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
        texts = [self._with_marks(text)] if isinstance(text, str) else [self._with_marks(each) for each in text]
        images, videos = _flat_list(images), list(videos or [])
        check_marks(texts, len(images), len(videos))
        next_image, next_video = iter(images), iter(videos)
        placed = [
            self.place(
                [text],
                list(islice(next_image, text.count(IMAGE_MARK))),
                list(islice(next_video, text.count(VIDEO_MARK))),
            )
            for text in texts
        ]
        expanded = [expand_image_tokens(prompt.pieces[0], prompt.tokens, self.chat_format) for prompt in placed]
        if add_special_tokens is None:
            add_special_tokens = bool(self.chat_format.begin_token)
        encoded = self.tokenizer(expanded, add_special_tokens=add_special_tokens, **tokenizer_options)
        self._check_length(encoded["input_ids"])
        values = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        if tiles := [self.tiles(*picture) for prompt in placed for picture in prompt.pictures]:
            values["pixel_values"] = np.concatenate(tiles)
            values["image_sizes"] = np.asarray([size for prompt in placed for _, size in prompt.pictures], np.int64)
        return BatchFeature(values, tensor_type=return_tensors)

    def _with_marks(self, text: str) -> str:
        if self.chat_format == CHATML:
            return text
        return text.replace(self.image_token, IMAGE_MARK)

    def apply_chat_template(self, conversation, chat_template: str | None = None, **options):
        """transformers' own, for messages whose content is text alone too, which it cannot tokenise."""
        if options.get("tokenize"):
            single = bool(conversation) and isinstance(conversation[0], Mapping)
            typed = [[_with_typed_parts(m) for m in chat] for chat in ([conversation] if single else conversation)]
            conversation = typed[0] if single else typed
        return super().apply_chat_template(conversation, chat_template, **options)

    def place(
        self,
        pieces: Sequence[str],
        images: Sequence[Image.Image],
        videos: Sequence[Sequence[Image.Image]] = (),
        *,
        tiled: bool = True,
        max_frames: int | None = None,
    ) -> PlacedPrompt:
        """Where the pictures of one prompt stand and how many tokens each is; training and inference both ask here.

        Args:
            pieces: the prompt's text, whole or cut into consecutive pieces.
            images, videos: its pictures and its videos' frames, in reading order.
            tiled: False keeps a single picture one tile where the processor would tile it.
            max_frames: frames taken of a video; None takes the processor's.

        Raises:
            UsageError: the pieces mark another number of pictures or videos than are given.
        """
        check_marks(pieces, len(images), len(videos))
        rules, tiles = layout_rules(self.token_layout), tiled and bool(self.tiling)
        alone = len(images) == 1 and not len(videos)
        next_image, next_video = iter(images), iter(videos)
        placed, pictures = [], []
        for piece in pieces:
            parts = re.split(f"({IMAGE_MARK}|{VIDEO_MARK})", piece)
            for place, part in enumerate(parts):
                if part == IMAGE_MARK:
                    picture = next(next_image)
                    width, height = full_size(picture)
                    pictures.append((picture, rules.picture_size(height, width, alone=alone, tiles=tiles)))
                elif part == VIDEO_MARK:
                    frames = next(next_video)
                    taken = sample_frames(len(frames), max_frames or self.max_frames)
                    pictures += zip((frames[index] for index in taken), rules.frame_sizes(len(taken)))
                    parts[place] = frame_marks(len(taken), self.chat_format)
            placed.append("".join(parts))
        return PlacedPrompt(placed, pictures, [len(plan) for plan in self.token_layouts(s for _, s in pictures)])

    def token_layouts(self, image_sizes: Iterable[tuple[int, int]]) -> list[TokenLayout]:
        """Each picture's token layout; its length is the number of its image tokens."""
        tiling = Tiling.from_mapping(self.tiling) if self.tiling else None
        return layouts(
            list(image_sizes),
            grid=tuple(self.token_grid),
            tiling=tiling,
            video_pooling=self.video_pooling,
            token_layout=self.token_layout,
        )

    def tiles(self, picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
        """A placed picture's tiles: float32 ``[tiles, 3, H, W]``."""
        preprocessing, picture = self.image_processor.preprocessing, picture.convert("RGB")
        tiling = Tiling.from_mapping(self.tiling) if self.tiling else None
        return prepare_tiles(picture, size, preprocessing, tiling, self.token_layout)  # [tiles, 3, H, W]

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


def _chat_format(stated: ChatFormat | Mapping | None) -> ChatFormat:
    if stated is None or isinstance(stated, ChatFormat):
        return stated or CHATML
    return ChatFormat.from_dict(stated)


def _with_typed_parts(message: Mapping) -> dict:
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}] if isinstance(content, str) else content}


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


def check_marks(texts: Sequence[str], images: int, videos: int) -> None:
    """Raise :class:`UsageError` unless the texts have one mark for each picture and each video."""
    for kind, mark, count in (("pictures", IMAGE_MARK, images), ("videos", VIDEO_MARK, videos)):
        marks = sum(text.count(mark) for text in texts)
        if marks != count:
            raise UsageError(f"the text marks {marks} {kind} and {count} are given", allowed=f"one {mark} for each")
