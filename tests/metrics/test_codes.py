import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeprior.metrics import code_accuracy, codebook_usage


def test_accuracy_counts_the_places_whose_true_code_scores_best():
    logits = torch.tensor([[[[0.0, 1, 2], [3, 1, 2]]], [[[0, 0, 1], [9, 8, 7]]]])  # 2 1 2 3
    indices = torch.tensor([[[2, 1]], [[2, 0]]])
    assert code_accuracy(logits, indices).tolist() == [0.5, 1.0]
    assert code_accuracy(logits, indices, top=3).tolist() == [1.0, 1.0]


def test_accuracy_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="of one grid"):
        code_accuracy(torch.zeros(1, 2, 2, 5), torch.zeros(1, 2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="top within 1 … 5"):
        code_accuracy(torch.zeros(1, 2, 2, 5), torch.zeros(1, 2, 2, dtype=torch.long), top=6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6))
def test_even_use_has_the_perplexity_of_its_codes(used: int, times: int):
    usage = codebook_usage(torch.arange(used).repeat(times), 40)
    assert (usage.used, usage.share) == (used, used / 40)
    assert usage.perplexity == pytest.approx(used, rel=1e-9)


def test_usage_refuses_what_is_no_code():
    with pytest.raises(ValueError, match="within 0 … 7, got 3 … 8"):
        codebook_usage(torch.tensor([3, 8]), 8)
    with pytest.raises(ValueError, match="at least one index"):
        codebook_usage(torch.empty(0, dtype=torch.long), 8)
