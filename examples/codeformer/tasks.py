"""What CodeFormer does beside restoring: filling areas of a face, and giving colour to a grey one."""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, UInt8
from torch.nn import functional as F

from codeprior.images import resize, to_signed, to_unit

from .model import CodeFormer

Pixels = UInt8[np.ndarray, "H W 3"]
_WHITE = 255


def inpaint(model: CodeFormer, pixels: Pixels, mask: Bool[np.ndarray, "H W"] | None = None) -> Pixels:
    """Gives an aligned face whose masked area is drawn anew; everything else is as it was, to the bit.

    Args:
        model: Of the task inpainting.
        pixels: `H W 3`, RGB, 8-bit levels, square.
        mask: `H W`, true where to draw; without it, where all three levels are 255, as the published code has it.

    Raises:
        ValueError: The model is of another task, the face is not square, the mask has another size, or nothing is
            masked.

    Source: sczhou/CodeFormer, its inpainting: fidelity 1, no AdaIN, the area white in what the network sees.
    """
    _check("inpaint", model, pixels, "inpainting")
    wanted = (pixels == _WHITE).all(-1) if mask is None else mask
    if wanted.shape != pixels.shape[:2]:
        raise ValueError(f"inpaint: the mask is {wanted.shape}, the face {pixels.shape[:2]}; they must be equal.")
    if not wanted.any():
        raise ValueError("inpaint: nothing is masked; give a mask, or paint the area white (255, 255, 255).")
    seen = pixels.copy()
    seen[wanted] = _WHITE
    answer = pixels.copy()
    answer[wanted] = _answer(model, seen)[wanted]
    return answer


def colourise(model: CodeFormer, pixels: Pixels, mask: Bool[np.ndarray, "H W"] | None = None) -> Pixels:
    """Gives an aligned face its likely colours.

    Args:
        model: Of the task colourisation.
        pixels: `H W 3`, RGB, 8-bit levels, square; three equal levels where it is grey.
        mask: `H W`, true where colours are wanted; everywhere without it.

    Raises:
        ValueError: The model is of another task, the face is not square, or the mask has another size.

    Source: sczhou/CodeFormer, its colourisation: fidelity 0, AdaIN.
    """
    _check("colourise", model, pixels, "colourisation")
    answer = _answer(model, pixels)
    if mask is None:
        return answer
    if mask.shape != pixels.shape[:2]:
        raise ValueError(f"colourise: the mask is {mask.shape}, the face {pixels.shape[:2]}; they must be equal.")
    return np.where(mask[..., None], answer, pixels)


def _answer(model: CodeFormer, pixels: Pixels) -> Pixels:
    """Gives what the model makes of a face at its own task's settings, at the face's size."""
    device = next(model.parameters()).device
    unit = rearrange(torch.as_tensor(pixels), "h w c -> 1 c h w").float() / 255
    restored = to_unit(model.restore(to_signed(resize(unit, model.size)).to(device)).clamp(-1, 1)).cpu()
    if restored.shape[-2:] != unit.shape[-2:]:
        restored = F.interpolate(restored, unit.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
    return (rearrange(restored, "1 c h w -> h w c") * 255).round().to(torch.uint8).numpy()


def _check(who: str, model: CodeFormer, pixels: Pixels, task: str) -> None:
    if model.task != task:
        raise ValueError(f"{who}: the weights are for {model.task}; give it weights for {task}.")
    if pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1] or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"{who}: expected an aligned, square face H W 3 of 8-bit levels, got {pixels.dtype} {pixels.shape}."
        )
