"""The degradations that published models train with, each citing its source.

All act on the low-quality image alone. Flips, and turning both images grey, belong to a training's settings.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .blur import GaussianBlur, GeneralisedBlur, KernelMix, MotionBlur, PlateauBlur, Sinc
from .chain import Chain, Pair
from .choose import Maybe, OneOf, Shuffle
from .colour import ChannelShift, Clamp, ColourJitter, Grey, Round
from .jpeg import Jpeg
from .noise import GaussianNoise, PoissonNoise
from .op import Op
from .resample import Rescale, Resize, ResizeBack
from .sharpen import BrushStrokes, Unsharp

Range = tuple[float, float]

_DAEFR_SIZES = (39, 41)


@dataclass(frozen=True, kw_only=True)
class About:
    """Where a preset comes from.

    Args:
        source: Repository and file, or paper.
        chosen: What the source leaves open or does differently, and what this library does; empty for an exact preset.
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


def _classic(
    *,
    sigma: Range,
    factor: Range,
    quality: Range,
    noise: Range = (0, 20),
    size: tuple[int, ...] = (41,),
    cast: Literal["round", "floor"] = "round",
    colour: tuple[Op, ...] = (),
) -> Chain:
    """What the face restorers share: blur, reduce, noise, JPEG, back to size, colour, round."""
    return Chain(
        ops=(
            GaussianBlur(size=size, sigma=sigma),
            Resize(factor=factor),
            GaussianNoise(sigma=noise),
            Jpeg(quality=quality, cast=cast),
            ResizeBack(),
            *colour,
            Round(),
        )
    )


def _face_colour() -> tuple[Op, ...]:
    """The colour changes of GFPGAN and of CodeFormer's colourisation."""
    return (
        Maybe(op=ChannelShift(), chance=0.3),
        Maybe(op=Grey(), chance=0.01),
        Maybe(op=ColourJitter(), chance=0.3),
    )


def _narrow() -> Chain:
    """The narrower ranges, of RestoreFormer and DAEFR's first stages."""
    return _classic(size=_DAEFR_SIZES, sigma=(0.1, 10), factor=(0.8, 8), quality=(60, 100))


def _codeformer_large() -> Chain:
    """CodeFormer's second stage."""
    return _classic(sigma=(1, 15), factor=(4, 30), quality=(30, 80), cast="floor")


def _gpen_code() -> Chain:
    """GPEN as released: no rounding after the last resize."""
    return Chain(
        ops=(
            GaussianBlur(sigma=(0.1, 10)),
            Resize(factor=(0.8, 8)),
            GaussianNoise(sigma=(0, 20)),
            Jpeg(quality=(60, 100), cast="floor"),
            ResizeBack(),
        )
    )


def _gpen_paper() -> Chain:
    """GPEN as described."""
    blur = KernelMix(
        blurs=(GaussianBlur(size=tuple(range(7, 42, 2)), sigma=(0.1, 10)), MotionBlur(length=(7, 41))),
        weights=(0.5, 0.5),
    )
    return Chain(
        ops=(blur, Resize(factor=(10, 200)), GaussianNoise(sigma=(0, 25)), Jpeg(quality=(5, 50)), ResizeBack(), Round())
    )


def _lcqs(*between: Op, blur: tuple[Op, ...] = ()) -> Chain:
    """LCQS: eight times smaller, `between`, and back."""
    small = Resize(factor=(8, 8), interpolation="bicubic")
    return Chain(ops=(*blur, small, Round(), *between, ResizeBack(interpolation="bicubic"), Round()))


def _realesrgan_blur(sigma: tuple[float, float]) -> KernelMix:
    """Six kernels and, one time in ten, a sinc."""
    sizes = tuple(range(7, 22, 2))
    mix = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    return KernelMix(
        blurs=(
            GaussianBlur(size=sizes, sigma=sigma, isotropic=1),
            GaussianBlur(size=sizes, sigma=sigma, isotropic=0),
            GeneralisedBlur(size=sizes, sigma=sigma, isotropic=1),
            GeneralisedBlur(size=sizes, sigma=sigma, isotropic=0),
            PlateauBlur(size=sizes, sigma=sigma, isotropic=1),
            PlateauBlur(size=sizes, sigma=sigma, isotropic=0),
            Sinc(size=sizes),
        ),
        weights=(*(0.9 * weight for weight in mix), 0.1),
    )


