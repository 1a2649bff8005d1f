import copy
import hashlib
from types import SimpleNamespace

import pytest
import torch
import torchvision

from codeprior.metrics import (
    MobileNetTrunk,
    Provenance,
    TorchvisionTrunk,
    WeightsMissing,
    lpips_heads,
    perceptual_distance,
)
from tests.metrics.packages import mobilenet, need


def _pair(size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(2, 3, size, size, generator=generator)
    return (clean + 0.2 * torch.randn(clean.shape, generator=generator)).clamp(0, 1), clean


@pytest.mark.parametrize(("short", "name"), [("vgg", "vgg16"), ("alex", "alexnet")])
def test_lpips_agrees_with_the_lpips_package(tmp_path, monkeypatch, short, name):
    need("lpips")
    import lpips

    with torch.device("meta"):
        layers = getattr(torchvision.models, name)(weights=None).features
    layers = layers.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in layers.parameters():
        parameter.data.normal_(std=0.05, generator=generator)
    # the package builds the whole classifier, which takes half a minute
    monkeypatch.setattr(torchvision.models, name, lambda **_: SimpleNamespace(features=copy.deepcopy(layers)))
    reference = lpips.LPIPS(net=short, pnet_rand=True, verbose=False).eval()
    # random weights in the layout of torchvision's file
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, tmp_path / "trunk.pth")
    trunk = TorchvisionTrunk(tmp_path / "trunk.pth", name=name, sha256="")
    restored, clean = _pair()
    with torch.no_grad():
        expected = reference(restored * 2 - 1, clean * 2 - 1).flatten()
    found = perceptual_distance(restored, clean, trunk=trunk, heads=lpips_heads(name))
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4)  # float32; the scaling constants round apart


def test_identical_images_have_no_distance_and_noise_moves_away():
    trunk, (_, clean) = mobilenet(), _pair()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    distances = [perceptual_distance((clean + s * noise).clamp(0, 1), clean, trunk=trunk) for s in (0, 0.05, 0.2)]
    assert distances[0].tolist() == [0, 0]
    assert (distances[0] < distances[1]).all()
    assert (distances[1] < distances[2]).all()


def test_distance_is_the_formula_of_its_features():
    class Trunk:
        record = Provenance(network="two maps of pixels")

        def __call__(self, images):
            return [images[:, :2], images[:, :1]]

    first = torch.tensor([0.3, 0.4, 0]).view(1, 3, 1, 1)
    second = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    heads = [torch.tensor([2.0, 10]), torch.tensor([7.0])]
    found = perceptual_distance(first, second, trunk=Trunk(), heads=heads)
    assert found.item() == pytest.approx(2 * 0.4**2 + 10 * 0.8**2)  # (3, 4) / 5 against (1, 0)


def test_heads_of_another_trunk_are_refused():
    with pytest.raises(ValueError, match=r"heads of \[16, 24, 32, 96\] channels, got \[3\]"):
        perceptual_distance(*_pair(), trunk=mobilenet(), heads=[torch.ones(3)])


def test_weights_carry_their_checksum_and_wrong_ones_are_refused(tmp_path):
    record = mobilenet().record
    assert record.sha256.startswith("b0353104")
    assert record.colours == "rgb"
    (tmp_path / "vgg.pth").write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()[:16]
    with pytest.raises(ValueError, match=f"begins 397923af, got {found}"):
        TorchvisionTrunk(tmp_path / "vgg.pth")
    with pytest.raises(WeightsMissing, match=r"no weights at .*nowhere\.pth"):
        MobileNetTrunk(tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match="vgg16 or alexnet, got 'resnet'"):
        lpips_heads("resnet")
