"""What the four stages of DAEFR cost at full size: operations counted, hours and prices worked out from them.

`python -m benchmarks.scale` prints the tables of docs/guides/scale.md; `--check` says whether the page holds them. What
a GPU reaches is measured by `python -m benchmarks.training`.

Counted on meta tensors by torch's FlopCounterMode, a multiply-add as two, part by part, because the counter cannot
follow a gradient with respect to an image; the sum is what the code of the stages runs.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from codeprior.discriminators import PatchGAN
from codeprior.losses import PerceptualLoss
from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.model import predictor, restorer, vqgan

PAGE = Path(__file__).resolve().parents[1] / "docs" / "guides" / "scale.md"
BEGIN, END = "<!-- benchmarks.scale -->\n", "<!-- end -->\n"
RATES = (100, 200, 300)  # TFLOP/s that an H100 may reach on these networks in bfloat16; assumed
PRICES = (2.0, 4.0)  # dollars for an hour of one; assumed
OVERHEAD = 1.1  # for loading, logging, checkpoints; assumed
FULL_PRECISION = 30  # TFLOP/s of an H100 in float32, in which target codes are found; assumed
FACES = 70_000  # of FFHQ


class Cost(NamedTuple):
    """TFLOP an image: forward, backward to weights and input, backward to the input alone."""

    forward: float
    backward: float
    to_input: float


class State(NamedTuple):
    """What one stage trains and keeps."""

    name: str
    trained: int  # numbers that a gradient moves
    gigabytes: float  # of weights, gradients and Adam's two moments on each GPU
    checkpoint: float  # gigabytes of a checkpoint: weights and moments


class Stage(NamedTuple):
    name: str
    images: float
    tflop: float


def cost(module: nn.Module, *inputs: torch.Tensor) -> Cost:
    """Counts a module on meta tensors."""

    def counted(trained: bool) -> tuple[float, float]:
        module.requires_grad_(trained)
        leaves = [tensor.detach().requires_grad_(True) for tensor in inputs]
        with FlopCounterMode(display=False) as counter:
            given = module(*leaves)
            forward = counter.get_total_flops()
            (given if isinstance(given, torch.Tensor) else given[0]).sum().backward()
        return forward / 1e12, (counter.get_total_flops() - forward) / 1e12

    (forward, backward), (_, to_input) = counted(True), counted(False)
    return Cost(forward, backward, to_input)


def parts(recipe: settings.CodebookRecipe | None = None) -> dict[str, Cost]:
    """Counts the networks of a recipe on one image; of the paper's, at 512 × 512, without one."""
    recipe = recipe or settings.hq_codebook()
    network = recipe.network
    with torch.device("meta"):
        whole = vqgan(network)
        image = torch.empty(1, 3, network.size, network.size)
        latent = torch.empty(1, network.dim, *network.grid)
        found = {
            "encoder": cost(whole.encoder, image),
            "decoder": cost(whole.decoder, latent),
            "discriminator": cost(_critic(recipe), image),
            "code predictor": cost(predictor(network), latent),
        }
        # the distance looks at two images; a gradient goes to one of them
        perceptual = PerceptualLoss(recipe.perceptual, weights="random")
        with FlopCounterMode(display=False) as counter:
            fake = image.detach().requires_grad_(True)
            distance = perceptual(fake, image)
            forward = counter.get_total_flops()
            distance.backward()
        backward = counter.get_total_flops() - forward
    return found | {"perceptual": Cost(forward / 1e12, backward / 1e12, backward / 1e12)}


def tflop_an_image(found: dict[str, Cost]) -> dict[str, float]:
    """Adds up what one image costs in an update of each stage; the last one takes its targets from the cache."""
    encoder, decoder, critic = found["encoder"], found["decoder"], found["discriminator"]
    perceptual, coder = found["perceptual"], found["code predictor"]
    generator = encoder.forward + encoder.backward + decoder.forward + decoder.backward
    fooling = critic.forward + critic.to_input
    judging = 2 * (critic.forward + critic.backward)
    one = generator + perceptual.forward + perceptual.to_input + fooling + judging
    code = 2 * (encoder.forward + encoder.backward) + coder.forward + coder.backward
    return {"HQ codebook": one, "LQ codebook": one, "association": 2 * one, "restoration, cached codes": code}


def stages(found: dict[str, Cost]) -> list[Stage]:
    """Gives what one image costs in each stage, and how many images the paper's iterations are."""
    made = [settings.hq_codebook(), settings.lq_codebook(), settings.association(), settings.restoration()]
    images = [recipe.steps * recipe.batch for recipe in made]
    return [Stage(name, count, work) for (name, work), count in zip(tflop_an_image(found).items(), images, strict=True)]