def _realesrgan() -> Chain:
    """Real-ESRGAN's second-order chain at ×4."""
    back = ResizeBack(divide=4, interpolation=("area", "bilinear", "bicubic"), rules="torch")
    ringing = Maybe(op=Sinc(size=tuple(range(7, 22, 2))), chance=0.8)
    last = Jpeg(quality=(30, 95))
    return Chain(
        ops=(
            Unsharp(),
            _realesrgan_blur((0.2, 3)),
            Rescale(scale=(0.15, 1.5), chances=(0.2, 0.7, 0.1)),
            OneOf(ops=(GaussianNoise(sigma=(1, 30), grey=0.4), PoissonNoise(scale=(0.05, 3), grey=0.4))),
            Jpeg(quality=(30, 95)),
            Maybe(op=_realesrgan_blur((0.2, 1.5)), chance=0.8),
            Rescale(scale=(0.3, 1.2), chances=(0.3, 0.4, 0.3), divide=4),
            OneOf(ops=(GaussianNoise(sigma=(1, 25), grey=0.4), PoissonNoise(scale=(0.05, 2.5), grey=0.4))),
            OneOf(ops=(Chain(ops=(back, ringing, last)), Chain(ops=(last, back, ringing)))),
            Round(),
        )
    )


def _bsrgan() -> Chain:
    """BSRGAN's shuffled chain at ×4."""
    sizes = tuple(range(7, 26, 2))
    blur = KernelMix(
        blurs=(
            GaussianBlur(size=sizes, sigma=(0.1, 2.8), isotropic=1),
            GaussianBlur(size=sizes, sigma=(0.1, 2.8), isotropic=0),
        ),
        weights=(0.5, 0.5),
    )
    modes = ("bilinear", "bicubic", "area")
    shuffled = Shuffle(
        ops=(
            blur,
            blur,
            Resize(factor=(1, 8), interpolation=modes),
            ResizeBack(divide=4, interpolation=modes),
            GaussianNoise(sigma=(2, 25), grey=0.4),
            Maybe(op=Jpeg(quality=(30, 95)), chance=0.9),
        ),
        before=((2, 3),),
    )
    return Chain(ops=(shuffled, Clamp(), Jpeg(quality=(30, 95)), ResizeBack(divide=4, interpolation=modes), Round()))


_DATASET = "data/ffhq_degradation_dataset.py"
_DAEFR = "LIAGM/DAEFR:configs/{}.yaml, DAEFR/data/ffhq_degradation_dataset{}.py"
_CODEFORMER = "sczhou/CodeFormer:options/CodeFormer_{}.yml, basicsr/data/{}.py"

