"""A chain is rewritten before it runs: which steps become one, and that whoever writes an op can join in."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from codeprior.degradations import Blur, Chain, GaussianBlur, Jpeg, MotionBlur, Resize, ResizeBack, Round, preset
from codeprior.degradations._fusion import ON_ANY_DEVICE, ON_THE_CPU, FromPlanes, Pattern, ToPlanes, rewritten
from codeprior.degradations.op import Op, Part

from .reference import photograph


def steps_of(*ops: Op) -> list[Part]:
    """The steps of a chain with values drawn for an image of 64×64."""
    chain = Chain(ops=ops)
    drawn = chain.sample((64, 64), torch.Generator().manual_seed(0))
    return chain._parts({name: value[0].numpy() for name, value in drawn.values.items()})


def on_the_cpu(*ops: Op) -> list[str]:
    steps = [(FromPlanes(), {}), *steps_of(*ops), (ToPlanes(dtype=np.uint8), {})]
    return [type(op).__name__ for op, _ in rewritten(steps, ON_THE_CPU)]


def on_a_device(*ops: Op) -> list[str]:
    return [type(op).__name__ for op, _ in rewritten(steps_of(*ops), ON_ANY_DEVICE)]


def test_both_ends_of_a_face_chain_become_one_step_each():
    ops = preset("daefr").ops
    assert on_the_cpu(*ops) == ["BlurThenResize", "GaussianNoise", "Jpeg", "ResizeThenRound"]
    assert on_a_device(*ops) == ["BlurThenResize", "GaussianNoise", "Jpeg", "ResizeBack", "Round"]


def test_a_step_goes_into_one_pattern_only():
    assert on_the_cpu(GaussianBlur(), Resize(), Round()) == ["BlurThenResize", "Round", "ToPlanes"]
    assert on_the_cpu(Resize(), Round()) == ["FromPlanes", "ResizeThenRound"]


def test_a_blur_in_the_middle_is_fused_on_devices_alone():
    middle = (Jpeg(), MotionBlur(size=(7,), length=(3, 7)), Resize(), Jpeg())
    assert on_the_cpu(*middle) == ["FromPlanes", "Jpeg", "MotionBlur", "Resize", "Jpeg", "ToPlanes"]
    assert on_a_device(*middle) == ["Jpeg", "BlurThenResize", "Jpeg"]


@pytest.mark.parametrize("changes", [{"interpolation": "area"}, {"rules": "torch"}])
def test_other_resizing_is_left_alone(changes):
    ops = (GaussianBlur(), Resize(**changes), ResizeBack(**changes), Round())
    plain = ["GaussianBlur", "Resize", "ResizeBack", "Round"]
    assert on_the_cpu(*ops) == ["FromPlanes", *plain, "ToPlanes"]
    assert on_a_device(*ops) == plain


def test_a_batch_with_two_interpolations_is_not_fused():
    chain = Chain(ops=(GaussianBlur(), Resize(interpolation=("bilinear", "bicubic"))))
    drawn = chain.sample((20, 64, 64), torch.Generator().manual_seed(0))
    values = {name: value.numpy() for name, value in drawn.values.items()}
    assert set(values["resize.interpolation"]) == {0, 1}
    assert [op for op, _ in rewritten(chain._parts(values), ON_ANY_DEVICE)] == list(chain.ops)
    values["resize.interpolation"] = np.zeros(20, np.uint8)
    assert len(rewritten(chain._parts(values), ON_ANY_DEVICE)) == 1


def test_a_fused_step_without_its_kernel_does_the_two_one_after_the_other():
    chain, image = Chain(ops=(GaussianBlur(size=(9,)), Resize(factor=(2, 3)))), photograph(64) / 255
    drawn = chain.sample(image, torch.Generator().manual_seed(0))
    # the CPU has no kernel for batches, so the fast mode is the strict one there
    fast, strict = (chain.apply(image, drawn, mode=mode, impl="torch") for mode in ("fast", "strict"))
    assert torch.equal(fast, strict)


@dataclass(frozen=True, kw_only=True)
class Box(Blur):
    """A user's own blur: the mean of a square, as a Gaussian of no end."""

    def _kernels(self, draws):
        return GaussianBlur(size=(5,), sigma=(1e3, 1e3), isotropic=1)._kernels(draws)


def test_a_users_op_joins_by_saying_what_it_is():
    assert on_the_cpu(Box(), Resize(), Jpeg())[0] == "BlurThenResize"


def test_patterns_are_tried_in_order_and_the_rest_stays():
    first, second = (Pattern(("round", "round"), lambda *run, name=name: (Named(name), {})) for name in "ab")
    steps = steps_of(Round(), Round(), Round(), Jpeg(), Round(), Round())
    found = [getattr(op, "name", type(op).__name__) for op, _ in rewritten(steps, [first, second])]
    assert found == ["a", "Round", "Jpeg", "a"]
    assert rewritten(steps, []) == steps


class Named(Op):
    """A step that can be told from others."""

    def __init__(self, name: str):
        self.name = name
