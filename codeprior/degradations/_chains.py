"""How the published chains are put together; `presets` names them and says where they come from."""

from typing import Literal

from .blur import GaussianBlur, GeneralisedBlur, KernelMix, MotionBlur, PlateauBlur, Sinc
from .choose import Maybe, OneOf, Shuffle
from .colour import ChannelShift, Clamp, ColourJitter, Grey, Round
from .combine import Chain
from .compression import Jpeg
from .noise import GaussianNoise, PoissonNoise
from .op import Op
from .resample import Rescale, Resize, ResizeBack
from .sharpen import Unsharp

DAEFR_SIZES = (39, 41)


Range = tuple[float, float]


def classic(
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


def face_colour() -> tuple[Op, ...]:
    """The colour changes of GFPGAN and of CodeFormer's colourisation."""
    return (
        Maybe(op=ChannelShift(), chance=0.3),
        Maybe(op=Grey(), chance=0.01),
        Maybe(op=ColourJitter(), chance=0.3),
    )


def narrow() -> Chain:
    """The narrower ranges, of RestoreFormer and DAEFR's first stages."""
    return classic(size=DAEFR_SIZES, sigma=(0.1, 10), factor=(0.8, 8), quality=(60, 100))


def codeformer_large() -> Chain:
    """CodeFormer's second stage."""
    return classic(sigma=(1, 15), factor=(4, 30), quality=(30, 80), cast="floor")


def gpen_code() -> Chain:
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


def gpen_paper() -> Chain:
    """GPEN as described."""
    blur = KernelMix(
        blurs=(GaussianBlur(size=tuple(range(7, 42, 2)), sigma=(0.1, 10)), MotionBlur(length=(7, 41))),
        weights=(0.5, 0.5),
    )
    return Chain(
        ops=(blur, Resize(factor=(10, 200)), GaussianNoise(sigma=(0, 25)), Jpeg(quality=(5, 50)), ResizeBack(), Round())
    )


def lcqs(*between: Op, blur: tuple[Op, ...] = ()) -> Chain:
    """LCQS: eight times smaller, `between`, and back."""
    small = Resize(factor=(8, 8), interpolation="bicubic")
    return Chain(ops=(*blur, small, Round(), *between, ResizeBack(interpolation="bicubic"), Round()))


def realesrgan_blur(sigma: tuple[float, float]) -> KernelMix:
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


def realesrgan() -> Chain:
    """Real-ESRGAN's second-order chain at ×4."""
    back = ResizeBack(divide=4, interpolation=("area", "bilinear", "bicubic"), rules="torch")
    ringing = Maybe(op=Sinc(size=tuple(range(7, 22, 2))), chance=0.8)
    last = Jpeg(quality=(30, 95))
    return Chain(
        ops=(
            Unsharp(),
            realesrgan_blur((0.2, 3)),
            Rescale(scale=(0.15, 1.5), chances=(0.2, 0.7, 0.1)),
            OneOf(ops=(GaussianNoise(sigma=(1, 30), grey=0.4), PoissonNoise(scale=(0.05, 3), grey=0.4))),
            Jpeg(quality=(30, 95)),
            Maybe(op=realesrgan_blur((0.2, 1.5)), chance=0.8),
            Rescale(scale=(0.3, 1.2), chances=(0.3, 0.4, 0.3), divide=4),
            OneOf(ops=(GaussianNoise(sigma=(1, 25), grey=0.4), PoissonNoise(scale=(0.05, 2.5), grey=0.4))),
            OneOf(ops=(Chain(ops=(back, ringing, last)), Chain(ops=(last, back, ringing)))),
            Round(),
        )
    )


def bsrgan() -> Chain:
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
