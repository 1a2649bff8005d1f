"""Discriminators of the parts of a face: eyes and mouth are judged alone, enlarged, each by a network of its own.

A restorer learns to fool them, and to give each part the textures that its discriminator sees in the clean one. Source:
Wang et al. 2022 (RestoreFormer), section 3.4.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from codeprior.discriminators import Judged, PartDiscriminator
from codeprior.losses import (
    FACE_PARTS,
    Part,
    crop_parts,
    logistic_discriminator_loss,
    logistic_generator_loss,
    style_loss,
)
from codeprior.shapes import Image
from codeprior.stages.updates import set_rate, without_graph
from codeprior.training import Engine, full, step_if_finite

_STYLE_WEIGHTS = (0.5, 1.0)  # of the finer and the coarser feature, as RestoreFormer's


class PartsAdversary:
    """One discriminator a part of an aligned face, and the optimiser of all.

    Args:
        engine: What distributes.
        sizes: Side of each part's crop, pixels, in the order of `parts`; multiples of 4.
        channels: Of each discriminator, see `PartDiscriminator`.
        learning_rate: Of the discriminators, until `learn` is given another.
        betas: Of their Adam.
        parts: Where they are; the same for every face, which must be aligned.

    Attributes:
        discriminators: One for each part, bare.

    Raises:
        ValueError: There are not as many sizes as parts, or a size is no multiple of 4.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        sizes: Sequence[int],
        channels: int = 64,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        parts: Sequence[Part] = FACE_PARTS,
    ):
        if len(sizes) != len(parts) or not all(size > 0 and size % 4 == 0 for size in sizes):
            raise ValueError(
                f"PartsAdversary: expected one size for each of {len(parts)} parts, all multiples of 4, got "
                f"{tuple(sizes)}."
            )
        self.engine, self.sizes, self.parts = engine, tuple(sizes), tuple(parts)
        self.discriminators = _Discriminators(len(parts), channels).to(engine.device)
        self._judge = engine.wrap(self.discriminators)
        self.optimizer = Adam(self.discriminators.parameters(), lr=learning_rate, betas=betas)

    def crops(self, images: Image) -> list[Image]:
        """Gives each part of aligned faces `b 3 H W`, signed, one tensor `b 3 size size` a part."""
        pairs = zip(self.parts, self.sizes, strict=True)
        return [crop_parts(images, [part], size=size)[:, 0] for part, size in pairs]

    def terms(self, made: Image, clean: Image) -> dict[str, Tensor]:
        """Gives what a restorer lowers: `parts_adversarial` and `parts_style`, sums over the parts.

        The style term is the absolute distance of Gram matrices of the discriminators' two features, the finer at half
        the weight.

        Args:
            made: Aligned faces `b 3 H W`, signed, with their graph.
            clean: The same faces, signed.
        """
        with without_graph(self.discriminators), self.engine.autocast():
            mine = _full(self.discriminators(self.crops(made)))
        with torch.no_grad(), self.engine.autocast():
            theirs = _full(self.discriminators(self.crops(clean)))
        styles = [
            style_loss(one.features, other.features, layer_weights=_STYLE_WEIGHTS)
            for one, other in zip(mine, theirs, strict=True)
        ]
        fooling = torch.stack([logistic_generator_loss(one.scores) for one in mine]).sum()
        return {"parts_adversarial": fooling, "parts_style": torch.stack(styles).sum()}

    def learn(self, clean: Image, made: Image, rate: float) -> tuple[Tensor, Tensor]:
        """Moves the discriminators; gives their loss, a sum over the parts, and what `step_if_finite` gives.

        Args:
            clean: Aligned faces `b 3 H W`, signed.
            made: The restorer's, detached here.
            rate: Learning rate of this step.
        """
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        count = len(clean)
        # a score depends on its own crop alone, so one pass judges both
        with self.engine.autocast():
            found = _full(self._judge(self.crops(torch.cat((clean, made.detach())))))
        losses = [logistic_discriminator_loss(one.scores[:count], one.scores[count:]) for one in found]
        loss = torch.stack(losses).sum()
        self.engine.backward([loss])
        return loss.detach(), step_if_finite(self.optimizer)

    def saved(self) -> Mapping[str, Any]:
        """Gives what a checkpoint holds of it."""
        return {"discriminators": self.discriminators, "optimizer": self.optimizer}


class _Discriminators(nn.Module):
    """All of them as one module, so that ranks exchange their gradients once a step."""

    def __init__(self, count: int, channels: int):
        super().__init__()
        self.parts = nn.ModuleList([PartDiscriminator(channels) for _ in range(count)])

    def forward(self, crops: Sequence[Image]) -> list[Judged]:
        return [judge.judge(crop) for judge, crop in zip(self.parts, crops, strict=True)]  # pyright: ignore[reportCallIssue]


def _full(found: Sequence[Judged]) -> list[Judged]:
    return [Judged(full(one.scores), [full(feature) for feature in one.features]) for one in found]
