"""Builds our modules from a checkpoint of CodeFormer, at whatever sizes its tensors have."""

from codeprior.codebooks import Codebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.families import Converted, State
from codeprior.fusion import FidelityTaps
from codeprior.predictors import CodePredictor
from codeprior.prior import VQGAN, CodePrior
from codeprior.weights.layouts.codeformer import CodeFormerTranslation, translate_codeformer

from .model import CodeFormer, Task


def convert(state: State, *, variant: Task | None = None) -> Converted:
    """Gives the module of a published checkpoint.

    Args:
        state: Tensors by the checkpoint's keys.
        variant: The task that the weights are for. Nothing in a file says it; unless given it is concluded from the
            published sizes: 512 codes are inpainting, transforms at three sizes are colourisation, else restoration.

    Returns:
        modules: `restorer`, or `vqgan` for an auto-encoder.
        dropped: Nothing; every tensor is used.
        stage: What it was taken for.

    Raises:
        ValueError: It is no such checkpoint, or only a part of one.
        RuntimeError: Tensors are missing, or do not fit each other.
    """
    found = translate_codeformer(state)
    codebook, decoder = Codebook(**found.codebook), VQGANDecoder(**found.decoder)
    encoder = VQGANEncoder(**found.encoder)
    if found.stage == "prior":
        vqgan = VQGAN(encoder, codebook, decoder)
        vqgan.load_state_dict(found.tensors, strict=True)
        return Converted({"vqgan": vqgan}, {}, "prior")
    taps = FidelityTaps(**found.taps) if found.taps else None
    task = variant or _task(found)
    model = CodeFormer(CodePrior(codebook, decoder), encoder, CodePredictor(**found.predictor), taps, task=task)
    model.load_state_dict(found.tensors, strict=True)
    return Converted({"restorer": model}, {}, task)


def _task(found: CodeFormerTranslation) -> Task:
    if found.codebook["size"] == 512:
        return "inpainting"
    return "colourisation" if len(found.taps.get("strides", ())) == 3 else "restoration"
