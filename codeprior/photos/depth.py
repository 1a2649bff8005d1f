"""Pictures of 16 bits a channel: the values that Pillow leaves out when it reads, and files that hold them again.

Pillow knows no colour pictures of 16 bits. OpenCV decodes them; its values are used only where their upper eight bits
equal what Pillow decoded, so that both have read the same picture. Files are packed here; everything else that they
hold comes from Pillow.
"""

import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, TiffImagePlugin

from codeprior.extras import command_for
from codeprior.photos.pngs import png

HOLD_IT = ("PNG", "TIFF")
"""Formats in which colours of 16 bits are written."""
_TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""By the number of the EXIF orientation: what turns the stored pixels upright."""


def deep_values(content: bytes, upright: UInt8[np.ndarray, "H W 3"]) -> UInt16[np.ndarray, "H W 3"] | None:
    """Gives the 16-bit values of a colour picture.

    Args:
        content: The file.
        upright: What Pillow decoded of it, turned upright: the upper eight bits.

    Returns:
        Upright, or None where they cannot be had: no decoder, or one that reads other pixels than Pillow did.
    """
    try:
        import cv2

        found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except (ImportError, MemoryError):
        return None
    except Exception:  # OpenCV's own error, which is no subclass of anything narrower
        return None
    if found is None or found.dtype != np.uint16 or found.ndim != 3 or found.shape[2] not in (3, 4):
        return None
    values = found[:, :, 2::-1]  # from blue, green, red
    for turn in _TURNS.values():
        turned = turn(values)
        if turned.shape == upright.shape and np.array_equal(turned >> 8, upright):
            return np.ascontiguousarray(turned)
    return None


def what_would_read_them() -> str:
    """Gives the rest of a sentence: which command brings the decoder of 16 bits, where it is missing; else nothing."""
    if find_spec("cv2") is not None:
        return ""
    return f"; OpenCV reads them, which is not installed: {command_for('cv2', 'opencv-python-headless')}"


def packed(
    values: UInt16[np.ndarray, "H W 3"], kind: str, *, profile: bytes | None = None, options: Mapping[str, Any]
) -> bytes:
    """Gives the file of a picture of 16 bits a channel.

    Args:
        values: `H W 3`, RGB.
        kind: PNG or TIFF.
        profile: ICC profile.
        options: Options for Pillow's `save`: `exif`, `dpi`.

    Raises:
        ValueError: The format is another.
    """
    if kind == "PNG":
        return png(values, profile=profile, options=options)
    if kind == "TIFF":
        return _tiff(values, profile, options)
    raise ValueError(f"{kind} holds no 16 bits a channel; choose {' or '.join(HOLD_IT)}")


def _tiff(values: UInt16[np.ndarray, "H W 3"], profile: bytes | None, options: Mapping[str, Any]) -> bytes:
    height, width = values.shape[:2]
    # each value but the first of a row as its difference from the one before: TIFF's horizontal predictor
    steps = values.astype("<u2")
    steps[:, 1:] -= values[:, :-1]
    content = zlib.compress(steps.tobytes(), 6)
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    if options.get("exif"):
        exif = Image.Exif()
        exif.load(options["exif"])
        for name, value in exif.items():
            directory[name] = value
    if options.get("dpi"):
        directory[TiffImagePlugin.RESOLUTION_UNIT] = 2  # inches
        directory[TiffImagePlugin.X_RESOLUTION], directory[TiffImagePlugin.Y_RESOLUTION] = options["dpi"]
    if profile:
        directory.tagtype[TiffImagePlugin.ICCPROFILE] = 7  # bytes
        directory[TiffImagePlugin.ICCPROFILE] = profile
    directory[TiffImagePlugin.IMAGEWIDTH], directory[TiffImagePlugin.IMAGELENGTH] = width, height
    directory[TiffImagePlugin.BITSPERSAMPLE] = (16, 16, 16)
    directory[TiffImagePlugin.COMPRESSION] = 8  # Adobe's deflate
    directory[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 2  # RGB
    directory[TiffImagePlugin.SAMPLESPERPIXEL] = 3
    directory[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
    directory[TiffImagePlugin.PREDICTOR] = 2
    directory[TiffImagePlugin.ROWSPERSTRIP] = height
    directory[TiffImagePlugin.STRIPBYTECOUNTS] = len(content)
    directory[TiffImagePlugin.STRIPOFFSETS] = 0  # from the end of the directory, which is counted when it is written
    file = BytesIO()
    directory.save(file)
    file.write(content)
    return file.getvalue()
