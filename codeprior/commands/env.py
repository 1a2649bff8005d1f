"""`codeprior env`: what is installed here, for a bug report."""

import argparse
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from codeprior import __version__
from codeprior.commands._printing import say, say_lines

HELP = "Print versions, devices and optional packages, as a bug report needs them."
_NEEDED = ("torch", "numpy", "einops", "jaxtyping", "pillow", "safetensors", "timm")
_OPTIONAL = (
    "triton", "simplejpeg", "numba", "opencv-python-headless", "face-recognition-models", "lpips",
    "vector-quantize-pytorch", "uniface",
)  # fmt: skip
_CLASHING = ("opencv-python", "opencv-contrib-python")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command: there are none.

    Args:
        parser: The command's own parser.
    """


def run(arguments: argparse.Namespace) -> int:
    """Prints the list.

    Args:
        arguments: As parsed.

    Returns:
        0.
    """
    import torch

    from codeprior.kernels import explain

    say(f"codeprior {__version__}; Python {platform.python_version()} on {platform.platform()}")
    say(f"interpreter: {sys.executable}")
    for name in _NEEDED:
        say(f"{name}: {_version(name) or 'missing'}")
    for name in _OPTIONAL:
        say(f"{name} (optional): {_version(name) or 'not installed'}")
    for name in _CLASHING:
        if _version(name):
            say(f"{name}: {_version(name)}; overwrites opencv-python-headless and needs a desktop's libraries")
    say(f"threads: {torch.get_num_threads()}")
    for index in range(torch.cuda.device_count()):
        say(f"cuda:{index}: {torch.cuda.get_device_name(index)}")
    say(f"cuda: {torch.version.cuda or 'none'}; mps: {'yes' if torch.backends.mps.is_available() else 'no'}")
    say_lines(explain())
    return 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
