"""The degradations that published models train with, each citing its source.

All work on the low-quality branch alone: flips, and a grey that the target shares, are the recipe's.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from ._chains import (
    DAEFR_SIZES,
    bsrgan,
    classic,
    codeformer_large,
    face_colour,
    gpen_code,
    gpen_paper,
    lcqs,
    narrow,
    realesrgan,
)
from .blur import GaussianBlur
from .choose import Maybe
from .colour import ChannelShift, Grey, Round
from .combine import Chain, Pair
from .compression import Jpeg
from .noise import GaussianNoise
from .op import Op
from .sharpen import BrushStrokes


@dataclass(frozen=True, kw_only=True)
class About:
    """Where a preset comes from.

    Args:
        source: Repository and file, or paper.
        chosen: What the source leaves open or has otherwise, and what this library does; empty for an exact preset.
    """

    source: str
    chosen: str = ""

    @property
    def status(self) -> str:
        """`exact`, or `partial` where some of it is this library's choice."""
        return "partial" if self.chosen else "exact"


def preset(name: str) -> Op:
    """Gives a published degradation.

    Args:
        name: One of `preset_names()`.

    Returns:
        The chain; print it to see its ranges.

    Raises:
        ValueError: There is none of that name; the text lists the names.

    Warns:
        UserWarning: The preset is partial; the text says what was chosen.

    Example:
        >>> import torch
        >>> degrade = preset("daefr")
        >>> degrade(torch.rand(3, 64, 64), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 64, 64])
    """
    if name not in _PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(preset_names())}; got {name!r}.")
    build, about = _PRESETS[name]
    if about.chosen:
        warnings.warn(f"preset {name!r} is partial: {about.chosen}", UserWarning, stacklevel=2)
    return build()


def preset_names() -> tuple[str, ...]:
    """Gives the names of all presets."""
    return tuple(sorted(_PRESETS))