_PRESETS: dict[str, tuple[Callable[[], Op], About]] = {
    "daefr": (
        lambda: _classic(size=_DAEFR_SIZES, sigma=(0.1, 15), factor=(0.8, 30), quality=(30, 100)),
        About(source=_DAEFR.format("DAEFR", "")),
    ),
    "daefr-codebook-lq": (_narrow, About(source=_DAEFR.format("LQ_codebook", "_LQ"))),
    "daefr-association": (_narrow, About(source=_DAEFR.format("Association_stage", ""))),
    "restoreformer": (
        _narrow,
        About(source=f"wzhouxiff/RestoreFormer:configs/RestoreFormer.yaml, RestoreFormer/{_DATASET}"),
    ),
    "restoreformer++": (
        lambda: _classic(
            size=_DAEFR_SIZES, sigma=(0.1, 10), factor=(0.8, 8), quality=(60, 100),
            colour=(Maybe(op=ChannelShift(shift=(-32, 32)), chance=0.2), Maybe(op=Grey(), chance=0.008)),
        ),
        About(
            source="wzhouxiff/RestoreFormerPlusPlus",
            chosen="ranges are RestoreFormer's; uneven light (0.1) and haze (0.008) of the source are left out",
        ),
    ),
    "codeformer-I": (lambda: Chain(ops=(Round(),)), About(source=_CODEFORMER.format("stage1", "ffhq_blind_dataset"))),
    "codeformer-II": (_codeformer_large, About(source=_CODEFORMER.format("stage2", "ffhq_blind_dataset"))),
    "codeformer-III-small": (
        lambda: _classic(sigma=(0.1, 10), factor=(1, 12), noise=(0, 15), quality=(60, 100), cast="floor"),
        About(source=_CODEFORMER.format("stage3", "ffhq_blind_joint_dataset")),
    ),
    "codeformer-III-large": (
        _codeformer_large, About(source=_CODEFORMER.format("stage3", "ffhq_blind_joint_dataset"))
    ),
    "codeformer-colourisation": (
        lambda: _classic(sigma=(1, 15), factor=(4, 30), quality=(30, 80), cast="floor", colour=_face_colour()),
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
        lambda: _classic(sigma=(0.1, 10), factor=(0.8, 8), quality=(60, 100), colour=_face_colour()),
        About(source="TencentARC/GFPGAN:options/train_gfpgan_v1.yml, gfpgan/data/ffhq_degradation_dataset.py"),
    ),
    "vqfr-v1": (
        lambda: _classic(sigma=(0.1, 10), factor=(0.8, 8), quality=(60, 100)),
        About(source=f"TencentARC/VQFR:options/train/VQFR/train_vqfr_v1_B16_200K.yml, vqfr/{_DATASET}"),
    ),
    "vqfr-v2": (
        lambda: _classic(sigma=(1, 15), factor=(1, 30), quality=(30, 90)),
        About(source=f"TencentARC/VQFR:options/train/VQFR/train_vqfr_v2_B16_200K.yml, vqfr/{_DATASET}"),
    ),
    "gpen-code": (
        _gpen_code,
        About(source="yangxy/GPEN:training/data_loader/dataset_face.py, training/data_loader/degradations.py"),
    ),
    "gpen-paper": (
        _gpen_paper,
        About(
            source="Yang et al., GAN Prior Embedded Network for Blind Face Restoration, 2021",
            chosen="kernel sizes 7 to 41 and σ 0.1 to 10, half of them motion of 7 to 41 pixels, rounding at the end",
        ),
    ),
    "lcqs-mild": (
        lambda: _lcqs(Jpeg(quality=(90, 95))),
        About(source="LCQS slides", chosen="8-bit rounding at low resolution, bicubic resizing back"),
    ),
    "lcqs-moderate": (
        lambda: _lcqs(GaussianNoise(sigma=(20, 25))),
        About(source="LCQS slides", chosen="bicubic reduction by 8, 8-bit rounding first, bicubic resizing back"),
    ),
    "lcqs-severe": (
        lambda: _lcqs(GaussianNoise(sigma=(10, 15)), blur=(GaussianBlur(size=(21,), sigma=(1, 3), isotropic=1),)),
        About(
            source="LCQS slides",
            chosen="round blur of 21 pixels, σ 1 to 3, bicubic reduction by 8, rounding, bicubic resizing back",
        ),
    ),
    "realesrgan": (
        _realesrgan,
        About(
            source="xinntao/Real-ESRGAN: second-order degradation, ×4",
            chosen="sizes, modes, noise kinds and coins are drawn per sample, where the source draws one per batch; "
            "JPEG is libjpeg's, not a differentiable imitation; resizing takes its ratio from the whole sizes",
        ),
    ),
    "bsrgan": (
        _bsrgan,
        About(
            source="cszn/BSRGAN: the shuffled degradation, ×4",
            chosen="shifted-kernel reduction, colour-correlated noise and the camera sensor model are left out; "
            "σ of the blurs is U(0.1, 2.8)",
        ),
    ),
}  # fmt: skip
