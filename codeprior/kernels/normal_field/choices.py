"""Which implementations of the normal field can run, best first, and why the others cannot."""

from codeprior.kernels._choose import Reasons, choose, constant_while_tracing
from codeprior.kernels._device import why_not_triton


@constant_while_tracing
def choose_normal_field(impl: str | None, device: str) -> str:
    """Gives the name of the implementation that runs; under torch.compile the choice is made once, while tracing."""
    return choose("normal_field", impl, reasons=normal_field_reasons(device))


def normal_field_reasons(device: str) -> Reasons:
    """Gives, for each implementation, a function that says why it cannot run, or None."""
    triton = {"triton": lambda: why_not_triton(device)}
    plain = {"reference": lambda: None}
    return plain | triton if device == "cpu" else triton | plain
