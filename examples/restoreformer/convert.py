"""Builds our modules from a checkpoint of RestoreFormer, at whatever sizes its tensors have."""

from codeprior.codebooks import Codebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.families import Converted, State
from codeprior.prior import VQGAN
from codeprior.weights.layouts.restoreformer import Variant, translate_restoreformer

from .model import RestoreFormer


def convert(state: State, *, variant: Variant = "restorer", heads: int | None = None) -> Converted:
    """Gives the module of a published checkpoint.

    Args:
        state: Tensors by the checkpoint's keys.
        variant: What the file is: its dictionary and its restorer have the same tensors, so that only you can say.
        heads: Of every attention; 8, and 4 for RestoreFormer++, unless given.

    Returns:
        modules: `restorer`, or `vqgan` for a dictionary.
        dropped: What was not kept, and why.
        stage: What it was taken for.

    Raises:
        ValueError: It is no such checkpoint, or only a part of one.
        RuntimeError: Tensors are missing, or do not fit each other.
    """
    found = translate_restoreformer(state, variant=variant, heads=heads)
    parts = VQGANEncoder(**found.encoder), Codebook(**found.codebook), VQGANDecoder(**found.decoder)
    module = VQGAN(*parts) if variant == "dictionary" else RestoreFormer(*parts)
    module.load_state_dict(found.tensors, strict=True)
    name = "vqgan" if variant == "dictionary" else "restorer"
    return Converted({name: module}, found.dropped, f"{variant} (++)" if found.plus else variant)
