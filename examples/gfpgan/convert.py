"""Builds our module from a checkpoint of GFP-GAN, at whatever size its tensors have."""

from codeprior.families import Converted, State
from codeprior.generators import SynthesisNetwork
from codeprior.weights.layouts.gfpgan import translate_gfpgan

from .model import GFPGAN


def convert(state: State) -> Converted:
    """Gives the module of a published checkpoint.

    Args:
        state: Tensors by the checkpoint's keys.

    Returns:
        modules: `restorer`.
        dropped: What was not kept, and why.

    Raises:
        ValueError: It is no such checkpoint, or only a part of one.
        RuntimeError: Tensors are missing, or do not fit each other.
    """
    found = translate_gfpgan(state)
    module = GFPGAN(SynthesisNetwork(**found.decoder), found.channels)
    module.load_state_dict(found.tensors, strict=True)
    return Converted({"restorer": module}, found.dropped)
