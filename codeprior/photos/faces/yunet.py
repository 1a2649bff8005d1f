"""YuNet through OpenCV: the smallest and fastest detector, with the least exact points; the caller has its file."""

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import UInt8

from codeprior.extras import needed
from codeprior.photos.faces.detect import Face

_LONGEST = 1280  # pixels
_SMALLEST = 16  # narrowest face, pixels of the picture that is searched; the zoo's page says 10


class YuNet:
    """Finds faces with OpenCV's `FaceDetectorYN`.

    Args:
        weights: `face_detection_yunet_2023mar.onnx`.
        score: Least score of a box.

    Source:
        Wu et al. 2023, "YuNet: A tiny millisecond-level face detector".
    """

    def __init__(self, weights: Path, *, score: float = 0.5):
        cv2 = needed("cv2", who="detector 'yunet'")

        self.longest, self.smallest = _LONGEST, _SMALLEST
        self._lock = Lock()  # the network keeps the size of its last picture
        try:
            self._network: Any = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), score, 0.3)
        except cv2.error as error:
            raise ValueError(f"detector 'yunet': OpenCV cannot read {weights}: {str(error).strip()[-200:]}") from None

    def __call__(self, photo: UInt8[np.ndarray, "H W 3"]) -> list[Face]:
        """Finds the faces of a photograph.

        Args:
            photo: RGB, 8-bit levels.

        Returns:
            Faces in the photograph's pixels, best score first; none is an empty list.
        """
        cv2 = needed("cv2", who="detector 'yunet'")

        height, width = photo.shape[:2]
        scale = min(1.0, _LONGEST / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.ascontiguousarray(photo[..., ::-1])
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
        with self._lock:
            self._network.setInputSize(size)
            _, rows = self._network.detect(pixels)
        ratio = np.array([width / size[0], height / size[1]])
        faces = []
        for row in [] if rows is None else np.asarray(rows, np.float64):
            corner, sides, points = row[:2], row[2:4], row[4:14].reshape(5, 2)
            box = np.concatenate([corner * ratio, (corner + sides) * ratio])
            faces.append(Face(box, (points + 0.5) * ratio - 0.5, float(row[14])))
        return sorted(faces, key=lambda face: -face.score)


def load(weights: str | Path | None = None, *, device: str = "cpu") -> YuNet:
    """Gives the detector with weights from a file.

    Args:
        weights: `face_detection_yunet_2023mar.onnx`, from OpenCV's model zoo.
        device: Only `cpu`.

    Raises:
        ValueError: No file is given, or OpenCV cannot read it.
        FileNotFoundError: The file is not there.
    """
    if weights is None:
        raise ValueError("detector 'yunet' needs face_detection_yunet_2023mar.onnx; codeprior download fetches it.")
    if not Path(weights).is_file():
        raise FileNotFoundError(f"detector 'yunet': {weights} does not exist.")
    return YuNet(Path(weights))
