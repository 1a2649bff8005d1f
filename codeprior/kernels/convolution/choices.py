"""Which implementations of the convolution can run on given tensors, best first, and why the others cannot."""

from codeprior.kernels._choose import Reasons, choose, constant_while_tracing
from codeprior.kernels.convolution.compiled import why_not_compiled


@constant_while_tracing
def choose_convolution(impl: str | None, device: str, *, unfit: str | None = None) -> str:
    """Gives the name of the implementation that runs; under torch.compile the choice is made once, while tracing.

    Args:
        impl: The caller's argument.
        device: Type of the tensors' device.
        unfit: Why the compiled one cannot read these tensors, where it cannot.
    """
    return choose("convolution", impl, reasons=convolution_reasons(device, unfit=unfit))


def convolution_reasons(device: str, *, unfit: str | None = None) -> Reasons:
    """Gives, for each implementation, a function that says why it cannot run, or None."""

    def compiled() -> str | None:
        return f"it reads CPU tensors, not {device}" if device != "cpu" else unfit or why_not_compiled()

    return {"compiled": compiled, "reference": lambda: None}
