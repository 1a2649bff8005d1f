"""Updates that families share: pairs of images, a VQGAN, codes predicted from degraded images, and fidelity taps."""

from codeprior.stages.accumulated import precompute, update_in_parts
from codeprior.stages.adversary import Adversary, AdversarySettings, PathLength
from codeprior.stages.codes import CodeStage, PredictsCodes, use_cached_codes
from codeprior.stages.exam import CodeExam
from codeprior.stages.fidelity import TapsStage
from codeprior.stages.pairs import Faces, Measured, Pair, training_view, windows
from codeprior.stages.parts import PartsAdversary
from codeprior.stages.passes import BackwardInputs, GeneratorLosses, GeneratorResult, Health
from codeprior.stages.pictures import PictureStage
from codeprior.stages.presets import as_released, invariant
from codeprior.stages.sequential import reconstruct_again, update_sequentially
from codeprior.stages.settings import (
    MIXED,
    AdversarialSettings,
    CodeSettings,
    Degradation,
    FidelitySettings,
    StageSettings,
    VQGANSettings,
    loss_weights,
    rate_at,
)
from codeprior.stages.shipping import Shipped, curves, ship
from codeprior.stages.updates import (
    adam,
    gradients_of_gradients,
    means,
    prefixed,
    set_rate,
    sync_gradients_on_last_part,
    update_by,
    weighted,
    with_skipped,
)
from codeprior.stages.vqgan import VQGANObjective
from codeprior.stages.vqgan_stage import VQGANStage, going_on

__all__ = [
    "MIXED",
    "AdversarialSettings",
    "Adversary",
    "AdversarySettings",
    "BackwardInputs",
    "CodeExam",
    "CodeSettings",
    "CodeStage",
    "Degradation",
    "Faces",
    "FidelitySettings",
    "GeneratorLosses",
    "GeneratorResult",
    "Health",
    "Measured",
    "Pair",
    "PartsAdversary",
    "PathLength",
    "PictureStage",
    "PredictsCodes",
    "Shipped",
    "StageSettings",
    "TapsStage",
    "VQGANObjective",
    "VQGANSettings",
    "VQGANStage",
    "adam",
    "as_released",
    "curves",
    "going_on",
    "gradients_of_gradients",
    "invariant",
    "loss_weights",
    "means",
    "precompute",
    "prefixed",
    "rate_at",
    "reconstruct_again",
    "set_rate",
    "ship",
    "sync_gradients_on_last_part",
    "training_view",
    "update_by",
    "update_in_parts",
    "update_sequentially",
    "use_cached_codes",
    "weighted",
    "windows",
    "with_skipped",
]  # fmt: skip
