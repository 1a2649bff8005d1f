"""The forward pass of CodeFormer, VQFR and RestoreFormer against the same arithmetic written out plainly.

    python -m benchmarks.recipes --quick --json rows.json
    python -m benchmarks.recipes --only codeformer --json rows.json

Weights are random but fixed: time does not depend on them. The networks have their published sizes; pictures have 512
pixels, with `--quick` 128. Every row says the PSNR of its picture against the plain one's. On a CPU a time is CPU time
on one thread. `plain` runs the same modules' weights with nothing fused and every convolution by torch.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks import _plain_families as plain
from benchmarks._measure import Given, about, interleaved, options, peak_bytes, report, settled
from codeprior.codebooks import Codebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.fusion import TextureBranch
from codeprior.images import to_unit
from codeprior.metrics import psnr
from codeprior.recipes.codeformer import model as codeformer
from codeprior.recipes.codeformer.settings import Network as CodeFormerNetwork
from codeprior.recipes.restoreformer import model as restoreformer
from codeprior.recipes.restoreformer.settings import Network as RestoreFormerNetwork
from codeprior.recipes.vqfr import model as vqfr
from codeprior.recipes.vqfr.settings import Network as VQFRNetwork

Forward = Callable[[torch.Tensor], torch.Tensor]


def main() -> int:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--only", choices=MODELS, action="append", help="one model; repeatable")
    asked = parser.parse_args()
    given = Given(asked.quick, asked.json, asked.plot)
    rows: list[dict] = []
    with settled() as device:
        for name in asked.only or MODELS:
            pixels = 128 if given.quick else 512
            rows += forward_rows(name, MODELS[name](device, pixels), device, pixels=pixels, quick=given.quick)
    report([row | about() for row in rows], given, missing=[])
    return 0


def forward_rows(name: str, forwards: Mapping[str, Forward], device: str, *, pixels: int, quick: bool) -> list[dict]:
    """Gives a row for each way of computing, one picture at a time."""
    image = (2 * torch.rand(1, 3, pixels, pixels, generator=torch.Generator().manual_seed(1)) - 1).to(device)
    pictures: dict[str, torch.Tensor] = {}
    providers = {impl: _bound(forward, image, pictures, impl) for impl, forward in forwards.items()}
    for run in providers.values() if quick else ():
        run()
    # at full size, where a run takes long, what is allocated once counts as memory of the first, which is ours
    peaks = {impl: peak_bytes(providers[impl]) for impl in reversed(providers)}
    times = interleaved(providers, seconds=5 if quick else 40, rounds=5, warm=True)
    rows = []
    for impl in providers:
        row: dict[str, Any] = {"op": name, "batch": 1, "pixels": pixels, "impl": impl}
        row |= {"ms": times[impl][1], "ms_quantiles": times[impl]}
        row["speedup"] = round(times["plain"][1] / times[impl][1], 3)
        row["psnr"] = round(float(psnr(*map(to_unit, (pictures[impl], pictures["plain"]))).mean().clamp(max=200)), 1)
        row["peak_bytes"] = peaks[impl]
        rows.append(row)
        print("  ".join(f"{key}={row[key]}" for key in row if key != "ms_quantiles"), flush=True)
    return rows


def _codeformer(device: str, pixels: int) -> dict[str, Forward]:
    network = replace(CodeFormerNetwork(), size=pixels)
    model = codeformer.fresh(network, _table(codeformer.vqgan(network)))
    model = model.with_taps(codeformer.fresh_taps(network)).to(device).eval()
    return {
        "plain": lambda image: plain.codeformer(model, image, fidelity=0.5),
        "codeprior": partial(model.restore, fidelity=0.5),
    }


def _vqfr_v1(device: str, pixels: int) -> dict[str, Forward]:
    sizes = {"channels": 128, "multipliers": (1, 1, 2, 2, 2, 4), "attention": (), "middle": False, "bilinear": True}
    encoder = VQGANEncoder(blocks=2, latent_channels=512, **sizes)
    decoder = VQGANDecoder(blocks=3, widening=False, **sizes)
    branch = TextureBranch([decoder.tap_channels[stride] for stride in sorted(decoder.tap_channels)], bilinear=True)
    codebook = Codebook(1024, 256)
    torch.nn.init.normal_(codebook.weight)
    model = vqfr.VQFRv1(encoder, codebook, decoder, branch, size=pixels).to(device).eval()
    _moved(model.branch)
    return {"plain": partial(plain.vqfr_v1, model), "codeprior": model.restore}


def _vqfr_v2(device: str, pixels: int) -> dict[str, Forward]:
    network = replace(VQFRNetwork(), size=pixels)
    model = vqfr.fresh(network, _table(vqfr.vqgan(network))).to(device).eval()
    _moved(model.branch)
    return {
        "plain": lambda image: plain.vqfr_v2(model, image, fidelity=0.5),
        "codeprior": partial(model.restore, fidelity=0.5),
    }


def _restoreformer(device: str, pixels: int) -> dict[str, Forward]:
    network = replace(RestoreFormerNetwork(), size=pixels)
    model = restoreformer.fresh(network, _table(restoreformer.vqgan(network))).to(device).eval()
    return {"plain": partial(plain.restoreformer, model), "codeprior": model.restore}


def _table(teacher: Any) -> Any:
    # codes as far apart as latents are, so that every one can be the nearest
    torch.nn.init.normal_(teacher.codebook.weight)
    return teacher


def _moved(branch: Any) -> None:
    # a new warp reads the grid itself; a trained one reads between the places
    for warp in branch.warps:
        torch.nn.init.normal_(warp.warp.offsets.weight, std=0.01)


def _bound(
    forward: Forward, image: torch.Tensor, pictures: dict[str, torch.Tensor], impl: str
) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            answer = forward(image)
        pictures[impl] = answer.float()
        return answer

    return run


MODELS: Mapping[str, Callable[[str, int], dict[str, Forward]]] = {
    "codeformer": _codeformer, "vqfr_v1": _vqfr_v1, "vqfr_v2": _vqfr_v2, "restoreformer": _restoreformer,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
