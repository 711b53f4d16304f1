"""A checkpoint that answers questions in PyTorch, prompts made by its own processor.

It shares no code with a bundle's ``Answerer`` but the conversation's form: what both answer alike is right twice.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from laco_export.conversation import question_turn, render
from laco_export.errors import UsageError
from laco_export.preprocessing import load_image
from laco_export.quiet import quiet_libraries
from laco_export.video import read_frames

from .asked import Asked


class PytorchAnswerer:
    """A loaded checkpoint.

    Args:
        folder: the checkpoint's.
        at: the depth, of a checkpoint that carries several; default: its first.
        max_frames: taken of a video; default: the checkpoint's.
        device: torch's name of it.

    Raises:
        CheckpointError: not a sound checkpoint.
        DepthError: it does not carry the depth.
    """

    def __init__(self, folder: Path, *, at: str | None = None, max_frames: int | None = None, device: str = "cpu"):
        with quiet_libraries():
            from laco_export.exporter.loaded_checkpoint import LoadedCheckpoint
            from laco_export.models import checkpoint

            loaded = checkpoint.load(folder)
        self.checkpoint = loaded if at is None else loaded.at_depth(at)
        self.model = self.checkpoint.model.to(device).eval()
        self.processor = self.checkpoint.processor
        self.max_frames = max_frames or self.processor.max_frames
        self._end_ids = LoadedCheckpoint(self.checkpoint, at, (), {}).eos_token_ids

    @property
    def sha256(self) -> str:
        """Of the checkpoint's configuration and weights."""
        return self.checkpoint.sha256

    def answer(self, question: Asked) -> str:
        """The answer, without the text that ended it.

        Raises:
            ImageError: a picture or a video cannot be read.
            UsageError: the question holds a special token, or the prompt outgrows the context.
        """
        import torch

        inputs = self._inputs(question).to(self.model.device)
        length, options = inputs["input_ids"].shape[1], question.options
        context = self.model.config.text_config.max_position_embeddings
        if length >= context:
            raise UsageError("the prompt is longer than the model's context", given=length, allowed=context)
        stop = {"stop_strings": list(options.stop), "tokenizer": self.processor.tokenizer} if options.stop else {}
        with torch.inference_mode():
            tokens = self.model.generate(
                **inputs,
                **_sampling(options),
                **stop,
                max_new_tokens=min(options.max_new_tokens, context - length),
                eos_token_id=self._end_ids,
            )
        if tokens.shape[1] > length and torch.equal(tokens[:, :length], inputs["input_ids"]):
            tokens = tokens[:, length:]  # some transformers versions return the prompt too
        text = self.processor.tokenizer.decode(tokens[0], skip_special_tokens=True)
        return text[: min((text.find(end) for end in options.stop if end in text), default=len(text))]

    def _inputs(self, question: Asked):
        pictures = [p if isinstance(p, Image.Image) else load_image(p) for p in question.pictures]
        videos = [read_frames(path, self.max_frames) for path in question.videos]
        turn = question_turn(question.words, len(pictures), len(videos))
        text = render([turn], add_generation_prompt=True, chat_format=self.processor.chat_format)
        return self.processor(images=pictures or None, videos=videos or None, text=text, return_tensors="pt")


def _sampling(options) -> dict:
    """``generate``'s arguments, under transformers' names."""
    import torch

    arguments = {"do_sample": options.sampled}
    if options.repetition_penalty is not None:
        arguments["repetition_penalty"] = options.repetition_penalty
    if options.presence_penalty or options.frequency_penalty:
        raise UsageError("transformers has no presence or frequency penalty", todo="evaluate the bundle")
    if options.sampled:
        drawn_from = {"top_p": options.top_p, "top_k": options.top_k, "min_p": options.min_p}
        arguments |= {"temperature": options.temperature}
        arguments |= {name: value for name, value in drawn_from.items() if value is not None}
        if options.seed is not None:
            torch.manual_seed(options.seed)
    return arguments
