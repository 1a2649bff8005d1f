"""The objective of a VQGAN: moved to `codeprior.stages.vqgan`; the old names work for one release and say so."""

from codeprior.weights._moved import moved

__getattr__ = moved(
    __name__,
    "codeprior.stages.vqgan",
    renamed={
        "Objective": "VQGANObjective",
        "Judged": "GeneratorLosses",
        "Pull": "BackwardInputs",
        "Passed": "GeneratorResult",
    },
)
