"""Code predictors."""

import pytest
import torch

import codeprior as cp
from codeprior.predictors import LinearPredictor


def test_the_defaults_have_the_published_size():
    with torch.device("meta"):
        predictor = cp.CodePredictor()
    assert sum(p.numel() for p in predictor.parameters()) == 19_713_024


def test_logits_stand_on_the_grid_row_by_row():
    predict = cp.CodePredictor(6, 10, grid=(3, 2), width=16, layers=2, heads=4, hidden=32).double()
    latent = torch.randn(2, 6, 3, 2, dtype=torch.float64)
    logits = predict(latent)
    assert logits.shape == (2, 3, 2, 10)
    # without positions the places are a set: exchanging two of them exchanges their logits
    swapped = latent.clone()
    swapped[:, :, 0, 1], swapped[:, :, 2, 0] = latent[:, :, 2, 0], latent[:, :, 0, 1]
    torch.testing.assert_close(predict(swapped)[:, 2, 0], logits[:, 0, 1], rtol=1e-9, atol=1e-9)


def test_positions_begin_at_zero_and_break_the_symmetry_once_learned():
    predict = cp.CodePredictor(6, 10, grid=(2, 2), width=16, layers=1, heads=4, hidden=32)
    assert not predict.position.any()
    latent = torch.randn(1, 6, 1, 1).expand(1, 6, 2, 2).contiguous()
    assert torch.allclose(predict(latent)[0, 0, 0], predict(latent)[0, 1, 1], atol=1e-6)
    torch.nn.init.normal_(predict.position)
    varied = torch.randn(1, 6, 2, 2)
    before = predict(varied)
    torch.nn.init.normal_(predict.position)
    assert not torch.allclose(predict(varied), before)


def test_another_grid_or_dimension_is_refused_with_the_way_out():
    predict = cp.CodePredictor(6, 10, width=16, layers=1, heads=4, hidden=32)
    expected = r"expected a 16×16 grid of codes, got 8×8; give .* of 16×16 times its stride, or set grid=\(8, 8\)\."
    with pytest.raises(ValueError, match=expected):
        predict(torch.zeros(1, 6, 8, 8))
    with pytest.raises(ValueError, match="expected latents of dimension 6, got 5"):
        predict(torch.zeros(1, 5, 16, 16))


def test_a_linear_predictor_looks_at_one_place_alone():
    predict = LinearPredictor(4, 7)
    latent = torch.randn(1, 4, 2, 3)
    other = latent.clone()
    other[..., 0, 0] = 9
    assert torch.equal(predict(latent)[:, 1:], predict(other)[:, 1:])
    torch.testing.assert_close(predict(latent)[0, 1, 2], predict.to_logits(latent[0, :, 1, 2]))


def _two_tables(**changes):
    torch.manual_seed(0)
    return cp.CodePredictor(6, 10, grid=(2, 3), width=16, layers=1, heads=4, hidden=32, tables=2, **changes).double()


def test_a_later_table_is_told_the_codes_of_the_one_before():
    predict, latent = _two_tables(), torch.randn(2, 6, 2, 3, dtype=torch.float64)
    known = torch.randint(0, 10, (2, 2, 2, 3))
    logits = predict(latent, known)
    assert logits.shape == (2, 2, 2, 3, 10)
    changed = predict(latent, known.clone().index_put_((torch.tensor(0), torch.tensor(0)), torch.tensor(3)))
    assert torch.equal(logits[:, 0], changed[:, 0])  # the first table sees no code
    assert not torch.allclose(logits[0, 1], changed[0, 1]) and torch.equal(logits[1], changed[1])
    # the second table's own codes are never an input
    assert torch.equal(logits, predict(latent, torch.stack((known[:, 0], 9 - known[:, 1]), 1)))


def test_without_known_codes_the_likeliest_are_told():
    predict, latent = _two_tables(), torch.randn(2, 6, 2, 3, dtype=torch.float64)
    free = predict(latent)
    assert torch.equal(free, predict(latent, free.argmax(-1)))


def test_known_codes_of_another_grid_are_refused():
    with pytest.raises(ValueError, match=r"expected known codes \(1, 2, 2, 3\), got \(1, 2, 2, 2\)"):
        _two_tables()(torch.zeros(1, 6, 2, 3).double(), torch.zeros(1, 2, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected at least 1 table, got 0"):
        cp.CodePredictor(6, 10, tables=0)


def test_positions_are_interpolated_to_other_grids_where_that_is_allowed():
    torch.manual_seed(0)
    sizes = {"dim": 4, "size": 9, "grid": (4, 4), "width": 8, "layers": 2, "heads": 2, "hidden": 8}
    strict, free = cp.CodePredictor(**sizes), cp.CodePredictor(**sizes, any_grid=True)
    torch.nn.init.normal_(strict.position)
    free.load_state_dict(strict.state_dict())
    latent = torch.randn(1, 4, 4, 4)
    # on the grid of training nothing changes, to the bit
    assert torch.equal(free(latent), strict(latent))
    assert free(torch.randn(2, 4, 3, 6)).shape == (2, 3, 6, 9)
    # a table that is the same everywhere stays so, so the grid alone does not change a constant latent's scores
    torch.nn.init.constant_(free.position, 0.3)
    flat = torch.ones(1, 4, 1, 1)
    torch.testing.assert_close(free(flat.expand(1, 4, 6, 6))[0, 0, 0], free(flat.expand(1, 4, 4, 4))[0, 0, 0])


def test_a_normalised_linear_predictor_does_not_see_the_scale():
    torch.manual_seed(0)
    predictor = cp.predictors.LinearPredictor(16, 9, normalised=True)
    latent = torch.randn(1, 16, 2, 3)
    torch.testing.assert_close(predictor(latent), predictor(7 * latent), rtol=1e-3, atol=1e-4)
    plain = cp.predictors.LinearPredictor(16, 9)
    assert not torch.allclose(plain(latent), plain(7 * latent))


def test_a_linear_predictor_of_several_tables_scores_each_of_them():
    torch.manual_seed(0)
    predictor = LinearPredictor(4, 7, tables=3)
    latent = torch.randn(2, 4, 5, 6)
    logits = predictor(latent)
    assert logits.shape == (2, 3, 5, 6, 7)
    weight, bias = predictor.to_logits.weight, predictor.to_logits.bias
    expected = latent[1, :, 2, 3] @ weight[14:].T + bias[14:]
    torch.testing.assert_close(logits[1, 2, 2, 3], expected)
