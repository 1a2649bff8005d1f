"""The perceptual loss against its written-out formula, and the promises of the network behind it."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from codeprior.losses import (
    FeatureNetwork,
    MobileNetFeatures,
    PerceptualLoss,
    TimmFeatures,
    VGGFeatures,
    feature_network,
)
from codeprior.losses.features import read_weights


class _Bands(nn.Module):
    """Two maps that can be written down: the image, and its sum over channels next to a constant."""

    channels = (3, 2)
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    def forward(self, image: Tensor) -> list[Tensor]:
        total = image.sum(1, keepdim=True)
        return [image, torch.cat([total, torch.ones_like(total)], 1)]


def _images(side: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(2, 3, side, side, generator=generator) * 2 - 1 for _ in range(2))


def test_distance_is_the_written_out_formula():
    image, target = _images()
    loss = PerceptualLoss(_Bands())
    with torch.no_grad():
        loss.lin1.model[1].weight.copy_(torch.tensor([0.5, -2.0]).reshape(1, 2, 1, 1))
    truth = 0.0
    for batch in range(2):
        for y in range(5):
            for x in range(5):
                a, b = image[batch, :, y, x], target[batch, :, y, x]
                truth += ((a / a.norm() - b / b.norm()) ** 2).sum() / 50
                a, b = torch.stack([a.sum(), torch.tensor(1.0)]), torch.stack([b.sum(), torch.tensor(1.0)])
                truth += (((a / a.norm() - b / b.norm()) ** 2) * torch.tensor([0.5, -2.0])).sum() / 50
    # float32 sums of 50 places
    assert loss(image, target).item() == pytest.approx(truth.item(), rel=1e-5)


def test_a_batch_is_the_mean_of_its_images():
    image, target = _images()
    loss = PerceptualLoss(_Bands())
    each = loss.compare(loss.features(image), loss.features(target))
    assert each.shape == (2,)
    singles = torch.stack([loss(image[i : i + 1], target[i : i + 1]) for i in range(2)])
    assert torch.allclose(each, singles)
    assert torch.allclose(loss(image, target), singles.mean())


def test_an_image_is_at_distance_zero_from_itself_and_the_gradient_is_finite():
    image = torch.zeros(1, 3, 32, 32, requires_grad=True)
    loss = PerceptualLoss("vgg16", weights="random")
    distance = loss(image, torch.zeros(1, 3, 32, 32))
    distance.backward()
    assert distance.item() == 0
    assert torch.isfinite(image.grad).all()


def test_gradient_is_finite_where_every_feature_is_zero():
    image = torch.zeros(1, 3, 4, 4, requires_grad=True)
    PerceptualLoss(_Bands())(image, torch.ones(1, 3, 4, 4)).backward()
    assert torch.isfinite(image.grad).all()


def test_gradient_passes_gradcheck():
    loss = PerceptualLoss(_Bands()).double()
    image, target = (tensor.double() for tensor in _images(side=2))
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (image.requires_grad_(),))


def test_it_stays_frozen_in_evaluation_mode_and_never_drops_out():
    outer = nn.Sequential(PerceptualLoss("mobilenet_v2", weights="random"))
    outer.train()
    inner = outer[0]
    assert not any(module.training for module in inner.modules())
    assert not any(parameter.requires_grad for parameter in inner.parameters())
    assert not any(isinstance(module, nn.Dropout) for module in inner.modules())


def test_vgg_keys_keep_torchvision_numbers():
    assert {key.rsplit(".", 1)[0] for key in VGGFeatures().state_dict()} == {
        "slice1.0", "slice1.2", "slice2.5", "slice2.7", "slice3.10", "slice3.12", "slice3.14",
        "slice4.17", "slice4.19", "slice4.21", "slice5.24", "slice5.26", "slice5.28",
    }  # fmt: skip


@pytest.mark.parametrize("variant", ["vgg16", "vgg19"])
def test_vgg_gives_torchvision_activations(variant: str):
    import torchvision

    torch.manual_seed(0)
    truth = getattr(torchvision.models, variant)(weights=None).eval()
    network = VGGFeatures(variant)
    network.load_torchvision(truth.state_dict())
    layers = {"vgg16": (3, 8, 15, 22, 29), "vgg19": (3, 8, 17, 26, 35)}[variant]
    image, expected = torch.randn(1, 3, 32, 32), []
    with torch.no_grad():
        maps, current = network(image), image
        for number, layer in enumerate(truth.features):
            current = layer(current)
            if number in layers:
                expected.append(current.clone())
    assert [map_.shape[1] for map_ in maps] == list(network.channels)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(maps, expected, strict=True))


def test_chosen_layers_decide_maps_and_channels():
    network = VGGFeatures(layers=(1, 10))
    assert network.channels == (64, 256)
    assert [tuple(map_.shape) for map_ in network(torch.zeros(1, 3, 16, 16))] == [(1, 64, 16, 16), (1, 256, 4, 4)]


def test_mobilenet_gives_torchvision_activations(tmp_path: Path):
    import torchvision

    torch.manual_seed(0)
    truth = torchvision.models.mobilenet_v2(weights=None).eval()
    save_file(truth.state_dict(), tmp_path / "mobilenet.safetensors")
    network = feature_network(
        "mobilenet_v2", weights=tmp_path / "mobilenet.safetensors",
        sha256=hashlib.sha256((tmp_path / "mobilenet.safetensors").read_bytes()).hexdigest(),
    ).eval()  # fmt: skip
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = network(image)
        expected = [truth.features[: layer + 1](image) for layer in (1, 3, 6, 13)]
    assert network.channels == (16, 24, 32, 96)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(maps, expected, strict=True))


def test_timm_networks_bring_their_own_normalisation():
    loss = PerceptualLoss("timm:resnet10t.c3_in1k", weights="random", layers=(0, 1))
    assert isinstance(loss.net, TimmFeatures)
    assert isinstance(loss.net, FeatureNetwork)
    mean = torch.tensor(loss.net.mean).reshape(1, 3, 1, 1)
    assert torch.allclose(loss.scaling_layer(mean.float() * 2 - 1), torch.zeros(1, 3, 1, 1), atol=1e-6)
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    loss(image, torch.zeros(1, 3, 32, 32)).backward()
    assert image.grad.abs().sum() > 0


def test_trained_heads_are_read_from_their_file(tmp_path: Path):
    heads = {f"lin{i}.model.1.weight": torch.full((1, c, 1, 1), i + 2.0) for i, c in enumerate(_Bands.channels)}
    save_file(heads, tmp_path / "heads.safetensors")
    loss = PerceptualLoss(_Bands(), heads=tmp_path / "heads.safetensors")
    assert torch.equal(loss.lin1.model[1].weight, heads["lin1.model.1.weight"])
    del heads["lin1.model.1.weight"]
    save_file(heads, tmp_path / "fewer.safetensors")
    with pytest.raises(ValueError, match=r"fewer.safetensors lacks the heads lin1.model.1.weight"):
        PerceptualLoss(_Bands(), heads=tmp_path / "fewer.safetensors")


def test_a_pickle_is_opened_only_with_its_digest(tmp_path: Path):
    path = tmp_path / "some.pth"
    torch.save({"a": torch.ones(2)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(read_weights(path, sha256=digest)["a"], torch.ones(2))
    with pytest.raises(ValueError, match=r"some.pth is a pickle of unknown content; give its sha256="):
        read_weights(path)
    with pytest.raises(ValueError, match=rf"has SHA-256 {digest}, expected {'0' * 64}"):
        read_weights(path, sha256="0" * 64)
    named = path.rename(tmp_path / f"some-{digest[:8]}.pth")
    assert set(read_weights(named)) == {"a"}


def test_another_file_is_not_taken_for_mobilenet(tmp_path: Path):
    torch.save({}, tmp_path / "mobilenet_v2-b0353104.pth")
    with pytest.raises(ValueError, match=r"has SHA-256 \w+, expected b0353104"):
        PerceptualLoss("mobilenet_v2", weights=tmp_path / "mobilenet_v2-b0353104.pth")


def test_wrong_layouts_are_named(tmp_path: Path):
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"not torchvision's weights of this network; features.0.bias is missing"):
        feature_network("vgg16", weights=tmp_path / "other.safetensors")


def test_missing_file_and_unknown_names_are_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone.pth; weights are not downloaded"):
        PerceptualLoss("vgg16", weights=tmp_path / "gone.pth")
    with pytest.raises(ValueError, match=r"'vgg16' needs weights=: the path of its file"):
        PerceptualLoss("vgg16")
    with pytest.raises(ValueError, match="expected vgg16, vgg19, mobilenet_v2 or timm:NAME, got 'alexnet'"):
        PerceptualLoss("alexnet", weights="random")
    with pytest.raises(ValueError, match="an injected network brings its own weights"):
        PerceptualLoss(_Bands(), layers=(0,))
    with pytest.raises(ValueError, match=r"ascending layer numbers of vgg16, 0 to 30, got \(5, 2\)"):
        VGGFeatures(layers=(5, 2))
    with pytest.raises(ValueError, match=r"ascending block numbers, 0 to 17, got \(18,\)"):
        MobileNetFeatures(layers=(18,))