def states() -> list[State]:
    """Counts what each stage of the paper trains, on meta tensors."""
    recipe, last = settings.hq_codebook(), settings.restoration()
    with torch.device("meta"):
        whole = vqgan(recipe.network)
        one = _numbers(whole) + _numbers(_critic(recipe))
        code = _numbers(restorer(last, whole.requires_grad_(False).prior()))
    counts = {"HQ codebook": one, "LQ codebook": one, "association": 2 * one, "restoration": code}
    return [State(name, count, 16 * count / 1e9, 12 * count / 1e9) for name, count in counts.items()]


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def memory_table(found: dict[str, Cost]) -> str:
    """Gives the page's table of memory and disk."""
    lines = [
        "| stage | trained, million | weights, gradients, moments, GB a GPU | checkpoint, GB "
        f"| saves, every 15 minutes at {RATES[1]} TFLOP/s | saves, every 500 steps |",
        "|---|---|---|---|---|---|",
    ]
    made = [settings.hq_codebook(), settings.lq_codebook(), settings.association(), settings.restoration()]
    for state, stage, recipe in zip(states(), stages(found), made, strict=True):
        by_time = hours(stage.images * stage.tflop, RATES[1]) * 4
        lines.append(
            f"| {state.name} | {state.trained / 1e6:.1f} | {state.gigabytes:.2f} | {state.checkpoint:.2f} | "
            f"{by_time:.0f} | {recipe.steps // 500} |"
        )
    decoded = FACES * 3 * 512**2 / 1e9
    work = 2 * FACES * found["encoder"].forward
    lines += [
        "",
        f"Decoded, FFHQ is {decoded:.0f} GB, and {8 * decoded:.0f} GB where each of 8 ranks holds its own. "
        f"Its target codes, both ways round, take {work / 1e3:.1f} PFLOP: at {FULL_PRECISION} TFLOP/s in float32 "
        f"{work / FULL_PRECISION / 60:.0f} minutes on one GPU and {work / FULL_PRECISION / 8 / 60:.0f} on 8.",
    ]
    return "\n".join(lines) + "\n"


def tables(found: dict[str, Cost]) -> str:
    """Gives the page's tables."""
    rows = stages(found)
    lines = [
        "| part, one image at 512 × 512 | forward, GFLOP | backward, GFLOP | to its input alone, GFLOP |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {c.forward * 1e3:.1f} | {c.backward * 1e3:.1f} | {c.to_input * 1e3:.1f} |"
        for name, c in found.items()
    ]
    lines += [
        "",
        "| stage | images, million | TFLOP an image | EFLOP |" + "".join(f" h at {rate} |" for rate in RATES),
        "|---" * (4 + len(RATES)) + "|",
    ]
    for row in [*rows, None]:
        work = sum(r.images * r.tflop for r in ([row] if row else rows))
        lead = f"| {row.name} | {row.images / 1e6:.2f} | {row.tflop:.2f}" if row else "| all four | |"
        lines.append(f"{lead} | {work / 1e6:.1f} |" + "".join(f" {hours(work, rate):.1f} |" for rate in RATES))
    work = sum(row.images * row.tflop for row in rows)
    lines += [
        "",
        f"Hours are those of 8 GPUs that reach so many TFLOP/s each, {OVERHEAD - 1:.0%} added for everything else.",
        "",
    ]
    for rate in RATES:
        low, high = (f"${price * 8 * hours(work, rate):,.0f}" for price in PRICES)
        asked = " to ".join(f"${price:.0f}" for price in PRICES)
        lines.append(f"- At {rate} TFLOP/s: {hours(work, rate):.0f} h, {low} to {high} at {asked} an hour a GPU.")
    more = found["encoder"].forward
    share = more / rows[3].tflop
    lines += ["", f"Without the code cache the last stage costs {more:.2f} TFLOP an image more ({share:.0%})."]
    return "\n".join(lines) + "\n\n" + memory_table(found)


def hours(work: float, rate: float, gpus: int = 8) -> float:
    """Gives the hours that `work` TFLOP take."""
    return OVERHEAD * work / (gpus * rate) / 3600


def _critic(recipe: settings.CodebookRecipe) -> PatchGAN:
    return PatchGAN(recipe.discriminator_channels, recipe.discriminator_layers, norm=recipe.discriminator_norm)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the page; status 1 where it differs")
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    arguments = parser.parse_args()
    made = tables(parts())
    if not (arguments.check or arguments.write):
        print(made)
        return 0
    before, rest = PAGE.read_text().split(BEGIN)
    held, after = rest.split(END)
    if arguments.write:
        PAGE.write_text(before + BEGIN + made + END + after)
    return int(arguments.check and held != made)


if __name__ == "__main__":
    sys.exit(main())
