"""Says which implementation of each op would run here, and why the others would not."""

import torch

from codeprior.kernels import _compile
from codeprior.kernels._choose import pick, reasons, wanted
from codeprior.kernels.ops import OPS, ImplUnavailable


def explain(device: str | None = None) -> str:
    """Gives a line for each op and implementation: which one runs on this machine, and why the others do not.

    Code that is compiled on first use is compiled now, to find out whether it can be.

    Args:
        device: Type of device, `"cpu"` or `"cuda"`; None takes the GPU where there is one.

    Returns:
        Text of a few lines, to print.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    lines = [f"device: {torch.cuda.get_device_name() if device == 'cuda' and torch.cuda.is_available() else device}"]
    lines.append(f"compiled code: {_compile.folder_of_libraries()}")
    for op in OPS:
        table = reasons(op, device)
        try:
            chosen = pick(op, None, reasons=table)
            name, source = wanted(op, None)
            lines.append(f"{op}: {chosen} runs ({source if chosen == name else 'auto'})")
        except ImplUnavailable as error:
            chosen = ""
            lines.append(str(error))
        for name, why_not in table.items():
            if name != chosen:
                lines.append(f"  {name}: {why_not() or 'can run when asked for'}")
    return "\n".join(lines)
