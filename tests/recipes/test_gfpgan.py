"""GFP-GAN against spandrel's network with the same tensors, its layout, and what is refused."""

import pytest
import torch

import codeprior
from codeprior.families import find_family
from codeprior.generators import SynthesisNetwork
from codeprior.recipes.gfpgan.convert import convert
from codeprior.recipes.gfpgan.model import GFPGAN, fresh
from codeprior.restorers import load_restorer
from codeprior.weights.layouts.gfpgan import is_gfpgan, translate_gfpgan

Theirs = pytest.importorskip("spandrel.architectures.GFPGAN").GFPGAN

SIZES = [(32, 2, 1 / 16), (64, 1, 1 / 16), (64, 2, 1 / 8), (128, 1, 1 / 8)]


def _theirs(size: int = 32, multiplier: int = 2, narrow: float = 1 / 16) -> torch.nn.Module:
    torch.manual_seed(0)
    model = Theirs(
        out_size=size, num_style_feat=16, num_mlp=2, channel_multiplier=multiplier, narrow=narrow, input_is_latent=True,
        different_w=True,
    )  # fmt: skip
    with torch.no_grad():  # off the start, at which noise weights and biases are zero
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def _faces(size: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("size", "multiplier", "narrow"), SIZES)
def test_the_same_tensors_give_the_pictures_of_spandrel(size, multiplier, narrow):
    theirs, faces = _theirs(size, multiplier, narrow), _faces(size)
    ours = convert(theirs.state_dict()).modules["restorer"]
    with torch.no_grad():
        expected, pyramid = theirs(faces, randomize_noise=False)
        found = ours(faces)
    # single precision; weights are scaled before they are used and not before they are stored
    torch.testing.assert_close(found.image, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    for mine, other in zip(found.pyramid, pyramid, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_every_tensor_counts():
    theirs, faces = _theirs(), _faces(32, 1)
    state = theirs.state_dict()
    with torch.no_grad():
        before = convert(state).modules["restorer"](faces)
    for key, value in state.items():
        if "style_mlp" in key:
            continue
        moved = convert(state | {key: value + 0.5}).modules["restorer"]
        with torch.no_grad():
            after = moved(faces)
        pictures = [before.image, *before.pyramid], [after.image, *after.pyramid]
        assert any(not torch.equal(old, new) for old, new in zip(*pictures, strict=True)), key


def test_the_published_size_has_the_tensors_of_spandrel():
    with torch.device("meta"):
        theirs, ours = Theirs(), fresh()
    found = translate_gfpgan(theirs.state_dict())
    assert {name: tuple(value.shape) for name, value in found.tensors.items()} == {
        name: tuple(value.shape) for name, value in ours.state_dict().items()
    }
    assert found.decoder == {
        "size": 512, "dim": 512, "multiplier": 2, "narrow": 1.0, "noise": "added", "bilinear": True
    }  # fmt: skip
    assert set(found.dropped) == {key for key in theirs.state_dict() if "style_mlp" in key}


def test_a_checkpoint_is_restored_with_and_converted(tmp_path):
    theirs, faces = _theirs(), _faces(32)
    torch.save({"params_ema": theirs.state_dict()}, tmp_path / "GFPGANv1.4.pth")
    restorer = load_restorer(tmp_path / "GFPGANv1.4.pth")
    assert isinstance(restorer.model, GFPGAN) and (restorer.size, restorer.model.stride) == (32, 32)
    answer = restorer.model.restore(faces)
    assert torch.equal(answer, restorer.model.restore(faces)) and not answer.requires_grad
    codeprior.save(tmp_path / "gfpgan.safetensors", restorer.model)
    assert torch.equal(find_family("gfpgan").load(tmp_path / "gfpgan.safetensors").restore(faces), answer)


def test_what_is_no_gfpgan_is_refused(tmp_path):
    state = _theirs().state_dict()
    assert is_gfpgan(state) and not is_gfpgan({"conv_body_first.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="gfpgan: expected conv_body_first.weight and stylegan_decoder"):
        translate_gfpgan({})
    with pytest.raises(ValueError, match="gfpgan: no such model has the tensor surplus"):
        translate_gfpgan(state | {"surplus": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="Missing key"):
        convert({key: value for key, value in state.items() if key != "final_linear.bias"})
    model = fresh(32, dim=16, narrow=1 / 16)
    with pytest.raises(ValueError, match="GFPGAN: expected 32×32 images, got 64×64"):
        model.restore(_faces(64))
    with pytest.raises(ValueError, match="expected channels of 4 sides, 32 to 4, got 2"):
        GFPGAN(SynthesisNetwork(32, dim=16, narrow=1 / 16, bilinear=True), (8, 8))
    with pytest.raises(ValueError, match="expected a decoder with noise='added'"):
        GFPGAN(SynthesisNetwork(32, dim=16, narrow=1 / 16, noise="none"), (8, 8, 8, 8))
    codeprior.save(tmp_path / "other.safetensors", SynthesisNetwork(32, dim=16, narrow=1 / 16))
    with pytest.raises(ValueError, match="holds a SynthesisNetwork; a GFPGAN restores faces"):
        find_family("gfpgan").load(tmp_path / "other.safetensors")
