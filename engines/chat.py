"""A conversation about pictures that computes each turn once.

::

    chat = Chat(Answerer(open_bundle(folder)))
    chat.ask("What is this?", ["cat.png"], on_text=print)
    chat.ask("And its colour?")                    # the picture and the first turn are in the KV cache

The prompt of a turn is the whole conversation so far, with the earlier answers as the tokens that were generated; the
answerer's prefix cache holds all of it but the new question, and its encoder remembers the pictures. So an answer is
the one that the whole conversation, given afresh, would get (but for rounding: a KV cache filled in two passes is the
same up to the order of summation).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from laco_export.preprocessing import MAX_PIXELS

from .answering import Answer, Answerer
from .generation.options import GenerationOptions
from .prompts.turns import PromptTurn
from .prompts.visuals import Picture, Video


@dataclass(frozen=True, eq=False)
class Exchange:
    """A question with its answer, as the model reads them, and the answer's text."""

    question: PromptTurn
    answer: PromptTurn
    text: str


class Chat:
    """A conversation with a loaded bundle. Several threads may ask; their questions are answered one after another.

    Args:
        answerer: may be shared by several chats; see :data:`~laco_engines.generation.prefix_cache.MAX_ENTRIES`.
        system: what stands before the first question; default: the line that the model was trained with.
        options: how answers are generated.
        on_overflow: where the conversation outgrows the context: ``error``, or ``truncate`` to forget the oldest turns.
        max_pixels: larger pictures and frames are refused from their header.
        max_frames: taken of each video; default: the checkpoint's.

    Attributes:
        exchanges: what has been said and is not forgotten.
    """

    def __init__(
        self,
        answerer: Answerer,
        *,
        system: str | None = None,
        options: GenerationOptions | None = None,
        on_overflow: str = "error",
        max_pixels: int = MAX_PIXELS,
        max_frames: int | None = None,
    ):
        self.answerer = answerer
        self.options = options or GenerationOptions()
        self.exchanges: list[Exchange] = []
        self._on_overflow = on_overflow
        self._limits = {"max_pixels": max_pixels, "max_frames": max_frames}
        self._system = answerer.prompter.system_turn(system)
        self._turn_at_a_time = threading.Lock()

    def ask(
        self,
        question: str,
        pictures: Sequence[Picture] = (),
        videos: Sequence[Video] = (),
        *,
        on_text: Callable[[str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Answer:
        """Answer the next question of the conversation.

        A picture that is shown alone in the chat's first turn with pictures is tiled where the model was trained to
        tile, and stays so; later ones are one tile each.

        Args:
            pictures, videos: that this question shows; those of earlier turns are still known.
            on_text: called with each piece of the answer as it comes.
            cancelled: asked after each token; where it says True, the answer ends and what there is of it stays in the
                conversation.

        Raises:
            LacoError: as :meth:`Prompter.user_turn` and :meth:`Prompter.join`; the conversation stays as it was.
        """
        with self._turn_at_a_time:
            start = time.perf_counter()
            prompter = self.answerer.prompter
            alone = not any(exchange.question.visuals for exchange in self.exchanges)
            turn = prompter.user_turn(question, pictures, videos, alone=alone, **self._limits)
            said = [part for exchange in self.exchanges for part in (exchange.question, exchange.answer)]
            prompt = prompter.join(
                [self._system, *said, turn],
                room=self.options.max_new_tokens,
                on_overflow=self._on_overflow,
                start=start,
            )
            answer = self.answerer.generate(prompt, self.options, on_text=on_text, cancelled=cancelled)
            del self.exchanges[: prompt.omitted.turns // 2]  # forgotten for good: their KV cache is gone
            # Where a stop string was cut off, the tokens say more than the answer does.
            spoken = answer.text if answer.stopped_by else answer.token_ids
            self.exchanges.append(Exchange(turn, prompter.assistant_turn(spoken), answer.text))
            return answer

    def reset(self) -> None:
        """Forget the conversation; the system line stays."""
        with self._turn_at_a_time:
            self.exchanges.clear()
