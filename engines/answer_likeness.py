"""How alike two answers to one question are, where nobody knows the right one.

::

    alike = answer_likeness(reference_answer.token_ids, reference_answer.text, answer.token_ids, answer.text)

Tokens are compared, so both must come from one tokenizer. Beside such figures belongs the reference's own
repeatability: the same comparison of two answers of the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True)
class AnswerLikeness:
    """Of an answer to the reference's.

    Attributes:
        same_text: the texts are equal but for space around them.
        same_first_token: the first tokens are equal.
        prefix: tokens before the first that differs.
        of: the reference's tokens, its end token included.
    """

    same_text: bool
    same_first_token: bool
    prefix: int
    of: int

    @property
    def prefix_share(self) -> float:
        """0 … 1; of an empty reference 1 where the other is empty too."""
        return self.prefix / self.of if self.of else float(self.same_text)


def answer_likeness(
    reference_ids: Sequence[int], reference_text: str, token_ids: Sequence[int], text: str
) -> AnswerLikeness:
    """Compare an answer with the reference's, both greedy and of one tokenizer."""
    pairs = zip(reference_ids, token_ids)
    prefix = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    first = bool(prefix) or not (reference_ids or token_ids)
    return AnswerLikeness(reference_text.strip() == text.strip(), first, prefix, len(reference_ids))
