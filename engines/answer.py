"""What an answer is: its text and tokens, why it ended, and where its time went."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from .prompts.context import Omitted


@dataclass(frozen=True)
class Timings:
    """Where the time went; wall-clock, without any warm-up. In a batch the steps are those of the whole batch.

    The parts leave nothing out: preparing a prompt and answering it take ``first_token_ms`` until the first token, and
    what ``load_ms`` is more than the answerer's own.

    Attributes:
        load_ms: opening both models, with the import of their libraries; and, where this answer was the first of its
            number of pictures, the graph for that number.
        preprocess_ms: reading, resizing and hashing the pictures, tokenising.
        encode_ms: the vision tower, all pictures that were not encoded before.
        prefill_ms: the rest until the first token is chosen: looking up what a KV cache holds, and the decoder's pass
            over what it does not.
        decode_tokens_per_s: of the tokens after the first; None where there is none.
        decode_tokens_per_pass: of the same tokens, of a pass of the language model; None without prompt lookup.
    """

    load_ms: float
    preprocess_ms: float
    encode_ms: float
    prefill_ms: float
    decode_tokens_per_s: float | None
    decode_tokens_per_pass: float | None = None

    @property
    def first_token_ms(self) -> float:
        """Time to first token, with the models loaded."""
        return self.preprocess_ms + self.encode_ms + self.prefill_ms


@dataclass(frozen=True)
class StepScore:
    """The two best tokens of one step: what was chosen, what came next, and their logits' difference."""

    token: int
    logit: float
    runner_up: int
    runner_up_logit: float

    @property
    def margin(self) -> float:
        return self.logit - self.runner_up_logit


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        text: without the stop string that ended it.
        token_ids: the generated tokens, the end token or the stop string's included.
        prompt_tokens: length of the prompt, visual embeddings included.
        cached_tokens: so many of them were in the KV cache of an earlier prompt and were not computed again.
        finish: ``stop`` (the model ended, or a stop string came), ``length`` (``max_new_tokens`` or the context did) or
            ``cancelled``.
        seed: what repeats a sampled answer; None where nothing was sampled.
        stopped_by: the stop string, where one ended the answer.
        omitted: what of the prompt was left out to fit the context.
        scores: one entry a token, where asked for.
    """

    text: str
    token_ids: list[int]
    prompt_tokens: int
    finish: str
    timings: Timings
    scores: list[StepScore] | None = None
    cached_tokens: int = 0
    seed: int | None = None
    stopped_by: str | None = None
    omitted: Omitted = field(default_factory=Omitted)

    def to_dict(self) -> dict:
        """For ``--json``."""
        timings = {**asdict(self.timings), "first_token_ms": self.timings.first_token_ms}
        return {**asdict(self), "timings": timings, "tokens": len(self.token_ids)}
