"""Networks that look at an image at several depths, for the perceptual and style losses.

A feature network takes an image that is normalised by its own `mean` and `std` (of unit pixels; ImageNet's if it has
none) and gives one map for each layer; `channels` says how many channels each has. Any such module can be passed in.
Weights are not downloaded: a file is named by its path, and a pickled one is opened only if its SHA-256 is as expected.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from codeprior.checkpoints import read_checkpoint
from codeprior.extras import needed

MOBILENET_V2_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
"""The torchvision file `mobilenet_v2-b0353104.pth`."""

_CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)


@runtime_checkable
class FeatureNetwork(Protocol):
    """Whatever gives features of an image at several depths."""

    channels: Sequence[int]
    """Channels of each map."""

    def __call__(self, image: Float[Tensor, "b 3 H W"]) -> Sequence[Tensor]:
        """Gives one map `b c h w` for each layer, for a normalised image."""
        ...


class VGGFeatures(nn.Module):
    """VGG-16 or VGG-19 up to the last layer that is asked for, cut into slices that keep torchvision's layer numbers.

    Args:
        variant: `"vgg16"` or `"vgg19"`.
        layers: Numbers of the torchvision layers to give, ascending. By default the last ReLU of each of the five
            blocks, as in LPIPS.

    Attributes:
        channels: Channels of each map.

    Raises:
        ValueError: Unknown variant, or layers that are not ascending numbers of it.
    """

    def __init__(self, variant: str = "vgg16", *, layers: Sequence[int] | None = None):
        super().__init__()
        if variant not in _CONVOLUTIONS:
            raise ValueError(f"VGGFeatures: expected one of {', '.join(_CONVOLUTIONS)}, got {variant!r}.")
        plan, last_relus = _vgg_plan(variant)
        chosen = tuple(last_relus if layers is None else layers)
        if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= len(plan):
            raise ValueError(
                f"VGGFeatures: expected ascending layer numbers of {variant}, 0 to {len(plan) - 1}, got {chosen}."
            )
        start, channels = 0, []
        for number, layer in enumerate(chosen, start=1):
            names = range(start, layer + 1)
            piece = nn.Sequential()
            for name in names:
                piece.add_module(str(name), plan[name])
            self.add_module(f"slice{number}", piece)
            channels.append([part.out_channels for part in plan[: layer + 1] if isinstance(part, nn.Conv2d)][-1])
            start = layer + 1
        self.channels = tuple(channels)

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> list[Tensor]:
        """Gives one map a layer; `image` is normalised with ImageNet's mean and deviation."""
        maps = []
        for piece in self.children():
            image = piece(image)
            maps.append(image)
        return maps

    def load_torchvision(self, state: dict[str, Tensor]) -> None:
        """Takes the weights of torchvision's model, whose keys are `features.<layer>.weight` and `.bias`.

        Raises:
            ValueError: A tensor that this network needs is not there.
        """
        own = self.state_dict()
        there = {key: "features." + key.split(".", 1)[1] for key in own}
        missing = sorted(name for name in there.values() if name not in state)
        if missing:
            raise ValueError(f"VGGFeatures: not torchvision's weights of this network; {missing[0]} is missing.")
        self.load_state_dict({key: state[name] for key, name in there.items()})


