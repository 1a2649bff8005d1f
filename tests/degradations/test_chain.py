"""Chains against the plain OpenCV chain, and replay."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeprior.degradations import Params, concatenate, preset, preset_names

from .reference import degraded, photograph

pytestmark = pytest.mark.filterwarnings("ignore:preset")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["daefr", "daefr-codebook-lq", "codeformer-II"])
def test_modes_agree_with_the_opencv_chain(name):
    image = photograph(256)
    op = preset(name)
    drawn = op.sample((20, 256, 256), rng(3))
    batch = image.expand(20, -1, -1, -1)
    truth = torch.stack([degraded(image, drawn, row) for row in range(20)])
    for mode, impl, share in (("strict", "cpu", 1.0), ("strict", "torch", 0.95), ("fast", "cpu", 0.9)):
        result = op.apply(batch, drawn, mode=mode, impl=impl)
        difference = (result.int() - truth.int()).abs().amax((1, 2, 3))
        assert (difference == 0).float().mean() >= share, (mode, impl)
        if mode == "strict":
            # a rounding that falls the other way moves one level, unless a JPEG coefficient follows it
            assert difference.max() <= 1


@given(seed=st.integers(0, 2**31), count=st.integers(1, 4))
@settings(max_examples=8, deadline=None)
def test_a_batch_draws_what_its_images_draw_one_by_one(seed, count):
    op, image = preset("daefr"), photograph(64)
    together = op(image.expand(count, -1, -1, -1), generator=rng(seed))
    alone = rng(seed)
    for result in together:
        assert torch.equal(op(image, generator=alone), result)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_replays_bit_for_bit_from_a_small_record(name, tmp_path):
    side = 256 if name == "gpen-paper" else 96
    op, image = preset(name), photograph(side).expand(3, -1, -1, -1)
    result, drawn = op.trace(image, generator=rng(5))
    assert drawn.bytes_per_sample <= 256
    if drawn.values:
        drawn.save(tmp_path / "drawn.safetensors")
        drawn = Params.load(tmp_path / "drawn.safetensors")
    again = op.apply(image.flip(0), drawn[[2, 1, 0]]).flip(0)
    assert torch.equal(again, result)
    assert torch.equal(op.apply(image[1], drawn[1]), result[1])
    assert torch.equal(op.apply(image, concatenate([drawn[:1], drawn[1:]])), result)


def test_torch_and_cpu_agree_for_every_preset():
    for name in preset_names():
        op, image = preset(name), photograph(256).expand(2, -1, -1, -1)
        drawn = op.sample(image, rng(1))
        ours, truth = (op.apply(image, drawn, mode="strict", impl=impl).int() for impl in ("torch", "cpu"))
        # torch's float32 interpolation flips a byte of Real-ESRGAN's chain before its JPEG now and then
        assert (ours != truth).float().mean() <= (0.01 if name == "realesrgan" else 1e-4), name


def test_lists_of_any_sizes_and_types_keep_their_form():
    op = preset("daefr")
    images = [photograph(64), photograph(64)[:, :33, :50]]
    results = preset("codeformer-III-small")(images, generator=rng(4))
    assert [tuple(result.shape) for result in results] == [(3, 64, 64), (3, 33, 50)]
    unit = op(photograph(64) / 255, generator=rng(0))
    assert unit.dtype == torch.float32
    assert torch.equal((unit * 255).round().to(torch.uint8), op(photograph(64), generator=rng(0)))


def test_a_replaced_value_changes_the_picture_and_nothing_else():
    op, image = preset("daefr"), photograph(64)
    drawn = op.sample(image, rng(0))
    changed = drawn.replace(quality=5)
    assert changed.values["jpeg.quality"].item() == 5
    assert not torch.equal(op.apply(image, changed), op.apply(image, drawn))
    with pytest.raises(ValueError, match="one value called size, got 3"):
        drawn.replace(size=3)


def test_the_caller_and_the_global_generator_stay_untouched():
    torch.manual_seed(7)
    state, image = torch.get_rng_state(), photograph(64)
    kept = image.clone()
    preset("gfpgan")(image, generator=rng(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(image, kept)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (torch.full((3, 64, 64), float("nan")), "sample 0: expected unit floats in \\[0, 1\\], got values from nan"),
        (torch.full((2, 3, 64, 64), -1.0), "sample 0: expected unit floats"),
        (torch.zeros(1, 64, 64), "expected 3 H W with RGB"),
        (torch.zeros(3, 1, 1), "expected a result of one pixel or more"),
    ],
)
def test_bad_images_are_named_before_any_work(image, text):
    with pytest.raises(ValueError, match=text):
        preset("codeformer-II")(image, generator=rng(0))


def test_bad_calls_say_what_to_do():
    op, image = preset("daefr"), photograph(64)
    with pytest.raises(TypeError, match="expected a torch.Generator, got None"):
        op(image)
    with pytest.raises(ValueError, match="expected one of .*daefr.*; got 'nope'"):
        preset("nope")
    drawn = op.sample(image, rng(0))
    with pytest.raises(ValueError, match="drawn for 64×64 pixels, the image has 32×64"):
        op.apply(image[:, :32], drawn)
    with pytest.raises(ValueError, match="expected values for 2 samples, got 1"):
        op.apply(image.expand(2, -1, -1, -1), drawn)
    with pytest.raises(ValueError, match="sample 0: expected a quality from 1 to 100"):
        op.apply(image, drawn.replace(quality=0))
    with pytest.warns(UserWarning, match="is partial"):
        preset("lcqs-severe")
