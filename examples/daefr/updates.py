"""What updates share: moved to `codeprior.stages.updates`; the old names work for one release and say so."""

from codeprior.weights._moved import moved

__getattr__ = moved(
    __name__,
    "codeprior.stages.updates",
    renamed={"apart": "sync_gradients_on_last_part", "unrecorded": "without_graph"},
)
