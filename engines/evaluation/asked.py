"""A benchmark's question as a model is asked it: pictures, videos, words and how the answer is generated.

lmms-eval hands over what a task's functions give: PIL pictures and paths of videos in one list, a text, and the keyword
arguments of a ``generate``. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from laco_export.conversation import IMAGE_MARK, VIDEO_MARK
from laco_export.errors import UsageError
from laco_export.picture_files import PICTURE_SUFFIXES

from ..generation.options import GenerationOptions

_LONGEST_ANSWER = 1024
"""Of a task that names none, as lmms-eval's LLaVA-OneVision has it."""

_NOT_OURS = {"image_aspect_ratio"}
"""Says how LLaVA cuts a picture; a model here lays pictures out as it was trained to."""

_SAMPLING = ("top_p", "top_k", "min_p")
_AS_THEY_ARE = ("repetition_penalty", "presence_penalty", "frequency_penalty", "seed")


@dataclass(frozen=True)
class Asked:
    """A question.

    Attributes:
        words: with ``<image>`` and ``<video>`` marks one a picture and video, or with none: then these come first.
        pictures: PIL pictures and paths, in order.
        videos: paths.
    """

    words: str
    pictures: tuple[Image.Image | Path, ...]
    videos: tuple[Path, ...]
    options: GenerationOptions


def asked(words: str, visuals: Iterable, generation: Mapping) -> Asked:
    """What lmms-eval asks, as a model here is asked it.

    Args:
        words: may mark its pictures by ``<image>``. Marks of another number than there are pictures are left out, and
            the pictures come first.
        visuals: PIL pictures, and paths: of a picture by its ending, else of a video.
        generation: ``generation_kwargs`` of the task.

    Raises:
        UsageError: a visual of another kind, or a generation argument that would change the answer and is not known.
    """
    pictures, videos = _sorted_visuals(visuals)
    for mark, of_its_kind in ((IMAGE_MARK, pictures), (VIDEO_MARK, videos)):
        if words.count(mark) != len(of_its_kind):
            words = words.replace(mark, "").strip()
    return Asked(words, tuple(pictures), tuple(videos), generation_options_of(generation))


def _sorted_visuals(visuals: Iterable) -> tuple[list, list[Path]]:
    pictures, videos = [], []
    for visual in visuals:
        if isinstance(visual, Image.Image):
            pictures.append(visual.convert("RGB"))
        elif isinstance(visual, (str, Path)):
            path = Path(visual)
            (pictures if path.suffix.lower() in PICTURE_SUFFIXES else videos).append(path)
        else:
            raise UsageError(
                "a task shows what the model cannot see",
                given=type(visual).__name__,
                allowed="PIL pictures, and paths of pictures and videos",
            )
    return pictures, videos


def generation_options_of(generation: Mapping) -> GenerationOptions:
    """``generation_kwargs`` of a task under this project's names; greedy unless the task samples."""
    left = {name: value for name, value in generation.items() if value is not None and name not in _NOT_OURS}
    most = left.pop("max_new_tokens", _LONGEST_ANSWER)
    until: str | Sequence[str] = left.pop("until", ())
    beams, temperature = left.pop("num_beams", 1), float(left.pop("temperature", 0))
    sampled = left.pop("do_sample", temperature > 0) and temperature > 0
    drawn_from = {name: left.pop(name) for name in _SAMPLING if name in left}
    options = {name: left.pop(name) for name in _AS_THEY_ARE if name in left}
    if left or beams != 1:
        refused = {**left, **({"num_beams": beams} if beams != 1 else {})}
        raise UsageError(
            "a task asks for a way to generate that is not known here",
            given=", ".join(f"{name}: {value}" for name, value in refused.items()),
            allowed="max_new_tokens, until, do_sample, temperature, num_beams: 1, "
            + ", ".join((*_SAMPLING, *_AS_THEY_ARE)),
        )
    if sampled:
        options |= {"temperature": temperature, **drawn_from}
    stops = (until,) if isinstance(until, str) else tuple(until)
    return GenerationOptions(max_new_tokens=most, stop=tuple(stop for stop in stops if stop), **options)
