"""The whole DAEFR forward against the same arithmetic written out plainly, and many photographs against one at a time.

    python -m benchmarks.restore --quick --json rows.json
    python -m benchmarks.restore --brief --seconds 4 --json rows.json     # a GPU that is lent for minutes
    python -m benchmarks.restore --photos 100 --json rows.json
    python -m benchmarks.restore --photos 40 --against OTHER_CHECKOUT --rounds 3 --json rows.json

Weights are random but fixed: time does not depend on them. Every row says how many codes agree with the plain form in
fp32, and the PSNR of its image against the plain one's. `--quick` takes the small network; without it the released
sizes at 512 pixels, a plain forward of which needs some twenty CPU seconds. On a GPU plain is fp32 and one image at a
time; each batch has its own rows, and `images_per_s` is what to compare. `--photos` asks the other question alone; with
`--against`, the folder of another checkout, both versions take turns on the same photographs, each in its own process.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks import _plain
from benchmarks._measure import Given, about, interleaved, options, peak_bytes, report
from benchmarks._photographs import against_rows, photograph_rows
from codeprior.images import to_unit
from codeprior.metrics import psnr
from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.model import DAEFR, restorer, vqgan

Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def main() -> int:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, metavar="N", help="only N photographs, through stream and one at a time")
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="with --photos: another checkout, in turns with this"
    )
    parser.add_argument("--rounds", type=int, default=3, help="with --against: turns of each (default: 3)")
    parser.add_argument("--half", action="store_true", help="also bfloat16 and channels_last, 16 images at a time")
    parser.add_argument("--brief", action="store_true", help="without torch.compile, and without photographs")
    parser.add_argument("--seconds", type=float, help="for each batch; 5 with --quick, else 400")
    asked = parser.parse_args()
    given = Given(asked.quick, asked.json, asked.plot)
    if asked.photos:
        rows = (
            against_rows(asked.photos, asked.against, rounds=asked.rounds)
            if asked.against
            else photograph_rows(asked.photos)
        )
        report([row | about() for row in rows], given, missing=[])
        return 0
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)  # CPU time is only comparable on one thread
    recipe = settings.restoration_small() if given.quick else settings.restoration()
    torch.manual_seed(0)
    model = restorer(recipe, vqgan(recipe.network).prior()).to(device).eval()
    assert isinstance(model, DAEFR)
    half = asked.half or device == "cuda"
    batches = (1, 16) if half else (1, 4) if given.quick else (1,)
    facts = about() | {"pixels": recipe.network.size}
    seconds = asked.seconds or (5 if given.quick else 400)
    rows = []
    for row in forward_rows(
        model, recipe.network.size, batches=batches, half=half, seconds=seconds, compiled=not asked.brief
    ):
        rows.append(row)
        # the process may be ended at any time
        report([row | facts for row in rows], given, missing=[])
    if not asked.brief:
        rows += photograph_rows(8 if given.quick else 100)
    report([row | facts for row in rows], given, missing=[])
    return 0


def forward_rows(
    model: DAEFR, size: int, *, batches: tuple[int, ...], half: bool, seconds: float, compiled: bool = True
) -> Iterator[dict]:
    """Gives a row for each batch and way of computing; the first batch must be 1.

    Args:
        model: On the device that is measured.
        size: Side of the images, pixels.
        batches: Images at a time.
        half: Whether bfloat16 is tried as well.
        seconds: About how long each batch is measured.
        compiled: Whether torch.compile is tried with bfloat16, which takes minutes to compile.
    """
    single: float | None = None
    device = next(model.parameters()).device.type
    for batch in batches:
        generator = torch.Generator().manual_seed(1)
        image = (2 * torch.rand(batch, 3, size, size, generator=generator) - 1).to(device)
        ways = _providers(model, device, half, compiled)
        providers = {name: _bound(forward, image) for name, forward in ways.items()}
        truth, codes = providers["plain"]()
        times = interleaved(providers, seconds=seconds, rounds=5)
        for impl, run in providers.items():
            restored, indices = run()
            row = {"op": "forward", "batch": batch, "impl": impl, "ms": times[impl][1], "ms_quantiles": times[impl]}
            row["speedup"] = round(times["plain"][1] / times[impl][1], 3)
            row["images_per_s"] = round(1e3 * batch / times[impl][1], 3)
            single = single or row["images_per_s"]
            row["over_plain_single"] = round(row["images_per_s"] / single, 3)
            row["codes_equal"] = round(float((indices == codes).double().mean()), 6)
            row["psnr"] = round(float(psnr(to_unit(restored.float()), to_unit(truth)).mean().clamp(max=200)), 1)
            row["peak_bytes"] = peak_bytes(run)
            print("  ".join(f"{key}={row[key]}" for key in row if key != "ms_quantiles"), flush=True)
            yield row


def _providers(model: DAEFR, device: str, half: bool, compiled: bool) -> dict[str, Forward]:
    def ours(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        indices = model(image).logits.argmax(-1)
        return model.prior.decode_indices(indices), indices

    def in_half(forward: Forward) -> Forward:
        def run(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.autocast(device, torch.bfloat16):
                return forward(image.contiguous(memory_format=torch.channels_last))

        return run

    providers: dict[str, Forward] = {"plain": lambda image: _plain.restore(model, image), "codeprior": ours}
    if device == "cuda":
        # convolutions follow the layout of what they are given, so only the image is turned
        providers["codeprior-channels_last"] = lambda image: ours(image.contiguous(memory_format=torch.channels_last))
    if half:
        providers["codeprior-bf16"] = in_half(ours)
        if compiled:
            providers["codeprior-bf16-compiled"] = in_half(torch.compile(ours))
    return providers


def _bound(forward: Forward, image: torch.Tensor) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    def run() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            return forward(image)

    return run


if __name__ == "__main__":
    sys.exit(main())
