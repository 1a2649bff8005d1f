"""Draws the pictures of `degradations.md`: python docs/guides/degradations_pictures.py."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from codeprior import degradations as d
from codeprior.commands._sheet import contact_sheet

FOLDER = Path(__file__).parents[1] / "images" / "degradations"
SIDE, GAP = 192, 6

STRIPS: dict[str, list[d.Op]] = {
    "gaussian_blur": [d.GaussianBlur(sigma=(s, s), isotropic=1) for s in (1.0, 2.5, 5.0)],
    "gaussian_blur_turned": [d.GaussianBlur(sigma=(0.8, 7), isotropic=0, angle=(a, a)) for a in (0.0, 0.8, 1.6)],
    "generalised_blur": [
        d.GeneralisedBlur(size=(21,), sigma=(2, 2), isotropic=1, beta=(b, b)) for b in (0.5, 1.0, 4.0)
    ],
    "plateau_blur": [d.PlateauBlur(size=(21,), sigma=(2, 2), isotropic=1, beta=(b, b)) for b in (1.0, 1.5, 2.0)],
    "sinc": [d.Sinc(size=(21,), cutoff=(c, c)) for c in (2.4, 1.6, 0.9)],
    "motion_blur": [d.MotionBlur(length=(n, n), angle=(0.6, 0.6)) for n in (5.0, 11.0, 21.0)],
    "defocus_blur": [d.DefocusBlur(radius=(r, r)) for r in (1.5, 3.0, 6.0)],
    "kernel_mix": [
        d.KernelMix(blurs=(d.GaussianBlur(sigma=(1, 5)), d.Sinc(size=(21,)), d.MotionBlur()), weights=(1, 1, 1))
        for _ in range(3)
    ],
    "resize": [d.Chain(ops=(d.Resize(factor=(f, f)), d.ResizeBack())) for f in (2.0, 4.0, 12.0)],
    "resize_back": [
        d.Chain(ops=(d.Resize(factor=(8, 8), interpolation="area"), d.ResizeBack(interpolation=i)))
        for i in ("nearest", "bilinear", "bicubic")
    ],
    "rescale": [
        d.Chain(ops=(d.Rescale(scale=(0.1, 2), chances=c), d.ResizeBack(interpolation="nearest")))
        for c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    ],
    "resize_interpolation": [
        d.Chain(ops=(d.Resize(factor=(6, 6), interpolation=i), d.ResizeBack(interpolation="nearest")))
        for i in ("bilinear", "bicubic", "area")
    ],
    "gaussian_noise": [d.GaussianNoise(sigma=(s, s)) for s in (5.0, 15.0, 40.0)],
    "gaussian_noise_grey": [d.GaussianNoise(sigma=(s, s), grey=1) for s in (5.0, 15.0, 40.0)],
    "poisson_noise": [d.PoissonNoise(scale=(s, s), grey=0) for s in (0.5, 1.5, 3.0)],
    "speckle_noise": [d.SpeckleNoise(sigma=(s, s)) for s in (10.0, 25.0, 60.0)],
    "jpeg": [d.Jpeg(quality=(q, q)) for q in (60, 20, 5)],
    "channel_shift": [d.ChannelShift(shift=(-s, s)) for s in (10.0, 20.0, 40.0)],
    "colour_jitter": [d.ColourJitter() for _ in range(3)],
    "grey": [d.Grey()],
    "unsharp": [d.Unsharp(weight=w) for w in (0.5, 1.5, 4.0)],
    "brush_strokes": [d.BrushStrokes() for _ in range(3)],
}

# what these take away is too little to see: it is shown as a departure from grey, so many times stronger
TAKEN: dict[str, tuple[d.Op, d.Op, int]] = {
    "clamp": (d.Sinc(size=(21,), cutoff=(0.9, 0.9)), d.Clamp(), 8),
    "round": (d.GaussianBlur(sigma=(2, 2), isotropic=1), d.Round(), 200),
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    whole = torch.from_numpy(data.astronaut()[10:202, 128:320].copy()).permute(2, 0, 1).contiguous()
    for name, ops in STRIPS.items():
        cells = [whole, *(op(whole, generator=rng(number)) for number, op in enumerate(ops))]
        saved(strip(cells), name)
    for name, (before, op, gain) in TAKEN.items():
        image = d.Chain(ops=(before,))(whole / 255, generator=rng(0))
        taken = 0.5 + gain * (d.Chain(ops=(before, op))(whole / 255, generator=rng(0)) - image)
        saved(strip([(part.clamp(0, 1) * 255).byte() for part in (image, taken)]), name)
    large = torch.from_numpy(np.array(Image.fromarray(pixels(whole)).resize((512, 512), Image.Resampling.BICUBIC)))
    large = large.permute(2, 0, 1).contiguous()
    presets = ("daefr", "codeformer-II", "gfpgan", "realesrgan", "bsrgan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in presets:
            results = [d.preset(name)(large, generator=rng(seed)) for seed in range(4)]
            saved(strip([small(result) for result in results]), f"preset_{name}")
        chain = d.preset("daefr")
    drawn = chain.sample(large, rng(1))
    saved(contact_sheet(large, d.steps(chain, large, drawn), side=176), "sheet")


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(planes: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(planes.permute(1, 2, 0).numpy())


def small(planes: torch.Tensor) -> torch.Tensor:
    picture = Image.fromarray(pixels(planes)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def strip(cells: list) -> np.ndarray:
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    parts = [part for cell in cells for part in (pixels(cell), gap)]
    return np.concatenate(parts[:-1], 1)


def saved(picture: np.ndarray, name: str) -> None:
    Image.fromarray(picture).save(FOLDER / f"{name}.webp", quality=82, method=6)


if __name__ == "__main__":
    main()
