"""`codeprior demo --out DIR`: the main job in a minute, offline: a face damaged, restored, pasted back, measured."""

import argparse
import json
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

from codeprior.commands._printing import say, say_lines
from codeprior.shapes import Image

HELP = "Damage and restore a real portrait with the embedded prior, and write a picture and figures."
_MEASURES = {
    "psnr": "dB, higher is better; blur is cheap",
    "ssim": "[0, 1], higher is better",
    "perceptual": "distance in the features of MTCNN's O-Net, lower is better; not LPIPS",
    "identity_degrees": "angle of dlib's face embeddings, lower is better; with codeprior[eval]",
}
_PORTRAIT = Path(__file__).parent / "astronaut.webp"  # NASA's, as scikit-image has it, to the bit
_SIDE = 512  # pixels; the presets' ranges are meant for faces of this size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for picture and figures (default: demo)")
    parser.add_argument("--weights", default="small", help="weights file, or small: the embedded prior (default)")
    parser.add_argument(
        "--photo", type=Path, help="another photograph (default: a portrait of an astronaut, public domain)"
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

    def report(text: str) -> None:
        say(f"[{time.monotonic() - started:5.1f} s] {text}", error=True)

    try:
        report("loading the model")
        from codeprior.restorers import load_restorer

        restorer = load_restorer(arguments.weights, device=arguments.device)
        done = _demonstrate(restorer, arguments, report)
    except (FileNotFoundError, ImportError, ValueError) as error:
        say(f"codeprior demo: {error}", error=True)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    from codeprior import files
    from codeprior.photos.files import write

    write(arguments.out / "demo.png", done.picture, overwrite=True)
    for name, pixels in done.parts.items():
        write(arguments.out / f"{name}.png", pixels, overwrite=True)
    done.figures["seconds"] = round(time.monotonic() - started, 1)
    text = json.dumps(done.figures, indent=2) + "\n"
    files.write(arguments.out / "figures.json", text, overwrite=True)
    report(f"wrote {arguments.out / 'demo.png'} and {arguments.out / 'figures.json'}")
    say_lines(text)
    return 0


class _Demonstration(NamedTuple):
    picture: Any
    parts: dict[str, Any]
    figures: dict[str, Any]


def _demonstrate(restorer: Any, arguments: argparse.Namespace, say: Any) -> _Demonstration:
    import torch

    from codeprior.degradations import preset
    from codeprior.images import to_array
    from codeprior.photos.bands import scaled
    from codeprior.photos.faces import Crop, align, detector, match_colour, paste
    from codeprior.photos.restoration import Choices, restore_photo

    photo = _photo(arguments.photo)
    say(f"looking for a face in {photo.shape[1]}×{photo.shape[0]} pixels")
    faces = detector()(photo)
    if not faces:
        raise ValueError(f"{arguments.photo or 'the portrait'}: no face was found")
    face = faces[0]
    crop = align(photo, face.points, size=_SIDE)
    say(f"degrading the aligned face with the preset {arguments.preset}, seed {arguments.seed}")
    generator = torch.Generator().manual_seed(arguments.seed)
    op = preset(arguments.preset)
    # the form in torch runs everywhere; the other wants numba and OpenCV
    damaged = torch.as_tensor(op.apply(crop.image, op.sample(crop.image, generator), impl="torch"))
    say(f"restoring at {restorer.size} pixels")
    # the model's own size is where figures compare; the picture shows the face at the size at which it was degraded
    clean, degraded = scaled(crop.image, restorer.size)[None], scaled(damaged, restorer.size)[None]
    examined = restorer.examine(damaged[None])
    restored, (decision,) = examined.images, examined.decisions
    if decision.action == "restored":
        restored = match_colour(restored, degraded)
    shown = restore_photo(to_array(damaged), restorer, choices=Choices(aligned=True, colour=True)).after[0]
    say("pasting back and measuring")
    before = paste(photo, [Crop(damaged, crop.matrix)])
    # the crop's matrix is for its own side
    after = paste(photo, [Crop(scaled(shown, _SIDE), crop.matrix)]) if decision.action != "left" else before
    say("giving it the photograph as it was")
    good = restore_photo(photo, restorer, faces=[face], choices=Choices(colour=True))
    figures = {
        "photograph": str(arguments.photo or "Eileen Collins (NASA, public domain)"),
        "preset": arguments.preset,
        "seed": arguments.seed,
        "model_size": restorer.size,
        "colours": "those of the degraded face",
        "rule": f"degraded at {_SIDE} pixels, then resized by area to the model's",
        "face": {"box": [round(float(v), 1) for v in face.box], "score": round(face.score, 4)},
        "measures": _MEASURES,
        "before": _measured(degraded, clean),
        "after": _measured(scaled(restored[0], restorer.size)[None], clean),
        **decision.described(),
        "undamaged": {
            **(good.decisions[0].described() if good.decisions[0] else {}),
            "changed_pixels": int((good.pixels != photo).any(2).sum()),
        },
    }
    if examined.uncertainty is not None:
        figures["uncertainty"] = round(float(examined.uncertainty.mean()), 4)
    say(_told(figures["before"], figures["after"]))
    panels = [
        (damaged, ["degraded", *_damage_lines(figures)]),
        (
            shown,
            [f"{decision.action}: {decision.reason}", _told(figures["before"], figures["after"]).replace("→", "to")],
        ),
        (crop.image, ["original"]),
        (_doubt(examined.uncertainty), ["where the model guessed: dark is sure, pale is guessed"]),
    ]
    changed = figures["undamaged"]["changed_pixels"]
    action, reason = (figures["undamaged"].get(key, "") for key in ("decision", "reason"))
    below = [
        (_planes(photo), ["a good photograph, as it was", *_damage_lines(figures["undamaged"])]),
        (_planes(good.pixels), [f"given to the restorer: {action}: {reason}", f"{changed} pixels changed"]),
        (_planes(before), ["the photograph with the degraded face"]),
        (_planes(after), ["with the restored face"]),
    ]
    parts = {
        "degraded": to_array(degraded[0]),
        "restored": to_array(restored[0]),
        "original": to_array(clean[0]),
        "photo-degraded": before,
        "photo-restored": after,
    }
    return _Demonstration(_sheet([panels, below]), parts, figures)


def _photo(path: Path | None) -> Any:
    from codeprior.photos import read

    return read(path or _PORTRAIT).pixels


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


def _damage_lines(figures: dict[str, Any]) -> list[str]:
    """Gives the estimate of what a face went through, in two lines."""
    if "damage" not in figures:
        return []
    damage = figures["damage"]
    return [
        f"estimated: blur {damage['blur']:.1f} px, reduced {damage['reduction']:.1f} x, noise {damage['noise']:.1f}, "
        f"JPEG {damage['quality']:.0f}",
        f"trustworthy up to {figures['cycles']:.0f} cycles a face ({figures['side']:.0f} px)",
    ]


def _doubt(uncertainty: Any) -> Any:
    """Gives the map of uncertainty in colours, or white where there is none."""
    import torch

    from codeprior.photos.sheets import heat

    return torch.ones(3, 8, 8) if uncertainty is None else heat(uncertainty[0])


def _planes(pixels: Any) -> Any:
    from codeprior.images import from_levels

    return from_levels(pixels)


def _sheet(rows: list[list[tuple[Any, list[str]]]]) -> Any:
    """Gives one picture of rows of panels, each with its lines of text below it."""
    import numpy as np
    from PIL import Image as Pictures
    from PIL import ImageDraw, ImageFont

    from codeprior.images import to_array

    width, gap, font = 448, 12, ImageFont.load_default(14)
    letters, line = width // 7, 18
    heights, texts = [], []
    for panels in rows:
        texts.append(
            ["\n".join(part for text in lines for part in textwrap.wrap(text, letters)) for _, lines in panels]
        )
        heights.append(max(round(width * image.shape[1] / image.shape[2]) for image, _ in panels))
    below = [line * max(text.count("\n") + 1 for text in row) + gap for row in texts]
    columns = max(len(panels) for panels in rows)
    size = (columns * (width + gap) + gap, sum(heights) + sum(below) + gap * (len(rows) + 1))
    sheet = Pictures.new("RGB", size, "white")
    pen, top = ImageDraw.Draw(sheet), gap
    for panels, row, height, space in zip(rows, texts, heights, below, strict=True):
        for column, ((image, _), text) in enumerate(zip(panels, row, strict=True)):
            left = gap + column * (width + gap)
            tall = round(width * image.shape[1] / image.shape[2])
            panel = Pictures.fromarray(to_array(image)).resize((width, tall), Pictures.Resampling.BICUBIC)
            sheet.paste(panel, (left, top))
            pen.multiline_text((left, top + height + 4), text, fill="black", font=font, spacing=4)
        top += height + space + gap
    return np.asarray(sheet)
