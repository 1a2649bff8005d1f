"""Draws the picture of `restore.md`: python docs/guides/restore_pictures.py.

Columns: degraded, what the model alone says, mended, original. The limit is measured against the original and the rest
of the damage is what was done, so that the picture shows the mending and not the estimate.
"""

from pathlib import Path

import torch
from PIL import Image
from skimage.data import astronaut

from codeprior import degradations as d
from codeprior.estimators import Damage, measured_limit
from codeprior.images import to_array
from codeprior.photos.bands import scaled
from codeprior.photos.faces import align, detector
from codeprior.photos.restoration import Choices, restore_photo
from codeprior.photos.sheets import column, row
from codeprior.recipes.daefr import load

PICTURE = Path(__file__).parents[1] / "images" / "restore" / "mended.webp"
SIDE, SHOWN = 512, 224

DONE = (
    ({"blur": 7.0}, [d.GaussianBlur(size=(61,), sigma=(7, 7), isotropic=1)]),
    ({"reduction": 8.0, "noise": 10.0}, [d.Resize(factor=(8, 8)), d.GaussianNoise(sigma=(10, 10)), d.ResizeBack()]),
    (
        {"blur": 4.0, "reduction": 4.0, "quality": 40.0},
        [
            d.GaussianBlur(size=(41,), sigma=(4, 4), isotropic=1),
            d.Resize(factor=(4, 4)),
            d.Jpeg(quality=(40, 40)),
            d.ResizeBack(),
        ],
    ),
)


class Known:
    """An estimator that knows what was done."""

    def __init__(self, clean: torch.Tensor, degraded: torch.Tensor, figures: dict[str, float]):
        known = {"blur": 0.0, "reduction": 1.0, "noise": 0.0, "quality": 100.0} | figures
        self.damage = Damage(
            **{name: torch.tensor([value]) for name, value in known.items()},
            limit=torch.tensor([measured_limit(clean, degraded)]),
        )

    def estimate(self, faces: torch.Tensor) -> Damage:
        return self.damage


def main() -> None:
    photo = astronaut()
    clean = align(photo, detector()(photo)[0].points, size=SIDE).image
    restorer, rows = load("small"), []
    for figures, ops in DONE:
        degraded = torch.as_tensor(d.Chain(ops=tuple(ops))(clean, generator=torch.Generator().manual_seed(0)))
        restorer.estimator = Known(clean, degraded, figures)
        faces = [degraded]
        for always in (True, False):
            choices = Choices(aligned=True, always=always)
            faces.append(restore_photo(to_array(degraded), restorer, choices=choices).after[0])
        rows.append(row([scaled(face, SHOWN) for face in [*faces, clean]]))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_array(column(rows))).save(PICTURE, quality=88, method=6)


if __name__ == "__main__":
    main()
