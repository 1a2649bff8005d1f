"""Builds our modules from a checkpoint of GPEN, at whatever sizes its tensors have."""

from codeprior.discriminators import StyleGANDiscriminator
from codeprior.families import Converted, State
from codeprior.weights.layouts.gpen import translate_gpen

from .model import GPEN, Task


def convert(state: State, *, variant: Task = "restoration") -> Converted:
    """Gives the module of a published checkpoint.

    Args:
        state: Tensors by the checkpoint's keys.
        variant: The task that the weights are for; nothing in a file says it.

    Returns:
        modules: `restorer`, or `discriminator`.
        dropped: What was not kept, and why.
        stage: What it was taken for.

    Raises:
        ValueError: It is no such checkpoint, or only a part of one.
        RuntimeError: Tensors are missing, or do not fit each other.
    """
    found = translate_gpen(state)
    judging = found.network == "discriminator"
    module = StyleGANDiscriminator(**found.sizes) if judging else GPEN(**found.sizes, task=variant)
    module.load_state_dict(found.tensors, strict=True)
    return Converted({found.network: module}, found.dropped, found.network if judging else variant)
