"""Published folders compared with what is imported of them: token ids and logits, prompt by prompt."""

from itertools import chain

import numpy as np
import torch
from published_folders import TILE, picture

from laco_export.conversation import question_turn, render

CASES = {
    "text alone": [([], [])],
    "one picture": [([(60, 80)], [])],
    "wide": [([(300, 110)], [])],
    "tall": [([(90, 200)], [])],
    "larger than the budget": [([(420, 400)], [])],
    "several pictures": [([(60, 80), (200, 90)], [])],
    "a video": [([], [3])],
    "a batch": [([(150, 80)], []), ([], []), ([(60, 80), (90, 50)], [])],
}
"""For each prompt of a batch the sizes of its pictures, and its videos' numbers of frames."""

TOLERANCE = 1e-4
"""Of logits up to 17. All but videos agree to the last bit; a frame's mean over four tokens is added up in another
order, which gives 5e-6."""


def inputs_of(theirs, processor, prompts):
    """The same prompts, prepared by transformers' processor and by ours."""
    shown = [[picture(*size, seed) for seed, size in enumerate(sizes)] for sizes, _ in prompts]
    tile = TILE[theirs.family]
    videos = [[[picture(tile, tile, seed) for seed in range(frames)] for frames in lengths] for _, lengths in prompts]
    texts = [
        render(
            [question_turn("what is it?", len(pictures), len(clips))],
            add_generation_prompt=True,
            chat_format=processor.chat_format,
        )
        for pictures, clips in zip(shown, videos, strict=True)
    ]
    flat, clips = [*chain(*shown)], [*chain(*videos)]
    given = {"return_tensors": "pt", "padding": True, "padding_side": "left"}
    ours = processor(images=flat or None, videos=clips or None, text=texts, **given)
    marked = [text.replace("<image>", theirs.processor.image_token) for text in texts]
    their_images = shown if theirs.family == "llava_onevision" else flat
    options = {**({"images": their_images} if flat else {}), **({"videos": clips} if clips else {})}
    return theirs.processor(text=marked, **options, **given), ours


def difference(theirs, model, processor, prompts):
    """The largest difference of two logits, and the token ids of both sides where they differ."""
    expected, given = inputs_of(theirs, processor, prompts)
    ids = expected["input_ids"].clone()
    if theirs.video_id is not None:  # a frame's tokens are a picture's here
        ids[ids == theirs.video_id] = theirs.image_id
    if ids.tolist() != given["input_ids"].tolist():
        return np.inf
    with torch.no_grad():
        return float((theirs.model(**expected).logits - model(**given).logits).abs().max())
