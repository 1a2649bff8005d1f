"""Builds our modules from a checkpoint of the released DAEFR, at whatever sizes its tensors have."""

from torch import nn

from codeprior.codebooks import Codebook
from codeprior.decoders import VQGANDecoder
from codeprior.discriminators import PatchGAN
from codeprior.encoders import VQGANEncoder
from codeprior.families import Converted
from codeprior.fusion import CrossAttentionFusion
from codeprior.predictors import CodePredictor
from codeprior.prior import VQGAN, CodePrior
from codeprior.weights.daefr import State, listed, stage_of, translate

from .model import DAEFR


def detect(state: State) -> bool:
    """Says whether a state dict is of a stage of the released DAEFR.

    Args:
        state: Tensors by the reference's keys.
    """
    try:
        stage_of(state)
    except ValueError:
        return False
    return True


def convert(state: State) -> Converted:
    """Gives the modules of a reference checkpoint of any stage.

    Sizes come from the shapes of the tensors; head counts, which no shape shows, are the released ones.

    Args:
        state: Tensors by the reference's keys (`state_dict` of its file).

    Returns:
        modules: `vqgan` and `discriminator`; both with `hq_` and `lq_` for the association stage; `restorer`.
        dropped: What was not kept, and why.
        stage: Which stage wrote it.

    Raises:
        ValueError: It is no checkpoint of DAEFR, or lacks tensors.
        RuntimeError: Tensors do not fit each other.
    """
    translation = translate(state)
    modules: dict[str, nn.Module] = {}
    for part, tensors in translation.parts.items():
        sizes = translation.sizes.get(part)
        if sizes is None:
            layers = sum(1 for name in tensors if name.endswith("running_mean"))
            module: nn.Module = PatchGAN(tensors["main.0.weight"].shape[0], layers)
        else:
            module = _restorer(sizes) if part == "restorer" else _vqgan(sizes)
        lacks = [name for name in module.state_dict() if name not in tensors]
        if lacks:
            raise ValueError(f"{type(module).__name__} has, by our names, {listed(lacks, len(lacks))}, which it lacks")
        module.load_state_dict(tensors, strict=True)
        modules[part] = module
    return Converted(modules, translation.dropped, translation.stage)


def _vqgan(sizes: dict) -> VQGAN:
    return VQGAN(VQGANEncoder(**sizes["encoder"]), Codebook(**sizes["codebook"]), VQGANDecoder(**sizes["decoder"]))


def _restorer(sizes: dict) -> DAEFR:
    return DAEFR(
        CodePrior(Codebook(**sizes["codebook"]), VQGANDecoder(**sizes["decoder"])),
        VQGANEncoder(**sizes["hq_encoder"]),
        VQGANEncoder(**sizes["lq_encoder"]),
        CrossAttentionFusion(**sizes["fusion"]),
        CodePredictor(**sizes["predictor"]),
    )
