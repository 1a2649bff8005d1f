"""The detectors of the package uniface behind our protocol; the caller gives the weight file, none is downloaded."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from codeprior.photos.faces.detect import Face

_FOLDER = "UNIFACE_CACHE_DIR"


class UniFace:
    """Finds faces with a detector of uniface.

    Args:
        detector: Has `detect`: a BGR image to objects with `bbox`, `landmarks` and `confidence`.
    """

    def __init__(self, detector: Any):
        self._detector = detector

    def __call__(self, photo: UInt8[np.ndarray, "H W 3"]) -> list[Face]:
        """Finds the faces of a photograph.

        Args:
            photo: RGB, 8-bit levels.

        Returns:
            Faces in the photograph's pixels, best score first; none is an empty list.
        """
        found = self._detector.detect(np.ascontiguousarray(photo[..., ::-1]))
        faces = [
            Face(np.asarray(one.bbox, np.float64)[:4], np.asarray(one.landmarks, np.float64), float(one.confidence))
            for one in found
        ]
        return sorted(faces, key=lambda face: -face.score)


def load(weights: str | Path | None = None, *, device: str = "cpu") -> UniFace:
    """Gives uniface's RetinaFace with a weight file that is there already.

    Args:
        weights: `retinaface_mnet_v2.onnx`, or another of its RetinaFace files, under the name that uniface keeps it by.
        device: `cpu`, or `cuda` where onnxruntime has it.

    Raises:
        ValueError: No file is given, or uniface knows no such file.
        FileNotFoundError: The file is not there.
        ImportError: uniface is not installed.
    """
    if weights is None:
        raise ValueError("detector 'uniface' needs the path of its weight file; codeprior never lets it download one.")
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"detector 'uniface': {path} does not exist.")
    from codeprior.checkpoints.checkpoint import file_sha256

    try:
        from uniface.constants import MODEL_REGISTRY, RetinaFaceWeights  # pyright: ignore[reportMissingImports]
        from uniface.detection import RetinaFace  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("detector 'uniface' needs the package uniface: pip install uniface.") from error
    known = {f"{name.value}.onnx": name for name in RetinaFaceWeights}
    if path.name not in known:
        raise ValueError(f"detector 'uniface' knows no file {path.name}; it has {', '.join(known)}.")
    if file_sha256(path) != MODEL_REGISTRY[known[path.name]].sha256:
        raise ValueError(f"detector 'uniface': {path} is damaged; uniface would replace it by a download.")
    before = os.environ.get(_FOLDER)
    os.environ[_FOLDER] = str(path.parent)  # where uniface looks before it would download
    try:
        providers = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider"]
        return UniFace(RetinaFace(model_name=known[path.name], providers=providers))
    finally:
        if before is None:
            del os.environ[_FOLDER]
        else:
            os.environ[_FOLDER] = before
