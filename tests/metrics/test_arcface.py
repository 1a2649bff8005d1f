import pytest
import torch
from torch.nn import functional as F

from codeprior.metrics import ArcFace


def _state() -> dict[str, torch.Tensor]:
    """Random weights in the layout of `arcface_resnet18.pth`, whose keys carry the prefix of data parallelism."""
    generator, state = torch.Generator().manual_seed(0), {}

    def fill(name: str, *shape: int) -> None:
        state[f"module.{name}"] = torch.randn(shape, generator=generator) / max(1, torch.Size(shape[1:]).numel()) ** 0.5

    def normalise(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean"):
            fill(f"{name}.{part}", width)
        state[f"module.{name}.running_var"] = torch.rand(width, generator=generator) + 0.5
        state[f"module.{name}.num_batches_tracked"] = torch.tensor(1)

    fill("conv1.weight", 64, 1, 3, 3)
    normalise("bn1", 64)
    fill("prelu.weight", 1)
    given = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            normalise(f"{name}.bn0", given)
            fill(f"{name}.conv1.weight", given, given, 3, 3)
            normalise(f"{name}.bn1", given)
            fill(f"{name}.prelu.weight", 1)
            fill(f"{name}.conv2.weight", width, given, 3, 3)
            normalise(f"{name}.bn2", width)
            if given != width:
                fill(f"{name}.downsample.0.weight", width, given, 1, 1)
                normalise(f"{name}.downsample.1", width)
            given = width
    normalise("bn4", 512)
    fill("fc5.weight", 512, 512 * 64)
    fill("fc5.bias", 512)
    normalise("bn5", 512)
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("arcface") / "arcface_resnet18.pth"
    torch.save(_state(), path)
    return path


def _by_hand(grey: torch.Tensor) -> torch.Tensor:
    """The network written out as functions of its checkpoint."""
    state = {key.removeprefix("module."): value for key, value in _state().items()}

    def norm(values, name):
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(values, *parts)

    values = F.prelu(norm(F.conv2d(grey, state["conv1.weight"], padding=1), "bn1"), state["prelu.weight"])
    values = F.max_pool2d(values, 2, 2)
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            shortcut = values
            if stride == 2:
                shortcut = F.conv2d(values, state[f"{name}.downsample.0.weight"], stride=2)
                shortcut = norm(shortcut, f"{name}.downsample.1")
            values = F.conv2d(norm(values, f"{name}.bn0"), state[f"{name}.conv1.weight"], padding=1)
            values = F.prelu(norm(values, f"{name}.bn1"), state[f"{name}.prelu.weight"])
            values = F.conv2d(values, state[f"{name}.conv2.weight"], stride=stride, padding=1)
            values = F.prelu(norm(values, f"{name}.bn2") + shortcut, state[f"{name}.prelu.weight"])
    return norm(F.linear(norm(values, "bn4").flatten(1), state["fc5.weight"], state["fc5.bias"]), "bn5")


def test_the_checkpoint_layout_gives_its_own_function(weights):
    faces = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    red, green, blue = faces.unbind(1)
    expected = _by_hand((0.2989 * red + 0.587 * green + 0.114 * blue)[:, None] * 2 - 1)
    assert torch.allclose(ArcFace(weights)(faces), expected, rtol=1e-4, atol=1e-4)  # float32


def test_official_mode_swaps_red_and_blue_and_keeps_the_unit_range(weights):
    faces = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    red, green, blue = faces.unbind(1)
    network = ArcFace(weights, mode="official")
    expected = _by_hand((0.2989 * blue + 0.587 * green + 0.114 * red)[:, None])
    assert torch.allclose(network(faces), expected, rtol=1e-4, atol=1e-4)
    assert "swapped" in network.record.colours


def test_another_network_is_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="another network than ArcFace ResNet-18"):
        ArcFace(tmp_path / "other.pth")
