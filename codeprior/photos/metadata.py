"""What a photograph says about itself: date, camera, description, place, resolution. The orientation is left out."""

from typing import Any, NamedTuple

from PIL import ExifTags, Image

_IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# maker, model, description, software, date, artist, copyright, and what Windows writes
_KEPT = (270, 271, 272, 305, 306, 315, 33432, *range(40091, 40096))
_SIZES = (40962, 40963)  # columns and rows, which may have changed
_OTHERS = {"XMP": ("xmp", "XML:com.adobe.xmp"), "IPTC": ("photoshop",), "a comment": ("comment",)}
_MAX_EXIF = 60_000  # a JPEG segment holds 65,533 bytes


class Metadata(NamedTuple):
    """Text and numbers that travel with the pixels.

    Attributes:
        exif: As the files hold it; None where there is none.
        resolution: Pixels an inch, across and down; None where it is not said.
    """

    exif: bytes | None = None
    resolution: tuple[float, float] | None = None

    def options(self, kind: str) -> dict[str, Any]:
        """Gives options for Pillow's `save`.

        Args:
            kind: Format that is written.
        """
        options: dict[str, Any] = {}
        if self.exif and kind == "TIFF":
            # libtiff writes no directory of its own for the camera's settings
            whole, plain = Image.Exif(), Image.Exif()
            whole.load(self.exif)
            plain.update({name: whole[name] for name in _KEPT if name in whole})
            options["exif"] = plain.tobytes()
        elif self.exif and kind != "BMP":
            options["exif"] = self.exif
        if self.resolution and kind != "WEBP":
            options["dpi"] = self.resolution
        return options


def kept(image: Image.Image, notes: list[str]) -> Metadata:
    """Gives the metadata of a picture that has been turned upright.

    Args:
        image: As Pillow decoded it.
        notes: Gets a sentence about what is left out.
    """
    given, made = image.getexif(), Image.Exif()
    for name in _KEPT:
        if name in given:
            made[name] = given[name]
    for name in _IFDS:
        inner = {key: value for key, value in given.get_ifd(name).items() if key not in _SIZES}
        if inner:
            made._ifds[name] = inner
            made[name] = inner
    content = made.tobytes() if len(made) else None
    if content and len(content) > _MAX_EXIF:
        notes.append("the EXIF data was left out: it is longer than a JPEG can hold")
        content = None
    others = [name for name, keys in _OTHERS.items() if any(image.info.get(key) for key in keys)]
    if others:
        notes.append(f"{' and '.join(others)} {'were' if len(others) > 1 else 'was'} left out")
    return Metadata(content, _resolution(image))


def is_deep(content: bytes, image: Image.Image, kind: str) -> bool:
    """Says whether a picture has 16 bits a colour channel, of which eight are read.

    Args:
        content: The whole file.
        image: As Pillow opened it.
        kind: Its format.
    """
    if kind == "PNG":
        return content[24] == 16 and content[25] in (2, 4, 6)
    bits = getattr(image, "tag_v2", {}).get(258, ()) if kind == "TIFF" else ()
    return isinstance(bits, tuple) and len(bits) >= 3 and max(bits) > 8


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    given = image.info.get("dpi")
    if not isinstance(given, tuple) or len(given) != 2:
        return None
    across, down = (float(side) for side in given)
    return (across, down) if 1 < across <= 65_535 and 1 < down <= 65_535 else None
