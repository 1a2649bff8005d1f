"""Pictures of every colour mode turned to 8-bit RGB, with a note of what was done, or refused."""

from io import BytesIO

import numpy as np
from PIL import Image

from codeprior.photos.containers import Refused

_MAX_PROFILE = 4 * 2**20


def is_profile(profile: object, space: bytes) -> bool:
    """Says whether bytes are an ICC profile of a colour space.

    Args:
        profile: What a file holds in a profile's place.
        space: Four bytes, such as `b"RGB "`.
    """
    return isinstance(profile, bytes) and 128 <= len(profile) <= _MAX_PROFILE and profile[16:20] == space


def to_rgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Gives a decoded picture as RGB or RGBA.

    Args:
        image: Of any mode.
        profile: Its ICC profile, used for CMYK.
        notes: Gets a sentence for each conversion.

    Raises:
        Refused: Its values cannot be brought to 8 bits without guessing.
    """
    if image.mode in ("RGB", "RGBA"):
        if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
            return image.convert("RGB")
        return image
    if image.mode.startswith("I;16"):
        notes.append("16-bit grey was divided by 257")
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Refused(f"holds {'32-bit integers' if image.mode == 'I' else 'floats'} of unknown range")
    if image.mode == "CMYK":
        notes.append("CMYK was turned to RGB")
        return _from_cmyk(image, profile)
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGBX", "RGBa", "YCbCr", "LAB", "HSV"):
        raise Refused(f"has the colour mode {image.mode}, which is not supported")
    clear = image.mode in ("LA", "La", "PA", "RGBa") or "transparency" in image.info
    notes.append(f"{image.mode} was turned to RGB")
    return image.convert("RGBA" if clear else "RGB")


def _from_cmyk(image: Image.Image, profile: bytes | None) -> Image.Image:
    from PIL import ImageCms

    if profile and is_profile(profile, b"CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted if converted is not None else image.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a broken profile: the plain conversion below
    return image.convert("RGB")
