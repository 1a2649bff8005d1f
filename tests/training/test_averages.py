"""Averages of weights: the formula, what is copied, and going on from a saved one."""

import copy

import pytest
import torch
from torch import nn

from codeprior.codebooks import MovingAverageCodebook
from codeprior.training import WeightAverage


def test_the_average_follows_its_formula():
    module = nn.Linear(2, 2).double()
    average, decay = WeightAverage(module, decay=0.3), 0.3
    expected = module.weight.detach().clone()
    for update in range(6):
        with torch.no_grad():
            module.weight.add_(1)
        average.update()
        share = min(decay, (1 + update) / (10 + update))
        expected = share * expected + (1 - share) * module.weight.detach()
    torch.testing.assert_close(average.module.weight, expected)
    assert not average.module.weight.requires_grad and module.weight.requires_grad


def test_floating_buffers_are_averaged_and_whole_numbers_copied():
    codebook = MovingAverageCodebook(4, 2)
    average = WeightAverage(codebook, decay=0.9)
    before = codebook.weight.clone()
    codebook.train()(torch.randn(1, 2, 3, 3))
    average.update()
    assert int(average.module.step) == int(codebook.step) == 1
    # the first update keeps a tenth of the beginning
    torch.testing.assert_close(average.module.weight, 0.1 * before + 0.9 * codebook.weight)


def test_a_part_that_was_set_anew_is_taken_as_it_is():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    average = WeightAverage(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    average.copy("1")
    assert torch.equal(average.module[1].weight, module[1].weight)
    assert not torch.equal(average.module[0].weight, module[0].weight)


def test_a_saved_average_goes_on_to_the_bit():
    module = nn.Linear(3, 3)
    average = WeightAverage(module, decay=0.5)
    average.update()
    again = WeightAverage(nn.Linear(3, 3), decay=0.5)
    again.load_state_dict(copy.deepcopy(average.state_dict()))
    again._source = module
    with torch.no_grad():
        module.weight.mul_(2)
    average.update()
    again.update()
    assert again.updates == 2 and torch.equal(average.module.weight, again.module.weight)


def test_without_a_decay_what_is_trained_is_handed_on_and_nothing_is_saved():
    module = nn.Linear(3, 3)
    average = WeightAverage(module, decay=None)
    before = module.weight.detach().clone()
    average.update()
    average.copy("")
    assert average.module is module and module.weight.requires_grad and module.training
    assert torch.equal(module.weight, before) and average.updates == 0
    assert average.parts == {} and WeightAverage(module).parts.keys() == {"average"}


def test_a_decay_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"WeightAverage: expected decay in \[0, 1\), or None for no average, got 1"):
        WeightAverage(nn.Linear(1, 1), decay=1.0)
