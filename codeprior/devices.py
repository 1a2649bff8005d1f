"""Devices by name, checked first, so that the error is clearer than PyTorch's own."""

import torch


def usable_device(who: str, device: str | torch.device) -> torch.device:
    """Gives a device that can be used here.

    Args:
        who: What asks for it, for the text of an error.
        device: `cpu`, `cuda`, `cuda:1` and so on, or `mps`.

    Raises:
        ValueError: No device has that name, or there is none here.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"{who} {device} is no device; give cpu, cuda, cuda:1 and so on, or mps.") from None
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ValueError(f"{who} {device}: there is none here that torch can use; leave it out to run on the CPU.")
        if found.index is not None and found.index >= count:
            raise ValueError(f"{who} {device}: there are {count} here, counted from cuda:0.")
    elif found.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"{who} {device}: there is none here that torch can use; leave it out to run on the CPU.")
    elif found.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"{who} {device} is no device; give cpu, cuda, cuda:1 and so on, or mps.")
    return found
