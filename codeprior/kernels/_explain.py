"""Says which implementation of each op would run here, and why the others would not."""

import torch

from codeprior.kernels._choose import wanted


def explain() -> str:
    """Gives a line for each op and implementation: whether it can run on this machine, and if not, why.

    Returns:
        Text of a few lines, to print.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    name, source = wanted("nearest_code", None)
    chosen = f"{name} (asked for by {source})" if name else "reference (auto)"
    return f"device: {device}\nnearest_code: {chosen}"
