"""Whatever takes images says which it takes, and how what it was given becomes one."""

import numpy as np
import pytest
import torch

import codeprior as cp
from codeprior.discriminators import PartDiscriminator, PatchGAN, StyleGANDiscriminator, WaveletDiscriminator
from codeprior.images import to_signed, to_unit
from codeprior.losses import IdentityLoss, PerceptualLoss, chroma_loss, crop_parts, hatch_loss, pyramid_loss


def test_crossing_twice_and_levels_are_refused():
    unit = torch.rand(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"to_signed: expected an image in \[0, 1\], got .* -.*signed already"):
        to_signed(to_signed(unit))
    with pytest.raises(ValueError, match="divide 8-bit levels by 255"):
        to_signed(unit * 255)
    # a resize overshoots, and decoders do; NaN is left for whoever looks for it
    assert torch.equal(to_signed(unit * 1.4 - 0.2), (unit * 1.4 - 0.2) * 2 - 1)
    assert to_signed(torch.full((1,), torch.nan)).isnan().all()


def test_crossing_can_be_compiled_and_exported():
    def forward(image):
        return to_signed(image) + 1

    class Crossing(torch.nn.Module):
        def forward(self, image):
            return to_signed(image)

    image = torch.rand(1, 3, 4, 4)
    explained = torch.compile(forward, fullgraph=True, backend="eager")
    assert torch.equal(explained(image), forward(image))
    assert torch.equal(torch.export.export(Crossing(), (image,)).module()(image), to_signed(image))


@pytest.mark.parametrize("cross", [to_signed, to_unit])
def test_arrays_are_told_how_to_become_tensors(cross):
    with pytest.raises(TypeError, match=r"expected a tensor, got ndarray; torch.from_numpy\(array\) / 255"):
        cross(np.zeros((3, 4, 4), np.float32))


@pytest.fixture(scope="module")
def encoder():
    return cp.VQGANEncoder(8, channels=32, multipliers=(1, 1), blocks=1, attention=())


def test_images_that_an_encoder_cannot_take_are_refused(encoder):
    with pytest.raises(TypeError, match="its weights are torch.float32, the image torch.float16; convert"):
        encoder(torch.zeros(1, 3, 16, 16).half())
    with pytest.raises(ValueError, match=r"expected images b 3 H W, got \(3, 16, 16\); add a batch axis"):
        encoder(torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match=r"got \(1, 1, 16, 16\).*repeat a grey image three times"):
        encoder(torch.zeros(1, 1, 16, 16))
    with pytest.raises(TypeError, match="expected a tensor, got ndarray"):
        encoder(np.zeros((1, 3, 16, 16), np.float32))
    with pytest.raises(ValueError, match="its weights are on cpu, the image on meta"):
        encoder(torch.zeros(1, 3, 16, 16, device="meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(torch.zeros(1, 3, 16, 16, dtype=torch.bfloat16)).shape[0] == 1


SMALL_PYRAMID = {"size": 16, "narrow": 1 / 64}
NETWORKS = {
    "VQGANEncoder": lambda: cp.VQGANEncoder(8, channels=32, multipliers=(1, 1), blocks=1, attention=()),
    "PatchGAN": lambda: PatchGAN(4, 2),
    "StyleGANDiscriminator": lambda: StyleGANDiscriminator(**SMALL_PYRAMID),
    "WaveletDiscriminator": lambda: WaveletDiscriminator(**SMALL_PYRAMID),
    "PartDiscriminator": lambda: PartDiscriminator(4),
    "PerceptualLoss": lambda: _both(PerceptualLoss("mobilenet_v2", weights="random")),
    "IdentityLoss": lambda: _both(IdentityLoss(torch.nn.Flatten(), size=4)),
    "pyramid_loss": lambda: _both(pyramid_loss),
    "chroma_loss": lambda: _both(chroma_loss),
    "hatch_loss": lambda: _both(hatch_loss),
    "crop_parts": lambda: lambda image: crop_parts(image, size=4),
}


def _both(loss):
    return lambda image: loss(image, image)


@pytest.mark.parametrize("name", NETWORKS)
def test_whoever_takes_images_says_so(name):
    network, image = NETWORKS[name](), torch.rand(2, 3, 16, 16) * 2 - 1
    with pytest.raises(TypeError, match=f"{name}: expected floating-point images, got torch.uint8; from_levels turns"):
        network((image * 127 + 128).byte())
    for last in (image.movedim(1, -1), image[0].movedim(0, -1)):
        with pytest.raises(ValueError, match=rf"{name}: expected images b 3 H W, got .*image.movedim\(-1, -3\) puts"):
            network(last)
    for other in (image[0], image.repeat(1, 2, 1, 1), image[:, :1]):
        with pytest.raises(ValueError, match=f"{name}: expected images b 3 H W, got .*; add a batch axis"):
            network(other)
    with pytest.raises(TypeError, match=f"{name}: expected a tensor, got ndarray"):
        network(image.numpy())
    network(image)


@pytest.mark.parametrize("name", ["PatchGAN", "StyleGANDiscriminator", "WaveletDiscriminator", "PartDiscriminator"])
def test_a_discriminator_says_which_type_and_sides_it_takes(name):
    network, image = NETWORKS[name](), torch.rand(2, 3, 16, 16) * 2 - 1
    with pytest.raises(TypeError, match=f"{name}: its weights are torch.float32, the image torch.float64; convert one"):
        network(image.double())
    said = {
        "PatchGAN": "expected sides of 12 pixels or more, got 16×11; enlarge them, or build it with fewer layers",
        "PartDiscriminator": "expected sides of 4 pixels or more, got 16×3; enlarge them",
    }.get(name, "expected 16×16 images, got 16×11; resize them, or build it with their size")
    with pytest.raises(ValueError, match=f"{name}: {said}"):
        network(image[:, :, : 3 if name == "PartDiscriminator" else 11])
    # the smallest that it says it takes
    network(image[:, :, : {"PatchGAN": 12, "PartDiscriminator": 4}.get(name, 16)])


def test_a_perceptual_loss_of_two_sizes_is_refused():
    loss = PerceptualLoss("mobilenet_v2", weights="random")
    with pytest.raises(ValueError, match=r"one shape, got \(1, 3, 64, 64\) and \(1, 3, 32, 32\); resize one"):
        loss(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 32, 32))
