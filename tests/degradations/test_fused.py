"""A whole chain through the Triton kernels, in the interpreter where there is no GPU, and what chooses them."""

import importlib

import pytest
import torch

from codeprior.degradations import (
    Chain,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    KernelMix,
    Resize,
    ResizeBack,
    Round,
    Sinc,
    preset,
)
from codeprior.kernels import ImplUnavailable, use_impl

from .reference import photograph

# few taps and pixels: the interpreter takes milliseconds for each
CHAIN = Chain(
    ops=(
        KernelMix(blurs=(GaussianBlur(size=(5, 7), sigma=(0.5, 3)), Sinc(size=(7,))), weights=(2, 1)),
        Resize(factor=(1.5, 4)),
        GaussianNoise(sigma=(2, 10)),
        Jpeg(quality=(30, 95)),
        ResizeBack(),
        Round(),
    )
)
SIDES = ((24, 31), (17, 9), (8, 26))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_chain_through_the_kernels_is_the_opencv_chain():
    images = [photograph(96)[:, 30 : 30 + height, 30 : 30 + width].contiguous() for height, width in SIDES]
    drawn = CHAIN.sample(images, rng())
    with use_impl("blur_resize=triton, jpeg=triton, normal_field=triton"):
        ours = CHAIN.apply([image.to(DEVICE) for image in images], drawn, impl="torch")
    ours = [image.cpu() for image in ours]
    truth = CHAIN.apply(images, drawn, mode="strict", impl="cpu")
    assert sum(torch.equal(*pair) for pair in zip(ours, truth, strict=True)) >= 2
    for result, expected in zip(ours, truth, strict=True):
        assert (result != expected).float().mean() < 0.01


def test_strict_and_diff_do_not_fuse(monkeypatch):
    image = photograph(96)[:, :16, :16].contiguous().to(DEVICE)
    drawn = CHAIN.sample(image, rng())
    plain = CHAIN.apply(image, drawn, mode="strict", impl="torch")
    # calling it would raise; the package's attribute of that name is the function, not this module
    monkeypatch.setattr(importlib.import_module("codeprior.kernels.blur_resize"), "blur_resize", None)
    with use_impl("blur_resize=triton"):
        assert torch.equal(CHAIN.apply(image, drawn, mode="strict", impl="torch"), plain)
        CHAIN.apply(image, drawn, mode="diff")
        with pytest.raises(TypeError, match="not callable"):
            CHAIN.apply(image, drawn, impl="torch")


def test_asking_by_name_for_what_cannot_run_raises(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    image = photograph(64)
    with use_impl("jpeg=triton"), pytest.raises(ImplUnavailable, match="jpeg: use_impl asks for 'triton'.*CUDA"):
        preset("daefr")(image.expand(1, -1, -1, -1), generator=rng(), mode="diff")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["daefr", "daefr-codebook-lq", "codeformer-II", "gfpgan"])
def test_the_gpu_gives_the_cpus_images_without_waiting(name):
    op, batch = preset(name), photograph(512).expand(40, -1, -1, -1)
    drawn = op.sample(batch, rng(1))
    truth = op.apply(batch, drawn, mode="strict", impl="cpu")
    images = batch.cuda()
    op.apply(images, drawn)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours = op.apply(images, drawn)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert isinstance(ours, torch.Tensor) and isinstance(truth, torch.Tensor)
    difference = (ours.cpu().int() - truth.int()).abs()
    # the specification's goals of a fast chain
    assert (difference.amax((1, 2, 3)) == 0).float().mean() >= 0.9
    assert (difference > 0).float().mean() <= 5e-4
