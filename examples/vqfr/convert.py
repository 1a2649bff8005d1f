"""Builds our modules from a checkpoint of VQFR, of either version, at whatever sizes its tensors have."""

from codeprior.codebooks import Codebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.families import Converted, State
from codeprior.fusion import TextureBranch
from codeprior.predictors import LinearPredictor
from codeprior.prior import VQGAN, CodePrior
from codeprior.weights.layouts.vqfr import translate_vqfr

from .model import VQFRv1, VQFRv2


def convert(state: State) -> Converted:
    """Gives the module of a published checkpoint.

    Args:
        state: Tensors by the checkpoint's keys.

    Returns:
        modules: `restorer`, or `vqgan` for an auto-encoder.
        dropped: Nothing; every tensor is used.
        stage: Version and stage, and for the second version how it chooses codes.

    Raises:
        ValueError: It is no such checkpoint, or only a part of one.
        RuntimeError: Tensors are missing, or do not fit each other.
    """
    found = translate_vqfr(state)
    encoder, codebook = VQGANEncoder(**found.encoder), Codebook(**found.codebook)
    decoder = VQGANDecoder(**found.decoder)
    if found.stage == "prior":
        module, name, stage = VQGAN(encoder, codebook, decoder), "vqgan", f"v{found.version}, prior"
    elif found.version == 1:
        branch = TextureBranch(**found.branch)
        module, name, stage = VQFRv1(encoder, codebook, decoder, branch), "restorer", "v1"
    else:
        predictor = LinearPredictor(**found.predictor) if found.predictor else None
        prior, branch = CodePrior(codebook, decoder), TextureBranch(**found.branch)
        module, name = VQFRv2(prior, encoder, branch, predictor), "restorer"
        stage = f"v2, {'predicted' if predictor else 'nearest'} codes"
    module.load_state_dict(found.tensors, strict=True)
    return Converted({name: module}, {}, stage)
