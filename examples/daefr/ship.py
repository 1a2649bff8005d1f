"""Makes the embedded weights from the folders of a small run: half precision, the licence in the header, the curves.

`python -m codeprior.recipes.daefr.ship runs --out examples/daefr/weights`

`runs` holds the folders of the stages, as `train small` writes them.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from codeprior.prior import VQGAN
from codeprior.stages.shipping import Shipped, ship

from .model import DAEFR
from .settings import SMALL

FACTS: Mapping[str, str] = {
    "licence": "CC-BY-4.0, with the attributions of the card; not for identification",
    "card": "examples/daefr/weights/README.md",
    "data": "train split of the portraits: permissively licensed photographs of real people",
    "degradation": "presets at 512 px, then resized by area to 128 px",
    "edition": "2",
}
FILES = {
    "daefr_small": Shipped("decoder_small", "restorer", DAEFR, ", ".join(SMALL)),
    "hq_vqgan_small": Shipped("hq_codebook_small", "vqgan", VQGAN, "hq_codebook_small"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 where a stage's weights are missing."""
    parser = argparse.ArgumentParser(
        prog="python -m codeprior.recipes.daefr.ship", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("runs", type=Path, help="folder of the stages' folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of the weights")
    arguments = parser.parse_args(argv)
    try:
        for path in ship(arguments.runs, arguments.out, FILES, facts=FACTS):
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    except (ValueError, FileNotFoundError) as error:
        print(f"ship: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
