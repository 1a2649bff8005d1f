"""Modules that remember how they were built."""

import pytest
import torch
from torch import nn

import codeprior as cp
from codeprior.layers import build, configured


@configured
class _Scale(nn.Module):
    def __init__(self, factor: float, *, shape=(1,), inner: nn.Module | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.full(tuple(shape), factor))
        self.inner = inner


@configured
class _ScaleTwice(_Scale):
    def __init__(self, factor: float = 3.0):
        super().__init__(2 * factor)


def test_positional_named_and_default_arguments_are_all_remembered():
    assert _Scale(2.0).config == {"class": "_Scale", "factor": 2.0, "shape": [1], "inner": None}
    assert _Scale(factor=1.0, shape=(2, 3)).config["shape"] == [2, 3]


def test_a_subclass_is_remembered_as_itself():
    assert _ScaleTwice().config == {"class": "_ScaleTwice", "factor": 3.0}
    assert build(_ScaleTwice(1.5).config).weight.item() == 3.0


def test_nested_modules_come_back_from_their_config():
    model = cp.VQGAN(
        cp.VQGANEncoder(8, channels=8, multipliers=(1, 2), blocks=1, groups=4),
        cp.Codebook(16, 8),
        cp.VQGANDecoder(8, channels=8, multipliers=(1, 2), blocks=1, groups=4),
    )
    again = build(model.config)
    again.load_state_dict(model.state_dict(), strict=True)
    image = torch.rand(1, 3, 8, 8) * 2 - 1
    assert torch.equal(again(image).image, model(image).image)


def test_an_unknown_class_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no module class named 'os.system' is known; known are .*VQGAN"):
        build({"class": "os.system", "command": "true"})


def test_arguments_that_no_file_could_hold_are_refused():
    with pytest.raises(TypeError, match="argument factor is a Tensor; only JSON values and modules are kept"):
        _Scale(torch.ones(()))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="argument inner is a Linear, which is not configured itself"):
        _Scale(1.0, inner=nn.Linear(1, 1))


def test_a_class_that_is_defined_again_is_the_one_that_is_built():
    def define(factor):
        class Again(nn.Module):
            def __init__(self):
                super().__init__()
                self.factor = factor

        return configured(Again)

    config = define(1)().config  # pyright: ignore[reportAttributeAccessIssue]
    define(2)
    assert build(config).factor == 2


def test_a_second_class_of_the_same_name_is_refused():
    with pytest.raises(ValueError, match="configured: _Scale names .*test_configured already; choose another"):
        configured(type("_Scale", (nn.Module,), {"__module__": "elsewhere"}))


def test_wrong_arguments_name_the_class():
    with pytest.raises(ValueError, match="_Scale does not take these arguments"):
        build({"class": "_Scale", "colour": "red"})
