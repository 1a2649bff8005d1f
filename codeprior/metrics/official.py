"""What the reference's LPIPS script does differently, for comparison with its published numbers.

It feeds the network blue, green, red, once with [0, 1] values and once with [-1, 1] values, although the network's
scaling is made for red, green, blue in [-1, 1]. The other quirks: `ArcFace(mode="official")`, and means divided by the
number of clean images (`Results.official_means`). PSNR, SSIM and FID have none.
"""

from dataclasses import replace

from torch import Tensor

from codeprior.metrics.perceptual import Trunk
from codeprior.shapes import Image


class OfficialTrunk:
    """A trunk that gets what the reference gives it: channels reversed, and the range of the script.

    Args:
        trunk: The feature network, of unit RGB images.
        signed: Whether the script gives [-1, 1] values, which is the range that the network's scaling expects; else
            [0, 1] values reach that scaling unchanged.

    Source: metric scripts of DAEFR's repository.
    """

    def __init__(self, trunk: Trunk, *, signed: bool):
        self._trunk, self._signed = trunk, signed
        note = f"official: channels reversed, {'[-1, 1]' if signed else '[0, 1]'} values"
        self.record = replace(trunk.record, colours="bgr", note=note)

    def __call__(self, images: Image) -> list[Tensor]:
        """Gives the feature maps of unit RGB images."""
        shown = images.flip(1)
        # the trunk computes 2 x − 1 of unit images; given (x + 1) / 2 it therefore sees x
        return self._trunk(shown if self._signed else (shown + 1) / 2)
