"""Draws the training curves of the embedded weights: python docs/guides/curves_pictures.py."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
CURVES, PICTURE = (
    ROOT / "examples" / "daefr" / "weights" / "curves.json",
    ROOT / "docs" / "images" / "training_curves.png",
)
ROWS = {
    "hq_codebook_small": ("1a", "pyramid", "perceptual", "validation_psnr"),
    "lq_codebook_small": ("1b", "pyramid", "perceptual"),
    "association_small": ("2", "hq_pyramid", "lq_pyramid", "association"),
    "restoration_small": ("3", "code", "feature", "accuracy"),
    "fidelity_half": ("3b, on stage 3 at half", "pyramid", "perceptual"),
    "fidelity_first": ("3b, finished stage 3", "pyramid", "perceptual"),
    "fidelity_own": ("3b, own encoder", "pyramid", "perceptual", "validation_identity"),
    "fidelity_parts": ("3b, eyes and mouth", "pyramid", "parts_perceptual", "validation_identity"),
    "fidelity_hatch": ("3b, hatch", "pyramid", "hatch", "validation_identity"),
    "fidelity_small": ("3b, last", "pyramid", "perceptual", "validation_identity"),
    "decoder_small": ("3c", "pyramid", "perceptual", "validation_identity"),
}


def main() -> None:
    curves = json.loads(CURVES.read_text())
    figure, axes = plt.subplots(len(ROWS), 3, figsize=(8, 1.42 * len(ROWS)), layout="constrained")
    for places, (stage, (label, *names)) in zip(axes, ROWS.items(), strict=True):
        for place, name in zip(places, [*names, None, None], strict=False):
            if name is None:
                place.axis("off")
                continue
            curve = curves[stage][name]
            place.plot(curve["step"], curve["value"], marker="o" if len(curve["step"]) < 8 else None, markersize=4)
            place.set_title(f"{label}: {name}", fontsize=9)
            place.set_xlabel("step", fontsize=7)
            place.tick_params(labelsize=7)
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