def about_preset(name: str) -> About:
    """Gives source and status of a preset.

    Args:
        name: One of `preset_names()`.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in _PRESETS:
        raise ValueError(f"about_preset: expected one of {', '.join(preset_names())}; got {name!r}.")
    return _PRESETS[name][1]


def codeformer_pair() -> Pair:
    """Gives what CodeFormer's third stage draws from one image: a small and a large degradation.

    Source: sczhou/CodeFormer:options/CodeFormer_stage3.yml, basicsr/data/ffhq_blind_joint_dataset.py.
    """
    return Pair(first=preset("codeformer-III-small"), second=preset("codeformer-III-large"))


_DATASET = "data/ffhq_degradation_dataset.py"
_DAEFR = "LIAGM/DAEFR:configs/{}.yaml, DAEFR/data/ffhq_degradation_dataset{}.py"
_CODEFORMER = "sczhou/CodeFormer:options/CodeFormer_{}.yml, basicsr/data/{}.py"

_PRESETS: dict[str, tuple[Callable[[], Op], About]] = {
    "daefr": (
        lambda: classic(size=DAEFR_SIZES, sigma=(0.1, 15), factor=(0.8, 30), quality=(30, 100)),
        About(source=_DAEFR.format("DAEFR", "")),
    ),
    "daefr-codebook-lq": (narrow, About(source=_DAEFR.format("LQ_codebook", "_LQ"))),
    "daefr-association": (narrow, About(source=_DAEFR.format("Association_stage", ""))),
    "restoreformer": (
        narrow,
        About(source=f"wzhouxiff/RestoreFormer:configs/RestoreFormer.yaml, RestoreFormer/{_DATASET}"),
    ),
    "restoreformer++": (
        lambda: classic(
            size=DAEFR_SIZES, sigma=(0.1, 10), factor=(0.8, 8), quality=(60, 100),
            colour=(Maybe(op=ChannelShift(shift=(-32, 32)), chance=0.2), Maybe(op=Grey(), chance=0.008)),
        ),
        About(
            source="wzhouxiff/RestoreFormerPlusPlus",
            chosen="ranges are RestoreFormer's; uneven light (0.1) and haze (0.008) of the source are left out",
        ),
    ),
    "codeformer-I": (lambda: Chain(ops=(Round(),)), About(source=_CODEFORMER.format("stage1", "ffhq_blind_dataset"))),
    "codeformer-II": (codeformer_large, About(source=_CODEFORMER.format("stage2", "ffhq_blind_dataset"))),
    "codeformer-III-small": (
        lambda: classic(sigma=(0.1, 10), factor=(1, 12), noise=(0, 15), quality=(60, 100), cast="floor"),
        About(source=_CODEFORMER.format("stage3", "ffhq_blind_joint_dataset")),
    ),
    "codeformer-III-large": (
        codeformer_large, About(source=_CODEFORMER.format("stage3", "ffhq_blind_joint_dataset"))
    ),
    "codeformer-colourisation": (
        lambda: classic(sigma=(1, 15), factor=(4, 30), quality=(30, 80), cast="floor", colour=face_colour()),
        About(source=_CODEFORMER.format("colorization", "ffhq_blind_dataset")),
    ),
    "codeformer-inpainting": (
        lambda: Chain(ops=(BrushStrokes(), Round())),
        About(
            source=_CODEFORMER.format("inpainting", "ffhq_blind_dataset"),
            chosen="number, width and shape of the white strokes are this library's",
        ),
    ),
    "gfpgan": (
        lambda: classic(sigma=(0.1, 10), factor=(0.8, 8), quality=(60, 100), colour=face_colour()),
        About(source="TencentARC/GFPGAN:options/train_gfpgan_v1.yml, gfpgan/data/ffhq_degradation_dataset.py"),
    ),
    "vqfr-v1": (
        lambda: classic(sigma=(0.1, 10), factor=(0.8, 8), quality=(60, 100)),
        About(source=f"TencentARC/VQFR:options/train/VQFR/train_vqfr_v1_B16_200K.yml, vqfr/{_DATASET}"),
    ),
    "vqfr-v2": (
        lambda: classic(sigma=(1, 15), factor=(1, 30), quality=(30, 90)),
        About(source=f"TencentARC/VQFR:options/train/VQFR/train_vqfr_v2_B16_200K.yml, vqfr/{_DATASET}"),
    ),
    "gpen-code": (
        gpen_code,
        About(source="yangxy/GPEN:training/data_loader/dataset_face.py, training/data_loader/degradations.py"),
    ),
    "gpen-paper": (
        gpen_paper,
        About(
            source="Yang et al., GAN Prior Embedded Network for Blind Face Restoration, 2021",
            chosen="kernel sizes 7 to 41 and σ 0.1 to 10, half of them motion of 7 to 41 pixels, rounding at the end",
        ),
    ),
    "lcqs-mild": (
        lambda: lcqs(Jpeg(quality=(90, 95))),
        About(source="LCQS slides", chosen="8-bit rounding at low resolution, bicubic resizing back"),
    ),
    "lcqs-moderate": (
        lambda: lcqs(GaussianNoise(sigma=(20, 25))),
        About(source="LCQS slides", chosen="bicubic reduction by 8, 8-bit rounding first, bicubic resizing back"),
    ),
    "lcqs-severe": (
        lambda: lcqs(GaussianNoise(sigma=(10, 15)), blur=(GaussianBlur(size=(21,), sigma=(1, 3), isotropic=1),)),
        About(
            source="LCQS slides",
            chosen="round blur of 21 pixels, σ 1 to 3, bicubic reduction by 8, rounding, bicubic resizing back",
        ),
    ),
    "realesrgan": (
        realesrgan,
        About(
            source="xinntao/Real-ESRGAN: second-order degradation, ×4",
            chosen="sizes, modes, noise kinds and coins are drawn a sample, where the source draws one a batch; "
            "JPEG is libjpeg's, not a differentiable imitation; resizing takes its ratio from the whole sizes",
        ),
    ),
    "bsrgan": (
        bsrgan,
        About(
            source="cszn/BSRGAN: the shuffled degradation, ×4",
            chosen="shifted-kernel reduction, colour-correlated noise and the camera sensor model are left out; "
            "σ of the blurs is U(0.1, 2.8)",
        ),
    ),
}  # fmt: skip
