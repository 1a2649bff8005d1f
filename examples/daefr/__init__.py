"""DAEFR: the Dual Associated Encoder for face restoration, as a model, a four-stage recipe, and weights to use."""

from codeprior._renamed import former_module
from codeprior.families import Family, Layout, Option

from .convert import convert, detect
from .model import DAEFR, SingleEncoder
from .restore import EMBEDDED, Restorer, load, load_model

__all__ = ["DAEFR", "FAMILY", "Restorer", "SingleEncoder", "load"]

FAMILY = Family(
    name="daefr",
    load=load_model,
    text="two encoders see the degraded face, a codebook of clean faces restores it (Tsai et al. 2024)",
    layouts=(Layout("daefr", detect, convert),),
    stages={
        "codebook": f"{__name__}.codebook_stage:CodebookStage",
        "association": f"{__name__}.association_stage:AssociationStage",
        "restoration": f"{__name__}.restoration_stage:RestorationStage",
        "fidelity": f"{__name__}.fidelity_stage:FidelityStage",
    },
    options={"fidelity": Option(float, 1.0, 0.0, 1.0, "0 follows the codes alone, 1 the picture; of models with taps")},
    embedded=EMBEDDED,
    licence="CC BY 4.0",
)

former_module(f"{__name__}.recipes", f"{__name__}.settings")
former_module(f"{__name__}.cached_codes", "codeprior.stages.codes")
former_module(f"{__name__}.cells", "codeprior.evaluation.ablation")
former_module(f"{__name__}.data", "codeprior.stages.pairs")
former_module(f"{__name__}.sweeps", "codeprior.evaluation.sweeps")
former_module(f"{__name__}.validation", "codeprior.stages.validation")
former_module(
    f"{__name__}.updates", "codeprior.stages.updates",
    renamed={"apart": "sync_gradients_on_last_part", "unrecorded": "without_graph"},
)  # fmt: skip
former_module(
    f"{__name__}.objective", "codeprior.stages.vqgan",
    renamed={
        "Objective": "VQGANObjective", "Judged": "GeneratorLosses", "Pull": "BackwardInputs",
        "Passed": "GeneratorResult",
    },
)  # fmt: skip
