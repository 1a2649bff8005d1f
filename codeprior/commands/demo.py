"""`codeprior demo --out DIR`: the main job in a minute, offline: a face damaged, restored, pasted back, measured."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from codeprior.commands._recipes import recipe
from codeprior.extras import needed
from codeprior.shapes import Image

HELP = "Damage and restore a real portrait with the embedded prior, and write a picture and figures."
_MEASURES = {
    "psnr": "dB, higher is better; blur is cheap",
    "ssim": "[0, 1], higher is better",
    "perceptual": "distance in the features of MTCNN's O-Net, lower is better; not LPIPS",
    "identity_degrees": "angle of dlib's face embeddings, lower is better; with codeprior[eval]",
}
_SIDE = 512  # pixels; the presets' ranges are meant for faces of this size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for picture and figures (default: demo)")
    parser.add_argument("--weights", default="small", help="weights file, or small: the embedded prior (default)")
    parser.add_argument(
        "--photo", type=Path, help="another photograph (default: scikit-image's astronaut, public domain)"
    )
    parser.add_argument("--preset", default="daefr", help="degradation preset (default: daefr)")
    parser.add_argument("--seed", type=int, default=0, help="of the degradation (default: 0)")
    parser.add_argument("--device", default="cpu", help="where the network runs (default: cpu)")


def run(arguments: argparse.Namespace) -> int:
    """Makes the demonstration.

    Args:
        arguments: As parsed.

    Returns:
        0, or 2 where photograph or weights cannot be used.
    """
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", file=sys.stderr, flush=True)

    try:
        say("loading the model")
        restorer = recipe("daefr").load(arguments.weights, device=arguments.device)
        done = _demonstrate(restorer, arguments, say)
    except (FileNotFoundError, ImportError, ValueError) as error:
        print(f"codeprior demo: {error}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    from codeprior.photos.files import place, write

    write(arguments.out / "demo.png", done.picture, overwrite=True)
    for name, pixels in done.parts.items():
        write(arguments.out / f"{name}.png", pixels, overwrite=True)
    done.figures["seconds"] = round(time.monotonic() - started, 1)
    text = json.dumps(done.figures, indent=2) + "\n"
    place(arguments.out / "figures.json", text.encode(), overwrite=True)
    say(f"wrote {arguments.out / 'demo.png'} and {arguments.out / 'figures.json'}")
    print(text, end="")
    return 0


class _Demonstration(NamedTuple):
    picture: Any
    parts: dict[str, Any]
    figures: dict[str, Any]


def _demonstrate(restorer: Any, arguments: argparse.Namespace, say: Any) -> _Demonstration:
    import torch
    from torch.nn import functional as F

    from codeprior.degradations import preset
    from codeprior.photos.faces import Crop, align, detector, match_colour, paste
    from codeprior.photos.restoration import answer
    from codeprior.photos.sheets import levels

    photo = _photo(arguments.photo)
    say(f"looking for a face in {photo.shape[1]}×{photo.shape[0]} pixels")
    faces = detector()(photo)
    if not faces:
        raise ValueError(f"{arguments.photo or 'the portrait'}: no face was found")
    face = faces[0]
    crop = align(photo, face.points, size=_SIDE)
    say(f"degrading the aligned face with the preset {arguments.preset}, seed {arguments.seed}")
    generator = torch.Generator().manual_seed(arguments.seed)
    damaged = torch.as_tensor(preset(arguments.preset)(crop.image, generator=generator))

    def sized(image: torch.Tensor) -> torch.Tensor:
        return F.interpolate(image[None], size=(restorer.size, restorer.size), mode="area")

    clean, degraded = sized(crop.image), sized(damaged)
    say(f"restoring at {restorer.size} pixels")
    restored, uncertainty = answer(restorer, degraded, uncertainty=True)
    restored = match_colour(restored, degraded)
    say("pasting back and measuring")
    before = paste(photo, [Crop(damaged, crop.matrix)])
    # the crop's matrix is for its own side; the same place seen from another side
    after = paste(
        photo, [Crop(F.interpolate(restored, size=(_SIDE, _SIDE), mode="bicubic")[0].clamp(0, 1), crop.matrix)]
    )
    figures = {
        "photograph": str(arguments.photo or "scikit-image astronaut (NASA, public domain)"),
        "preset": arguments.preset,
        "seed": arguments.seed,
        "model_size": restorer.size,
        "colours": "coarse colours of the degraded face",
        "rule": f"degraded at {_SIDE} pixels, then resized by area to the model's",
        "face": {"box": [round(float(v), 1) for v in face.box], "score": round(face.score, 4)},
        "measures": _MEASURES,
        "before": _measured(degraded, clean),
        "after": _measured(restored, clean),
    }
    if uncertainty is not None:
        figures["uncertainty"] = round(float(uncertainty.mean()), 4)
    say(_told(figures["before"], figures["after"]))
    picture = _sheet([degraded[0], restored[0], clean[0]], [before, after, photo])
    parts = {"degraded": levels(degraded[0]), "restored": levels(restored[0]), "original": levels(clean[0])}
    return _Demonstration(picture, parts | {"photo-degraded": before, "photo-restored": after}, figures)


def _photo(path: Path | None) -> Any:
    if path is not None:
        from codeprior.photos import read

        return read(path).pixels
    return needed("skimage.data", who="the demo's portrait").astronaut()


def _measured(image: Image, clean: Image) -> dict[str, float]:
    """Gives what can be measured with what is installed: the last figure only with `codeprior[eval]`."""
    from codeprior.metrics import DlibFace, WeightsMissing, feature_distance, identity_angle, psnr, ssim
    from codeprior.photos.faces.mtcnn import face_features

    figures = {
        "psnr": round(float(psnr(image, clean)), 3),
        "ssim": round(float(ssim(image, clean)), 4),
        "perceptual": round(float(feature_distance(face_features(image), face_features(clean))), 4),
    }
    try:
        network = DlibFace()
    except WeightsMissing:
        return figures
    degrees = identity_angle(network(image), network(clean)).rad2deg()
    return figures | {"identity_degrees": round(float(degrees), 2)}


def _told(before: dict[str, float], after: dict[str, float]) -> str:
    return "; ".join(f"{name} {value:g} → {after[name]:g}" for name, value in before.items())


def _sheet(faces: list[Any], photos: list[Any]) -> Any:
    """Gives one picture: degraded, restored, original; below, the whole photograph in the same order."""
    import torch
    from einops import rearrange
    from torch.nn import functional as F

    from codeprior.photos.sheets import column, levels, row

    width = 384
    upper = [F.interpolate(face[None], size=(width, width), mode="bicubic")[0].clamp(0, 1) for face in faces]
    lower = []
    for photo in photos:
        unit = rearrange(torch.from_numpy(photo.copy()), "h w c -> c h w").float() / 255
        height = round(width * photo.shape[0] / photo.shape[1])
        lower.append(F.interpolate(unit[None], size=(height, width), mode="bicubic", antialias=True)[0].clamp(0, 1))
    return levels(column([row(upper), row(lower)]))
