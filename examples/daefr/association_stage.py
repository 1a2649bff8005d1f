"""Stage 2: two encoders learn to say the same about a face and its degraded copy.

Both VQGANs go on with the whole objective of stage 1; the association loss joins them.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codeprior import to_unit
from codeprior.discriminators import PatchGAN
from codeprior.losses import association_loss
from codeprior.prior import VQGAN
from codeprior.shapes import Image, Latent
from codeprior.stages import (
    Faces,
    GeneratorLosses,
    Measured,
    VQGANObjective,
    precompute,
    prefixed,
    reconstruct_again,
    sync_gradients_on_last_part,
    training_view,
    with_skipped,
)
from codeprior.training import Batch, Engine, TorchEngine, step_if_finite

from .settings import AssociationRecipe


class AssociationStage:
    """Trains the HQ and the LQ VQGAN together on pairs.

    Args:
        recipe: The configuration.
        hq: The VQGAN of stage 1a.
        lq: The VQGAN of stage 1b.
        perceptual: Distance of two signed images.
        discriminators: Those of stage 1 by side, `hq` and `lq`, which go on with their running statistics; one that is
            not given begins anew.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: The recipe asks for global negatives in parts, one optimiser after the other, or for another kind of
            discriminator than the one that is given.

    Source: Discriminators carry over, optimisers do not, as released (LIAGM/DAEFR, the second stage's initialisation).
    """

    measured: Measured = "clean"

    def __init__(
        self,
        recipe: AssociationRecipe,
        *,
        hq: VQGAN,
        lq: VQGAN,
        perceptual: nn.Module,
        discriminators: Mapping[str, PatchGAN] = MappingProxyType({}),
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        self.recipe = recipe
        self.engine = engine or TorchEngine(device)
        device = self.engine.device
        self.faces = Faces.of(recipe, size=recipe.network.size, device=device)
        self.hq, self.lq = hq.to(device), lq.to(device)
        self.hq_objective = VQGANObjective(self.hq, perceptual.to(device), recipe, engine=self.engine)
        self.lq_objective = VQGANObjective(self.lq, perceptual, recipe, engine=self.engine)
        self.objectives = {"hq": self.hq_objective, "lq": self.lq_objective}
        for side, given in discriminators.items():
            _carry_over(side, given, self.objectives[side].discriminator)
        if recipe.accumulate > 1 and recipe.negatives == "global" and recipe.generator_pass == "sequential":
            raise ValueError(
                "AssociationStage: global negatives of an accumulated batch need generator_pass='shared'; take the "
                "preset 'invariant', or negatives='local', whose negatives are those of one part."
            )

    @property
    def saved(self) -> Mapping[str, nn.Module | Optimizer]:
        """What a checkpoint holds."""
        parts = {f"hq_{name}": part for name, part in self.hq_objective.saved.items()}
        return parts | {f"lq_{name}": part for name, part in self.lq_objective.saved.items()}

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What the next stage starts from."""
        return {"hq_vqgan": self.hq_objective.result, "lq_vqgan": self.lq_objective.result}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains both VQGANs on one batch of pairs."""
        parts = batch.parts(self.recipe.accumulate)
        pairs = [training_view(self.recipe, self.faces(part), part.keys, step) for part in parts]
        for objective in self.objectives.values():
            objective.begin(step)
        images = {"hq": [pair.clean for pair in pairs], "lq": [pair.degraded for pair in pairs]}
        metrics = (self._sequential if self.recipe.generator_pass == "sequential" else self._shared)(images, step)
        for objective in self.objectives.values():
            objective.average.update()
        return metrics

    def association(self, hq: Latent, lq: Latent) -> Tensor:
        """Gives the association loss of both latents, before they are exchanged for codes."""
        return association_loss(hq, lq, scale=1 / self.recipe.temperature, negatives=self.recipe.negatives)

    def answer(self, image: Image) -> Image:
        """Gives what the HQ VQGAN that is handed on makes of signed images."""
        return self.hq_objective.reconstruct(image)

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives both images, and what each VQGAN gives back."""
        pair = self.faces(batch)
        return {
            "clean": to_unit(pair.clean),
            "clean reconstruction": to_unit(self.hq_objective.reconstruct(pair.clean)),
            "degraded": to_unit(pair.degraded),
            "degraded reconstruction": to_unit(self.lq_objective.reconstruct(pair.degraded)),
        }

    def _shared(self, images: Mapping[str, Sequence[Image]], step: int) -> Mapping[str, Tensor]:
        count, sides = self.recipe.accumulate, self.objectives
        joint = count > 1 and self.recipe.negatives == "global"
        known = {side: precompute(one, images[side], step, latents=joint) for side, one in sides.items()}
        at_latents, association = self._joint_association(known) if joint else ([], [])
        for objective in sides.values():
            objective.generator_optimizer.zero_grad(set_to_none=True)
        kept = {side: [] for side in sides}
        for part in range(count):
            with sync_gradients_on_last_part(self.engine, part + 1 == count, *(one.network for one in sides.values())):
                found = {
                    side: one.generator_pass(images[side][part], step, known[side][part]).over(count)
                    for side, one in sides.items()
                }
                latents = [one.reconstruction.latent for one in found.values()]
                if joint:
                    more, given = latents, at_latents[part]
                else:
                    association.append(self.association(*latents))
                    more = [self.recipe.weights["association"] * association[-1]]
                    given = [torch.full_like(more[0], 1 / count)]
                # one walk: each VQGAN gets its own objective and its side of the association loss
                roots = [root for one in found.values() for root in one.roots]
                gradients = [gradient for one in found.values() for gradient in one.gradients]
                self.engine.backward([*roots, *more], [*gradients, *given])
            for side, one in found.items():
                kept[side].append(sides[side].kept(one))
        skipped = step_if_finite(*(one.generator_optimizer for one in sides.values()), clip=self.recipe.clip)
        metrics = {side: one.finish(kept[side], step) for side, one in sides.items()}
        for side, one in sides.items():
            metrics[side] |= one.step_discriminator(images[side], [part.fake for part in kept[side]], step)
        return _metrics(metrics, association, skipped)

    def _joint_association(
        self, known: Mapping[str, Sequence[GeneratorLosses | None]]
    ) -> tuple[list[list[Tensor]], list[Tensor]]:
        """Gives the association loss of a batch in parts: its gradients at each part's latents, and the loss.

        Every position is every other's negative, so the loss is no sum over parts; from its gradient at the latents,
        which are small, each part walks back alone (Gao et al. 2021, *Scaling deep contrastive learning batch size
        under memory limited setup*).
        """
        leaves = [torch.cat([one.latent for one in side if one]).requires_grad_() for side in known.values()]
        with torch.enable_grad():
            loss = self.association(*leaves)
            wanted = torch.autograd.grad(self.recipe.weights["association"] * loss, leaves)
        chunks = [gradient.chunk(self.recipe.accumulate) for gradient in wanted]
        return [list(part) for part in zip(*chunks, strict=True)], [loss]

    def _sequential(self, images: Mapping[str, Sequence[Image]], step: int) -> Mapping[str, Tensor]:
        count, metrics, association, skips = self.recipe.accumulate, {}, [], []
        for side, objective in self.objectives.items():
            known = {name: precompute(one, images[name], step) for name, one in self.objectives.items()}
            kept = {name: [] for name in self.objectives}
            association = []
            objective.generator_optimizer.zero_grad(set_to_none=True)
            for part in range(count):
                with sync_gradients_on_last_part(self.engine, part + 1 == count, objective.network):
                    # only this side moves now, so nothing walks back into the other
                    passes = {
                        name: other.generator_pass(images[name][part], step, known[name][part], recorded=name == side)
                        for name, other in self.objectives.items()
                    }
                    association.append(self.association(*(one.reconstruction.latent for one in passes.values())))
                    weighted = self.recipe.weights["association"] * association[-1]
                    mine = passes[side]
                    mine = mine._replace(roots=[*mine.roots, weighted], gradients=[*mine.gradients, None]).over(count)
                    self.engine.backward(mine.roots, mine.gradients)
                for name, one in passes.items():
                    kept[name].append(self.objectives[name].kept(one))
            skips.append(step_if_finite(objective.generator_optimizer, clip=self.recipe.clip))
            found = {name: one.finish(kept[name], step) for name, one in self.objectives.items()}
            fakes = {name: reconstruct_again(one, images[name], step) for name, one in self.objectives.items()}
            discriminated = objective.step_discriminator(images[side], fakes[side], step)
            metrics = {name: metrics.get(name, {}) | found[name] for name in found}
            metrics[side] |= discriminated
        return _metrics(metrics, association, *skips)


def _carry_over(side: str, given: Any, begun: Any) -> None:
    given_config, config = dict(given.config), dict(begun.config)
    if given_config != config:
        raise ValueError(
            f"AssociationStage: expected the {side} discriminator of stage 1 to be {config}, got {given_config}; train "
            "both stages with one kind, or leave the discriminator out."
        )
    begun.load_state_dict(given.state_dict())


def _metrics(
    sides: Mapping[str, dict[str, Tensor]], association: Sequence[Tensor], *skipped: Tensor
) -> Mapping[str, Tensor]:
    parts = [metrics.pop("skipped") for metrics in sides.values() if "skipped" in metrics]
    joined = {name: value for side, metrics in sides.items() for name, value in prefixed(side, metrics).items()}
    return with_skipped(joined | {"association": torch.stack(list(association)).mean().detach()}, *skipped, *parts)
