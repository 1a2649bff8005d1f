"""`python -m tests.degradations.against_opencv PRESET…`: how far each way of a preset is from OpenCV's plain chain."""

import json
import sys

import torch

from codeprior.degradations import preset

from .reference import degraded, photograph


def compared(name: str, count: int = 8, size: int = 128) -> dict[str, dict[str, float]]:
    """Share of identical images, share of values that depart, and the largest departure in levels."""
    image, op = photograph(size), preset(name)
    drawn = op.sample((count, size, size), torch.Generator().manual_seed(3))
    truth = torch.stack([degraded(image, drawn, row) for row in range(count)]).int()
    found = {}
    for mode, impl in (("strict", "cpu"), ("strict", "torch"), ("fast", "cpu")):
        result = op.apply(image.expand(count, -1, -1, -1), drawn, mode=mode, impl=impl)
        difference = (result.int() - truth).abs()
        found[f"{mode} {impl}"] = {
            "identical": float((difference.amax((1, 2, 3)) == 0).float().mean()),
            "values": float((difference > 0).float().mean()),
            "levels": int(difference.max()),
        }
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({name: compared(name) for name in sys.argv[1:]}))
