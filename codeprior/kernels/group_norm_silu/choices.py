"""Which implementations of GroupNorm and SiLU can run on given tensors, best first, and why the others cannot."""

from codeprior.kernels._choose import Reasons, choose, constant_while_tracing
from codeprior.kernels._device import why_not_triton


@constant_while_tracing
def choose_norm(impl: str | None, device: str, *, unfit: str | None = None) -> str:
    """Gives the name of the implementation that runs; under torch.compile the choice is made once, while tracing."""
    return choose("group_norm_silu", impl, reasons=norm_reasons(device, unfit=unfit))


def norm_reasons(device: str, *, unfit: str | None = None) -> Reasons:
    """Gives, for each implementation, a function that says why it cannot run, or None."""
    triton = {"triton": lambda: why_not_triton(device) or unfit}
    plain = {"reference": lambda: None}
    return plain | triton if device == "cpu" else triton | plain
