"""DAEFR's stages on networks so small that a step takes milliseconds."""

from dataclasses import replace

import torch
from torch import nn

from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.model import vqgan
from codeprior.recipes.daefr.restoration_stage import RestorationStage
from codeprior.training import Batch

TINY = replace(
    settings.small_network(), size=32, dim=8, codes=16, channels=8, multipliers=(1, 2), groups=4, fusion_groups=4,
    fusion_heads=2, width=16, layers=1, heads=2, hidden=16, decoder_blocks=1,
)  # fmt: skip
SMALL = {"network": TINY, "degradation_size": 64, "batch": 2}


class Colours(nn.Module):
    """A feature network that is the image itself, so that the perceptual term costs nothing."""

    channels = (3,)

    def forward(self, image):
        return [image]


def one_batch(count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    clean = clean.repeat_interleave(8, -1).repeat_interleave(8, -2)
    return Batch(clean, torch.arange(count) + 17, torch.arange(count), torch.zeros(count, dtype=torch.bool))


def restoration(**changes):
    torch.manual_seed(0)
    recipe = replace(settings.restoration_small(), **(SMALL | changes))
    teacher = vqgan(TINY)
    lq = None if recipe.branches == "single" else vqgan(TINY)
    return RestorationStage(recipe, teacher=teacher, hq=vqgan(TINY), lq=lq)


def moved(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}
