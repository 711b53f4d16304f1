"""How far a student's tokens are from a teacher's: relative error, cosine, and divergence of predictions.

All are taken in FP32 for each picture or sample, so that a mean over any batches is the mean over the pictures.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def feature_errors(student: Tensor, teacher: Tensor) -> Tensor:
    """‖s − t‖² / ‖t‖² of each picture over all of its tokens: ``[B, T, D]`` both -> float32 ``[B]``."""
    student, teacher = student.float(), teacher.float()
    return (student - teacher).pow(2).sum((1, 2)) / teacher.pow(2).sum((1, 2))


def token_cosines(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean cosine of each picture's tokens with the teacher's: ``[B, T, D]`` both -> float32 ``[B]``."""
    return F.cosine_similarity(student.float(), teacher.float(), dim=-1).mean(1)


def divergences(student: Tensor, teacher: Tensor, rows: Tensor, samples: int) -> Tensor:
    """KL(teacher ‖ student) of the next token, in nats: the mean over each sample's positions, float32 ``[samples]``.

    Args:
        student, teacher: logits ``[n, V]`` of the positions that count.
        rows: int64 ``[n]``, the sample of each position.
        samples: each has at least one position.
    """
    student, teacher = F.log_softmax(student.float(), -1), F.log_softmax(teacher.float(), -1)
    each = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)  # [n]
    sums = each.new_zeros(samples).index_add(0, rows, each)
    return sums / rows.bincount(minlength=samples)
