"""One error for all that is wrong with a folder's tensors."""

from pathlib import Path

import pytest
import torch

from laco_export.errors import CheckpointError
from laco_export.models.tensor_audit import TensorAudit, is_finite, refuse_not_finite

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("place", [0, 500, 1023])
def test_inf_and_nan_are_seen_wherever_they_stand(dtype, place):
    tensor = torch.full((32, 32), torch.finfo(dtype).max, dtype=dtype)
    tensor[::2] = torch.finfo(dtype).min  # sums of these overflow
    assert is_finite(tensor)
    for value in ("inf", "-inf", "nan"):
        broken = tensor.clone()
        broken.view(-1)[place] = float(value)
        assert not is_finite(broken) and not is_finite(broken.t())


def test_what_is_no_float_or_empty_is_finite():
    assert is_finite(torch.arange(3)) and is_finite(torch.zeros(0, 4))


def test_all_kinds_are_told_at_once():
    audit = TensorAudit(Path("here"))
    assert audit.fits("a", (2, 3), torch.Size((2, 3))) and not audit.fits("b", (2, 3), (3, 2))
    audit.missing += {"z", "y", "x", "w", "v"}
    audit.unexpected.append("model.z")
    with pytest.raises(CheckpointError, match="the tensors of 'here' are not those") as refused:
        audit.close()
    assert refused.value.given == (
        "missing: v, w, x and 2 more; unexpected: model.z; of another shape: b (2, 3) for (3, 2)"
    )


def test_weights_that_are_no_numbers_are_named():
    tensors = {"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")]), "c": torch.empty(2, device="meta")}
    with pytest.raises(CheckpointError, match=r"not all finite numbers(.|\n)*inf or NaN in b\b"):
        refuse_not_finite(Path("here"), tensors.items())
    refuse_not_finite(Path("here"), [("a", tensors["a"])])
