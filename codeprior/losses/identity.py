"""How far a restored face is from the same person, in the embedding of a frozen network that is passed in."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.images import check_pixels
from codeprior.shapes import Image

# ITU-R BT.601, as ArcFace's grey networks were trained
_GREY = (0.2989, 0.587, 0.114)


class IdentityLoss(nn.Module):
    """The distance of two faces' embeddings; the network is frozen and always in evaluation mode.

    Args:
        network: From a face crop `b c size size`, signed, to an embedding `b e`; `c` is 1 where `grey`, else 3.
        size: Side of the crop that the network takes, pixels.
        grey: Whether it takes one grey channel.
        window: Which part of the image to look at, as shares of its height and width: top, bottom, left, right.
        resample: `"bilinear"`, or `"area"`, an adaptive average.
        distance: `"cosine"`: one minus the cosine. `"absolute"`: the mean absolute difference of the embeddings.

    Raises:
        ValueError: `resample` or `distance` is unknown, or the window has no area.

    Note:
        RestoreFormer: `grey=True, size=128, distance="absolute"` on ArcFace ResNet-18, weight 3. GPEN: `grey=False,
        size=112, window=(35 / 256, 223 / 256, 32 / 256, 220 / 256), resample="area", distance="cosine"` on ArcFace
        IR-SE50, weight 1. No weights come with the library.

    Source:
        RestoreFormer (Wang et al. 2022); GPEN (Yang et al. 2021), training/loss/id_loss.py.
    """

    grey: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        size: int = 128,
        grey: bool = True,
        window: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0),
        resample: Literal["bilinear", "area"] = "bilinear",
        distance: Literal["cosine", "absolute"] = "cosine",
    ):
        super().__init__()
        if resample not in ("bilinear", "area"):
            raise ValueError(f"IdentityLoss: resample is 'bilinear' or 'area', got {resample!r}.")
        if distance not in ("cosine", "absolute"):
            raise ValueError(f"IdentityLoss: distance is 'cosine' or 'absolute', got {distance!r}.")
        top, bottom, left, right = window
        if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
            raise ValueError(
                f"IdentityLoss: expected window as shares top < bottom, left < right in [0, 1], got {window}."
            )
        self.network = network
        self.size, self.is_grey, self.window = size, grey, window
        self.resample, self.distance = resample, distance
        self.register_buffer("grey", torch.tensor(_GREY).reshape(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.train(False)

    def forward(self, image: Image, target: Image) -> Float[Tensor, ""]:
        """Gives the mean distance over the batch.

        Args:
            image: Aligned faces, `b 3 H W`, RGB, signed; the gradient flows to them.
            target: The same people, `b 3 H W`, RGB, signed.

        Raises:
            TypeError: They are no floating-point images.
            ValueError: They are not `b 3 H W`.
        """
        mine, theirs = self.embed(image), self.embed(target)
        if self.distance == "absolute":
            return F.l1_loss(mine, theirs)
        return (1 - F.cosine_similarity(mine, theirs, dim=-1)).mean()

    def embed(self, image: Image) -> Float[Tensor, "b e"]:
        """Gives the embeddings of aligned faces; reusable for a fixed target.

        Args:
            image: `b 3 H W`, RGB, signed.

        Raises:
            TypeError: They are no floating-point images.
            ValueError: They are not `b 3 H W`.
        """
        check_pixels("IdentityLoss", image)
        height, width = image.shape[-2:]
        top, bottom, left, right = self.window
        crop = image[..., round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
        if self.is_grey:
            crop = (crop * self.grey).sum(1, keepdim=True)
        if self.resample == "area":
            crop = F.adaptive_avg_pool2d(crop, self.size)
        else:
            crop = F.interpolate(crop, (self.size, self.size), mode="bilinear", align_corners=False)
        return self.network(crop)

    def train(self, mode: bool = True) -> "IdentityLoss":
        """Leaves the module in evaluation mode, whatever `mode` is."""
        return super().train(False)
