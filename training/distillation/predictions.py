"""What the language model predicts behind a picture: the same answers behind the teacher's features and the student's.

Teacher and student give a picture different numbers of tokens, so that each has a prompt of its own; the answers'
tokens are the same, and their predictions are compared one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..data import IGNORED


class Answers(NamedTuple):
    """Conversations with one picture each, as :class:`~laco_training.data.Collator` pads them.

    Attributes:
        input_ids, labels, attention_mask: ``[B, T]``; any number of image tokens in a row stands for its picture.
        image_token_id: of these.
    """

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor
    image_token_id: int

    @property
    def rows(self) -> Tensor:
        """int64 ``[n]``: the row of each token that counts, in the order of :func:`answer_logits`."""
        return (self.labels[:, 1:] != IGNORED).nonzero()[:, 0]


def answer_logits(language_model: nn.Module, answers: Answers, pictures: Sequence[Tensor]) -> Tensor:
    """The logits ``[n, V]`` that predict each token that counts, row by row.

    Args:
        language_model: a transformers causal language model.
        pictures: each row's visual embeddings ``[tokens, D]``.
    """
    embed = language_model.get_input_embeddings()
    prompts, predicting = [], []
    for place, picture in enumerate(pictures):
        mask = answers.attention_mask[place].bool()
        ids, labels = answers.input_ids[place][mask], answers.labels[place][mask]
        shown = (ids == answers.image_token_id).nonzero()[:, 0]
        first, behind = int(shown[0]), int(shown[-1]) + 1
        texts = embed(ids)  # [T, D]
        prompts.append(torch.cat((texts[:first], picture.to(texts), texts[behind:])))
        moved = len(picture) - (behind - first)
        predicting.append((labels != IGNORED).nonzero()[:, 0] - 1 + moved)  # answers follow their picture
    lengths = [len(prompt) for prompt in prompts]
    inputs = nn.utils.rnn.pad_sequence(prompts, batch_first=True)  # [B, T', D]
    mask = torch.arange(max(lengths), device=inputs.device) < torch.tensor(lengths, device=inputs.device)[:, None]
    hidden = language_model.get_decoder()(inputs_embeds=inputs, attention_mask=mask.long(), use_cache=False)[0]
    chosen = torch.cat([hidden[place, positions] for place, positions in enumerate(predicting)])  # [n, D]
    return language_model.get_output_embeddings()(chosen)
