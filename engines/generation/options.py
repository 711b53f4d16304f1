"""How an answer is generated: the options of ``run``, ``chat`` and the Python API in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from laco_export.errors import UsageError

_LONGEST_ANSWER = 128
PROMPT_LOOKUPS = ("exact", "close")


@dataclass(frozen=True)
class GenerationOptions:
    """Decoding options under transformers' names; greedy unless a temperature is given.

    None leaves an option as the checkpoint's ``generation_config.json`` has it, which is what PyTorch's ``generate``
    does too (where that file says nothing, transformers samples from the best 50 tokens).

    Attributes:
        max_new_tokens: the longest answer; shorter where the model's context ends.
        temperature: above 0: tokens are sampled; 0: the best is taken, whatever the checkpoint says.
        top_p: sample from the likeliest tokens that together reach this probability; 1: from all.
        top_k: sample from so many of the likeliest tokens; 0: from all.
        min_p: sample from tokens at least this share as likely as the likeliest; 0: from all.
        repetition_penalty: above 1: tokens of the prompt and the answer become less likely; 1: none.
        presence_penalty: taken off the logit of each token that the answer holds, as OpenAI's; 0: none.
        frequency_penalty: taken off it once for each time that the answer holds it; 0: none.
        seed: of the sampling; None draws one, which :attr:`~laco_engines.answering.Answer.seed` then states.
        stop: texts that end the answer and are not part of it.
        prompt_lookup: read several positions at a time where the answer may be a copy of what was said before.
            ``exact``: with the tokens of an answer without; ``close``: by logits that may differ from its in their
            rounding. Of the lean text runtime, one prompt at a time.

    Raises:
        UsageError: a value outside what it may be; the message names the flag.
    """

    max_new_tokens: int = _LONGEST_ANSWER
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    prompt_lookup: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        _whole("--max-new-tokens", self.max_new_tokens, least=1)
        _number("--temperature", self.temperature, "at least 0, where 0 takes the best token", lambda t: t >= 0)
        if self.top_p is not None:
            _number("--top-p", self.top_p, "above 0 and at most 1", lambda p: 0 < p <= 1)
        if self.top_k is not None:
            _whole("--top-k", self.top_k, least=0)
        if self.min_p is not None:
            _number("--min-p", self.min_p, "at least 0 and at most 1", lambda p: 0 <= p <= 1)
        for name in ("presence_penalty", "frequency_penalty"):
            flag = f"--{name.replace('_', '-')}"
            _number(flag, getattr(self, name), "in -2 … 2, where 0 is none", lambda p: -2 <= p <= 2)
        if self.repetition_penalty is not None:
            _number("--repetition-penalty", self.repetition_penalty, "above 0, where 1 is none", lambda r: r > 0)
        if self.seed is not None:
            _whole("--seed", self.seed, least=0)
            if self.seed >= 2**63:  # torch.manual_seed's range
                raise UsageError("--seed is too large", given=self.seed, allowed="below 2^63")
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise UsageError(
                "--stop is empty, which every answer holds at once", given=list(self.stop), allowed="a text"
            )
        if not self.sampled and any(value is not None for value in (self.top_p, self.top_k, self.min_p)):
            raise UsageError(
                "--top-p, --top-k and --min-p choose what is sampled from; without a temperature nothing is sampled",
                todo="give --temperature too, 0.7 for instance",
            )

        self._check_prompt_lookup()

    def _check_prompt_lookup(self) -> None:
        if self.prompt_lookup not in (None, *PROMPT_LOOKUPS):
            raise UsageError(
                "--prompt-lookup has no such mode", given=self.prompt_lookup, allowed=", ".join(PROMPT_LOOKUPS)
            )
        if self.prompt_lookup == "exact" and self.sampled:
            raise UsageError(
                "--prompt-lookup promises the tokens of an answer without it, and what is sampled can hang on the last "
                "bit of a probability",
                given=f"--temperature {self.temperature:g}",
                todo="leave out the temperature, or take --prompt-lookup close: one seed gives the same tokens there, "
                "but where a rounding decides",
            )

    @property
    def sampled(self) -> bool:
        return self.temperature > 0

    def with_seed(self, seed: int) -> GenerationOptions:
        """The same with a seed."""
        return replace(self, seed=seed)

    def to_generate(self) -> dict:
        """The keyword arguments of transformers' ``generate``, but for ``max_new_tokens``, the seed and the stops."""
        # None takes an option of the generation config away; what is not passed stays as that has it.
        arguments: dict = {"num_beams": 1, "do_sample": self.sampled}
        if self.repetition_penalty is not None:
            arguments["repetition_penalty"] = float(self.repetition_penalty)
        if not self.sampled:
            return arguments | {"temperature": None, "top_p": None, "top_k": None, "min_p": None}
        arguments["temperature"] = float(self.temperature)
        if self.top_p is not None:
            arguments["top_p"] = float(self.top_p)
        if self.top_k is not None:
            arguments["top_k"] = self.top_k
        if self.min_p is not None:
            arguments["min_p"] = float(self.min_p)
        return arguments


def _whole(flag: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{flag} must be a whole number of at least {least}", given=value)


def _number(flag: str, value: object, allowed: str, holds) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not holds(value) or value == float("inf"):
        raise UsageError(f"{flag} must be {allowed}", given=value)
