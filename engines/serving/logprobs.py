"""Log-probabilities in OpenAI's form: ``choices[0].logprobs.content``, a record for each token of the text.

A record has the token as text and as bytes: several tokens may make one character, and the text of each is a
replacement character then. Tokens that are not of the text are left out: special ones, among them the one that
ends the answer, and those of a stop string.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from ..generation.token_bytes import TokenBytes
from ..generation.token_logprobs import TokenLogprob, TokenLogprobs


class SentLogprobs:
    """The log-probabilities of one answer's text, as it is sent; read by the event loop while the worker records.

    Args:
        tokenizer: the bundle's.
        recorded: the answer's logits processor.
    """

    def __init__(self, tokenizer: Tokenizer, recorded: TokenLogprobs):
        self._tokenizer, self._recorded = tokenizer, recorded
        self._bytes = TokenBytes(tokenizer)
        self._special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._text, self._sent = "", 0

    def behind(self, text: str) -> dict:
        """``logprobs`` of the tokens that ``text``, the answer's next piece, takes behind those before."""
        self._text += text
        steps, first = self._recorded.steps, self._sent
        while self._sent < len(steps) and not self._hold(steps[: self._sent]):
            self._sent += 1
        said = [step for step in steps[first : self._sent] if step.token_id not in self._special]
        return {"content": list(map(self._record, said)), "refusal": None}

    def _hold(self, steps: Sequence[TokenLogprob]) -> bool:
        said = self._tokenizer.decode([step.token_id for step in steps], skip_special_tokens=True)
        return said.startswith(self._text)

    def _record(self, step: TokenLogprob) -> dict:
        return {
            **self._token(step.token_id, step.logprob),
            "top_logprobs": [self._token(*pair) for pair in step.likeliest],
        }

    def _token(self, token_id: int, logprob: float) -> dict:
        data = self._bytes[token_id]
        return {"token": data.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(data)}