class MobileNetFeatures(nn.Module):
    """torchvision's MobileNetV2 up to the last block that is asked for.

    Args:
        layers: Numbers of the blocks to give, ascending, 0 to 17. By default the last block at strides 2, 4, 8 and 16.

    Attributes:
        channels: Channels of each map.

    Raises:
        ValueError: Layers that are not ascending numbers of it.
    """

    def __init__(self, *, layers: Sequence[int] = (1, 3, 6, 13)):
        super().__init__()
        from torchvision.models import mobilenet_v2

        chosen = tuple(layers)
        if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] > 17:
            raise ValueError(f"MobileNetFeatures: expected ascending block numbers, 0 to 17, got {chosen}.")
        self.features = mobilenet_v2(weights=None).features[: chosen[-1] + 1]
        self.layers = chosen
        widths = (32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
        self.channels = tuple(widths[layer] for layer in chosen)

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> list[Tensor]:
        """Gives one map a block; `image` is normalised with ImageNet's mean and deviation."""
        maps = []
        for number, block in enumerate(self.features):
            image = block(image)
            if number in self.layers:
                maps.append(image)
        return maps

    def load_torchvision(self, state: dict[str, Tensor]) -> None:
        """Takes the weights of torchvision's model, whose keys begin with `features.`.

        Raises:
            ValueError: A tensor that this network needs is not there.
        """
        missing = sorted(key for key in self.state_dict() if key not in state)
        if missing:
            raise ValueError(f"MobileNetFeatures: not torchvision's weights of MobileNetV2; {missing[0]} is missing.")
        self.load_state_dict({key: state[key] for key in self.state_dict()})


class TimmFeatures(nn.Module):
    """Any timm network that gives features, with its own mean and deviation.

    Args:
        name: The timm name.
        layers: timm's `out_indices`; by default all that the network offers.
        pretrained: Whether timm fetches its weights, which needs a network connection or a filled cache.
        checkpoint: A weights file that timm reads, instead.

    Attributes:
        channels: Channels of each map.
        mean: Mean of each channel, unit; images are expected with it subtracted.
        std: Deviation of each channel, unit; images are expected divided by it.
    """

    def __init__(
        self, name: str, *, layers: Sequence[int] | None = None, pretrained: bool = True, checkpoint: str = ""
    ):
        super().__init__()
        timm = needed("timm", who=f"the features of timm:{name}")
        body: Any = timm.create_model(
            name, pretrained=pretrained and not checkpoint, checkpoint_path=checkpoint, features_only=True,
            out_indices=None if layers is None else tuple(layers),
        )  # fmt: skip
        self.body = body
        self.channels = tuple(body.feature_info.channels())
        self.mean: Sequence[float] = body.pretrained_cfg["mean"]
        self.std: Sequence[float] = body.pretrained_cfg["std"]

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> list[Tensor]:
        """Gives one map a layer; `image` is normalised with `mean` and `std`."""
        return self.body(image)


def feature_network(
    name: str, *, weights: str | Path, layers: Sequence[int] | None = None, sha256: str | None = None
) -> nn.Module:
    """Gives a feature network by name, with its weights.

    Args:
        name: `"vgg16"`, `"vgg19"`, `"mobilenet_v2"`, or `"timm:NAME"`.
        weights: Path of a weights file in torchvision's (for timm: timm's) layout, `.safetensors` or pickled;
            `"pretrained"` lets timm fetch its own; `"random"` leaves the network untrained.
        layers: Which layers to give; each network has its own default.
        sha256: Digest that a pickled file must have. The default is the beginning that torchvision's file name holds
            (`vgg16-397923af.pth`), and the whole digest for MobileNetV2, which is known.

    Returns:
        A `FeatureNetwork`.

    Raises:
        ValueError: Unknown name, or a file that is not what it should be.
    """
    check_network_name("feature_network", name)
    if name.startswith("timm:"):
        source = {"random": "", "pretrained": ""}.get(str(weights), str(weights))
        return TimmFeatures(name[5:], layers=layers, pretrained=str(weights) == "pretrained", checkpoint=source)
    if name in _CONVOLUTIONS:
        network = VGGFeatures(name, layers=layers)
    else:
        network = MobileNetFeatures() if layers is None else MobileNetFeatures(layers=layers)
        sha256 = sha256 or MOBILENET_V2_SHA256
    if str(weights) != "random":
        network.load_torchvision(read_weights(weights, sha256=sha256))
    return network


def check_network_name(who: str, name: str) -> None:
    """Raises a ValueError where no feature network has this name."""
    if name not in (*_CONVOLUTIONS, "mobilenet_v2") and not name.startswith("timm:"):
        raise ValueError(f"{who}: expected {', '.join(_CONVOLUTIONS)}, mobilenet_v2 or timm:NAME, got {name!r}.")


def read_weights(path: str | Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Gives the tensors of a weights file; a pickled one is opened only when its digest is the expected one.

    Args:
        path: A `.safetensors` file, or a pickled `.pth`.
        sha256: The digest, or its beginning, that the file must have. A pickled file without one must carry at least
            eight digits of it at the end of its name, as torchvision's do.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The digest is another, or none is known for a pickled file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"read_weights: there is no file {path}; weights are not downloaded, give their path.")
    if sha256 is None and path.suffix != ".safetensors":
        sha256 = path.stem.rsplit("-", 1)[-1]
        if len(sha256) < 8 or not set(sha256) <= set("0123456789abcdef"):
            raise ValueError(
                f"read_weights: {path.name} is a pickle of unknown content; give its sha256=, or a .safetensors file."
            )
    try:
        return read_checkpoint(path, sha256=sha256).tensors
    except ValueError as error:
        raise ValueError(f"read_weights: {error}; fetch it again.") from error


def _vgg_plan(variant: str) -> tuple[list[nn.Module], list[int]]:
    plan: list[nn.Module] = []
    last_relus, entering = [], 3
    for count, width in zip(_CONVOLUTIONS[variant], _WIDTHS, strict=True):
        for _ in range(count):
            plan += [nn.Conv2d(entering, width, 3, padding=1), nn.ReLU()]
            entering = width
        last_relus.append(len(plan) - 1)
        plan.append(nn.MaxPool2d(2))
    return plan, last_relus
