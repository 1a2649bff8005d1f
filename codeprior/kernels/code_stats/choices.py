"""Which implementations of the counts and sums can run, best first, and why the others cannot."""

from collections.abc import Mapping
from types import MappingProxyType

from codeprior.kernels._choose import Reasons, choose, constant_while_tracing, wanted
from codeprior.kernels._device import reasons_by_device
from codeprior.kernels.code_stats.compiled import why_not_compiled

_FIT: Mapping[str, str] = MappingProxyType({})


@constant_while_tracing
def choose_stats(impl: str | None, device: str, *, unfit: Mapping[str, str] = _FIT, small: bool = False) -> str:
    """Gives the name of the implementation that runs; under torch.compile the choice is made once, while tracing.

    Args:
        impl: The caller's argument.
        device: Type of the tensors' device.
        unfit: For an implementation, why it cannot read these tensors.
        small: The problem is done sooner than a compiler; the sums are the same whichever runs.

    Raises:
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    small = small and wanted("code_stats", impl)[0] is None
    return choose("code_stats", impl, reasons=stats_reasons(device, unfit=unfit, small=small))


def stats_reasons(device: str, *, unfit: Mapping[str, str] = _FIT, small: bool = False) -> Reasons:
    """Gives, for each implementation, a function that says why it cannot run, or None."""
    return reasons_by_device(device, "reference", compiled=lambda: why_not_compiled(small=small), unfit=unfit)
