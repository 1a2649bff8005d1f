"""Which implementations of the lookup can run on given tensors, best first, and why the others cannot."""

from collections.abc import Mapping
from types import MappingProxyType

from codeprior.kernels._choose import Reasons, choose, constant_while_tracing, wanted
from codeprior.kernels._device import reasons_by_device
from codeprior.kernels.nearest_code.compiled import why_not_compiled

_FIT: Mapping[str, str] = MappingProxyType({})


@constant_while_tracing
def choose_lookup(impl: str | None, device: str, *, unfit: Mapping[str, str] = _FIT, small: bool = False) -> str:
    """Gives the name of the implementation that runs; under torch.compile the choice is made once, while tracing.

    Args:
        impl: The caller's argument.
        device: Type of the tensors' device.
        unfit: For an implementation, why it cannot read these tensors.
        small: The problem is done sooner than a compiler; the indices are the same whichever runs.

    Raises:
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    small = small and wanted("nearest_code", impl)[0] is None
    return choose("nearest_code", impl, reasons=lookup_reasons(device, unfit=unfit, small=small))


def lookup_reasons(device: str, *, unfit: Mapping[str, str] = _FIT, small: bool = False) -> Reasons:
    """Gives, for each implementation, a function that says why it cannot run, or None."""
    return reasons_by_device(
        device, "blocked", "reference", compiled=lambda: why_not_compiled(small=small), unfit=unfit
    )
