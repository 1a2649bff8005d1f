"""Says which implementation of each op would run here, and why the others would not."""

import torch

from codeprior.kernels import _compile
from codeprior.kernels._choose import ImplUnavailable, choose, wanted
from codeprior.kernels.blur_resize.choices import blur_resize_reasons
from codeprior.kernels.code_stats.choices import stats_reasons
from codeprior.kernels.contrastive.choices import contrastive_reasons
from codeprior.kernels.convolution.choices import convolution_reasons
from codeprior.kernels.group_norm_silu.choices import norm_reasons
from codeprior.kernels.jpeg.choices import jpeg_reasons
from codeprior.kernels.nearest_code.choices import lookup_reasons
from codeprior.kernels.nearest_code.residual import residual_reasons
from codeprior.kernels.normal_field.choices import normal_field_reasons

_OPS = {
    "nearest_code": lookup_reasons,
    "residual_code": residual_reasons,
    "code_stats": stats_reasons,
    "contrastive": contrastive_reasons,
    "convolution": convolution_reasons,
    "group_norm_silu": norm_reasons,
    "blur_resize": blur_resize_reasons,
    "jpeg": jpeg_reasons,
    "normal_field": normal_field_reasons,
}


def explain(device: str | None = None) -> str:
    """Gives a line for each op and implementation: which one runs on this machine, and why the others do not.

    What compiles on first use is compiled now, to know whether it can.

    Args:
        device: Type of device, `"cpu"` or `"cuda"`; None takes the GPU where there is one.

    Returns:
        Text of a few lines, to print.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    lines = [f"device: {torch.cuda.get_device_name() if device == 'cuda' and torch.cuda.is_available() else device}"]
    lines.append(f"compiled code: {_compile.folder_of_libraries()}")
    for op, table in _OPS.items():
        reasons = table(device)
        try:
            chosen = choose(op, None, reasons=reasons)
            name, source = wanted(op, None)
            lines.append(f"{op}: {chosen} runs ({source if chosen == name else 'auto'})")
        except ImplUnavailable as error:
            chosen = ""
            lines.append(str(error))
        for name, why_not in reasons.items():
            if name != chosen:
                lines.append(f"  {name}: {why_not() or 'can run when asked for'}")
    return "\n".join(lines)


def names() -> set[str]:
    """Gives the names of all implementations of all ops."""
    return {name for table in _OPS.values() for device in ("cpu", "cuda") for name in table(device)}
