"""Discriminators of whole faces, which both versions of VQFR train with a logistic loss and R1."""

from typing import Literal

from codeprior.discriminators import StyleGANDiscriminator, WaveletDiscriminator
from codeprior.stages import Adversary, AdversarySettings
from codeprior.training import Engine

from .settings import JointSettings, PriorSettings, RestorationSettings


def adversary(
    recipe: PriorSettings | RestorationSettings | JointSettings,
    engine: Engine,
    *,
    kind: Literal["whole", "wavelets"],
    rate: float = 1.0,
    betas: tuple[float, float] | None = None,
) -> Adversary:
    """Gives a discriminator of whole faces that learns as a stage's settings say.

    Args:
        recipe: The settings.
        engine: What distributes.
        kind: `"whole"`, that of StyleGAN2, or `"wavelets"`, that of SWAGAN.
        rate: Times the stage's rate.
        betas: Of its Adam; the stage's unless given.

    Note:
        The published discriminators are spectrally normalised as well. R1 bounds these, and their weights are scaled
        by their fan-in, so that normalising them again would only change their rate; ours are not.
    """
    settings = AdversarySettings(
        learning_rate=recipe.learning_rate, discriminator_rate=rate, discriminator_betas=betas or recipe.betas,
        r1_weight=recipe.r1_weight, r1_every=recipe.r1_every, accumulate=recipe.accumulate,
    )  # fmt: skip
    judge = {"whole": StyleGANDiscriminator, "wavelets": WaveletDiscriminator}[kind]
    return Adversary(settings, judge(recipe.network.size, narrow=recipe.whole_narrow), engine)
