"""Any feature pyramid of timm as an encoder: another backbone costs one name."""

import functools
import math
from typing import Any, Literal

import torch
from torch import nn

from codeprior.extras import needed
from codeprior.images import check_image
from codeprior.layers import configured
from codeprior.shapes import Image, Latent


@configured
class TimmEncoder(nn.Module):
    """A timm backbone cut at one stride, and a 1×1 convolution into code space.

    Args:
        backbone: Name of a timm model, such as `"convnextv2_tiny"`.
        dim: Code dimension.
        stride: Pixels a grid step; one of the backbone's reductions.
        pretrained: Whether timm fetches its ImageNet weights, which needs a network the first time.
        image_size: Side of the images in pixels, for transformers whose position table needs it.
        norm: What normalises features: the backbone's own layers, or `"group"`, GroupNorm in their place, which knows
            neither batch nor ranks. It is for backbones that take a `norm_layer`, such as the ResNets, from scratch.

    Attributes:
        dim: Code dimension.
        stride: Pixels a grid step.

    Raises:
        ValueError: timm does not know the backbone, the backbone has no feature at that stride, or its ImageNet weights
            are asked for with other norms than its own.

    Source: timm (`features_only=True`); inputs are normalised as the backbone was trained.
    """

    backbone: Any  # what timm builds has no common type
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self,
        backbone: str,
        dim: int = 256,
        *,
        stride: int = 32,
        pretrained: bool = False,
        image_size: int | None = None,
        norm: Literal["own", "group"] = "own",
    ):
        super().__init__()
        if norm not in ("own", "group"):
            raise ValueError(f"TimmEncoder: norm is 'own' or 'group', got {norm!r}.")
        if pretrained and norm != "own":
            raise ValueError(
                "TimmEncoder: ImageNet weights were trained with the backbone's own norms; set norm='own', or "
                "pretrained=False."
            )
        timm = needed("timm", who="TimmEncoder")
        self.dim = dim
        self.stride = stride
        if not timm.is_model(backbone.split(".")[0]):
            near = ", ".join(timm.list_models(f"*{backbone[:6]}*")[:5])
            way = f"near it: {near}" if near else "timm.list_models() lists all"
            raise ValueError(f"TimmEncoder: timm {timm.__version__} has no model {backbone!r}; {way}.")
        strides = _strides(backbone, image_size)
        if stride not in strides:
            raise ValueError(
                f"TimmEncoder: {backbone} gives features at strides {sorted(set(strides))}, not {stride}; choose one."
            )
        options = _options(image_size) | ({"norm_layer": _group_norm} if norm == "group" else {})
        # of several features at one stride the last is the richest; later ones are not computed
        level = len(strides) - 1 - strides[::-1].index(stride)
        try:
            self.backbone = timm.create_model(
                backbone, pretrained=pretrained, features_only=True, out_indices=(level,), **options
            )
        except Exception as error:
            if not pretrained:
                raise
            # the libraries that timm fetches with have no class of error in common
            raise RuntimeError(
                f"TimmEncoder: timm could not fetch the weights of {backbone} ({type(error).__name__}); set "
                "pretrained=False and load a file afterwards, or fetch them once where there is a network."
            ) from error
        self.channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
        data = getattr(self.backbone, "pretrained_cfg", None) or self.backbone.default_cfg
        self.register_buffer("mean", torch.tensor(data["mean"]).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(data["std"]).reshape(1, 3, 1, 1), persistent=False)
        self.to_code = nn.Conv2d(self.backbone.feature_info.channels()[-1], dim, 1)

    def forward(self, image: Image) -> Latent:
        """Gives the latent of an image.

        Args:
            image: `b 3 H W`, signed; `H` and `W` multiples of `stride`.

        Returns:
            `b d h w` with `h = H / stride`.

        Raises:
            TypeError: The image is of another type than the weights.
            ValueError: A side is not a multiple of `stride`, or the image is not `b 3 H W`.
        """
        check_image("TimmEncoder", image, self)
        if image.shape[-2] % self.stride or image.shape[-1] % self.stride:
            raise ValueError(
                f"TimmEncoder: expected sides that are multiples of {self.stride}, got "
                f"{image.shape[-2]}×{image.shape[-1]}; resize or pad the image."
            )
        feature = self.backbone(((image + 1) / 2 - self.mean) / self.deviation)[0]
        return self.to_code(feature.movedim(-1, 1) if self.channels_last else feature)


@functools.lru_cache(maxsize=32)
def _strides(backbone: str, image_size: int | None) -> tuple[int, ...]:
    """Gives the strides of all features, for which the whole backbone is built once."""
    timm = needed("timm", who="TimmEncoder")
    with torch.random.fork_rng(devices=[]):
        return tuple(timm.create_model(backbone, features_only=True, **_options(image_size)).feature_info.reduction())


def _options(image_size: int | None) -> dict[str, Any]:
    return {} if image_size is None else {"img_size": image_size}


def _group_norm(channels: int, *, device: Any = None, dtype: Any = None) -> nn.GroupNorm:
    # newer versions of timm say where a layer is built
    return nn.GroupNorm(math.gcd(32, channels), channels, device=device, dtype=dtype)
