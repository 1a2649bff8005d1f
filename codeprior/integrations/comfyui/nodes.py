"""The nodes: each says what it takes and gives in ComfyUI's terms, where an image is `b h w c`, unit, float32."""

import functools
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from codeprior.degradations import preset, preset_names
from codeprior.families import installed_families
from codeprior.photos.faces import NoFaceError
from codeprior.photos.restoration import Choices, restore_photo
from codeprior.restorers import Restorer, load_restorer

CATEGORY = "image/codeprior"
_FOLDERS = ("codeprior", "facerestore_models")
_SUFFIXES = (".safetensors", ".pth", ".ckpt", ".onnx")
_SEEDS = 2**64 - 1


class LoadRestorer:
    """Loads the weights of any family: those that come with the library, and files of ComfyUI's own folders.

    Files are looked for in `models/codeprior` and `models/facerestore_models`.
    """

    RETURN_TYPES = ("CODEPRIOR_RESTORER",)
    RETURN_NAMES = ("restorer",)
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = "Weights of a face restoration model: embedded ones, published checkpoints, safetensors or ONNX."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Gives the names of the weights that are there, and the devices."""
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        devices += ["mps"] if torch.backends.mps.is_available() else []
        return {"required": {"weights": (list(_weights()),), "device": (devices,)}}

    def load(self, weights: str, device: str) -> tuple[Restorer]:
        """Gives the restorer.

        Args:
            weights: One of the names that are offered.
            device: Where it runs.

        Raises:
            ValueError: There are no such weights, or the file holds no model that restores.
        """
        known = _weights()
        if weights not in known:
            raise ValueError(f"LoadRestorer: there are no weights {weights!r}; there are {', '.join(known)}.")
        return (load_restorer(known[weights], device=device),)


class RestoreFaces:
    """Finds the faces of images, restores those that the model can help, and pastes them back."""

    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("images", "report")
    FUNCTION = "restore"
    CATEGORY = CATEGORY
    DESCRIPTION = "Faces are found, restored and pasted back; a face that holds more than the model gives back stays."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Gives what the node takes."""
        share = {"min": 0.0, "max": 1.0, "step": 0.05}
        return {
            "required": {
                "images": ("IMAGE",),
                "restorer": ("CODEPRIOR_RESTORER",),
                "faces": (["all", "largest", "centre"],),
                "fidelity": ("FLOAT", {"default": 0.5, **share, "tooltip": "0 follows the model, 1 the picture"}),
                "choose_fidelity": ("BOOLEAN", {"default": True, "tooltip": "choose it for each face by its damage"}),
                "strength": ("FLOAT", {"default": 1.0, **share, "tooltip": "0 the face as it was, 1 the restored one"}),
                "do_no_harm": (
                    "BOOLEAN",
                    {"default": True, "tooltip": "leave faces that hold more than the model gives back"},
                ),
                "aligned": ("BOOLEAN", {"default": False, "tooltip": "each image is one aligned face already"}),
            },
            "optional": {
                "keep_grain": ("BOOLEAN", {"default": True, "tooltip": "give mended faces the image's grain back"}),
            },
        }

    def restore(
        self,
        images: Tensor,
        restorer: Restorer,
        faces: str = "all",
        fidelity: float = 0.5,
        choose_fidelity: bool = True,
        strength: float = 1.0,
        do_no_harm: bool = True,
        aligned: bool = False,
        keep_grain: bool = True,
    ) -> tuple[Tensor, str]:
        """Gives the restored images, and a line for each image and face.

        Args:
            images: `b h w c`, unit; of more than three channels the first three are taken, the others come back as
                they were.
            restorer: What `LoadRestorer` gives.
            faces: `all`, `largest` or `centre`.
            fidelity: 0 follows the model alone, 1 the picture as far as the model can; not used where it is chosen.
            choose_fidelity: Whether it is chosen for each face.
            strength: 0 the face as it was, 1 the restored one.
            do_no_harm: Whether faces are left that hold more than the model gives back.
            aligned: Whether each image is one aligned face already; the answers then have the restorer's size at least.
            keep_grain: Whether mended faces have the image's grain again, of heavy noise a part.

        Returns:
            Images of the same kind, an image without a usable face unchanged, and the report.

        Raises:
            ValueError: There is no image, or one holds NaN or infinity.
        """
        _check("RestoreFaces", images)
        choices = Choices(
            faces=faces, aligned=aligned, strength=strength, fidelity="auto" if choose_fidelity else fidelity,
            always=not do_no_harm, colour=True, grain="auto" if keep_grain else 0.0,
        )  # fmt: skip
        found = None if aligned else _detector()
        restored, lines = [], []
        for number, image in enumerate(images):
            pixels = (image[..., :3].detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            try:
                done = restore_photo(np.ascontiguousarray(pixels), restorer, detector=found, choices=choices)
            except NoFaceError as error:
                lines.append(f"image {number}: {error}")
                restored.append(image)
                continue
            lines += _said(number, done)
            restored.append(_joined(image, done.pixels, untouched=done.untouched))
        return torch.stack(restored), "\n".join(lines)


class DegradeImages:
    """Damages images as the training of a published model does, the same for the same seed."""

    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    FUNCTION = "degrade"
    CATEGORY = CATEGORY
    DESCRIPTION = "Blur, reduction, noise and JPEG as a published model's training draws them."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Gives what the node takes."""
        seed = {"default": 0, "min": 0, "max": _SEEDS, "control_after_generate": True}
        return {"required": {"images": ("IMAGE",), "preset": (list(preset_names()),), "seed": ("INT", seed)}}

    def degrade(self, images: Tensor, preset: str, seed: int) -> tuple[Tensor]:
        """Gives the damaged images.

        Args:
            images: `b h w c`, unit.
            preset: One of `codeprior.degradations.preset_names()`.
            seed: Of all draws.

        Returns:
            Images of the same kind and size.

        Raises:
            ValueError: There is no image, or one holds NaN or infinity.
        """
        _check("DegradeImages", images)
        # a generator takes 63 bits of the 64 that ComfyUI draws
        generator = torch.Generator().manual_seed(seed & (2**63 - 1))
        planes = rearrange(images[..., :3].detach().float().cpu(), "b h w c -> b c h w").clamp(0, 1).contiguous()
        damaged = _op(preset)(planes, generator=generator)
        return (rearrange(torch.as_tensor(damaged).to(images), "b c h w -> b h w c").contiguous(),)


def _check(who: str, images: Tensor) -> None:
    if images.ndim != 4 or not len(images) or images.shape[-1] < 3:
        raise ValueError(f"{who}: expected images b h w c with three channels or more, got {tuple(images.shape)}.")
    bad = [number for number, image in enumerate(images) if not bool(image.isfinite().all())]
    if bad:
        raise ValueError(
            f"{who}: image {bad[0]} holds NaN or infinity, as a VAE in half precision gives; run that in float32."
        )


def _op(name: str) -> Any:
    return preset(name)


@functools.cache
def _detector() -> Any:
    from codeprior.photos.faces import detector

    return detector()


def _weights() -> dict[str, Path | str]:
    """Gives the weights that can be chosen: embedded ones by name, then files of ComfyUI's folders."""
    known: dict[str, Path | str] = {name: name for family in installed_families() for name in family.embedded}
    try:
        folders = import_module("folder_paths")  # ComfyUI's own; there only inside of it
    except ImportError:
        return known
    places = [Path(folders.models_dir) / name for name in _FOLDERS]
    for place in places:
        files = sorted(place.rglob("*")) if place.is_dir() else []
        known |= {str(path.relative_to(place)): path for path in files if path.suffix.lower() in _SUFFIXES}
    return known


def _joined(image: Tensor, pixels: np.ndarray, *, untouched: bool) -> Tensor:
    """Gives restored pixels as ComfyUI's image, with the channels beyond three as they were."""
    if untouched and pixels.shape[:2] == image.shape[:2]:
        return image
    colours = (torch.from_numpy(pixels).float() / 255).to(image)
    same = colours.shape[:2] == image.shape[:2]
    return torch.cat((colours, image[..., 3:]), -1) if image.shape[-1] > 3 and same else colours


def _said(number: int, done: Any) -> list[str]:
    lines = []
    for face, decision in zip(done.chosen or [0], done.decisions, strict=True):
        said = "restored" if decision is None else f"{decision.action}: {decision.reason}"
        lines.append(f"image {number}, face {face}: {said}")
    return lines
