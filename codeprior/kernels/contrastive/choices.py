"""Which implementations of the symmetric cross-entropy can run, best first, and why the others cannot."""

from codeprior.kernels._choose import Reasons, choose, constant_while_tracing
from codeprior.kernels._device import why_not_triton


@constant_while_tracing
def choose_contrastive(impl: str | None, device: str, *, unfit: str | None = None) -> str:
    """Gives the name of the implementation that runs; under torch.compile the choice is made once, while tracing."""
    return choose("contrastive", impl, reasons=contrastive_reasons(device, unfit=unfit))


def contrastive_reasons(device: str, *, unfit: str | None = None) -> Reasons:
    """Gives, for each implementation, a function that says why it cannot run, or None."""
    triton = {"triton": lambda: why_not_triton(device) or unfit}
    plain = {"blocked": lambda: None, "reference": lambda: None}
    return plain | triton if device == "cpu" else triton | plain
