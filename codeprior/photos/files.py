"""Photographs in and out: whole pictures or a reason, never half of one, never over an existing one.

Reading takes regular files only, chooses one decoder by content, checks every size before decoding and refuses what is
damaged. Writing goes to a temporary file that is linked into place. Reading is the first step of restoring a
photograph, writing the last.
"""

import warnings
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import ExifTags, Image, ImageOps

from codeprior import files
from codeprior.files import FORMATS, ONLY_READ, sweep
from codeprior.photos import containers, depth, formats, jpegs, metadata, tiffs
from codeprior.photos.colours import is_profile, to_rgb
from codeprior.photos.containers import MAX_BYTES
from codeprior.photos.metadata import Metadata
from codeprior.photos.pngs import png

__all__ = ["Photo", "PhotoError", "decode", "looks_like_photo", "read", "read_bytes", "sweep", "write"]

_OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "method": 2},
    "BMP": {},
    "TIFF": {"compression": "tiff_deflate"},
}
_PIECE = 2**19  # bytes of Pillow's own pixels


class PhotoError(ValueError):
    """A file that is no usable photograph, or an output that cannot be written.

    Attributes:
        path: The file.
        reason: What is the matter with it, without the path.
    """

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason


class Photo(NamedTuple):
    """A photograph as it was read.

    Attributes:
        pixels: `H W 3`, RGB, 8-bit levels, upright.
        alpha: `H W`, 8-bit levels, where it was asked for and is there.
        profile: ICC profile of the RGB pixels, as it stood in the file.
        format: `JPEG`, `PNG`, `WEBP`, `BMP`, `TIFF`, `GIF`, `AVIF`, `HEIF` or `JXL`, by content.
        notes: What was converted on the way, a sentence each.
        metadata: Date, camera, description, place and resolution, to be written again.
        deep: `H W 3`, RGB, 16-bit levels, upright, where they were asked for and are there; `pixels` are then what is
            left of them in eight bits.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    alpha: UInt8[np.ndarray, "H W"] | None
    profile: bytes | None
    format: str
    notes: tuple[str, ...]
    metadata: Metadata = Metadata()
    deep: UInt16[np.ndarray, "H W 3"] | None = None


def read(path: str | Path, *, keep_alpha: bool = False, keep_depth: bool = False) -> Photo:
    """Reads a photograph completely.

    Args:
        path: A regular file of at most 256 MiB: JPEG, PNG, WEBP, BMP, TIFF, GIF, AVIF, HEIC (with `codeprior[heic]`) or
            JPEG XL (with `codeprior[jxl]`) by content, whatever its name.
        keep_alpha: Keep transparency beside the colours, instead of laying the picture over white.
        keep_depth: Also keep the 16-bit levels of an opaque PNG or TIFF.

    Returns:
        The photograph, turned upright; 16-bit grey divided by 257, CMYK, palette and grey turned to RGB, the first
        frame of several.

    Raises:
        PhotoError: It is missing, no regular file, no supported picture, too large, damaged or truncated.

    Note:
        Caps: 64 megapixels, 32,768 pixels a side, aspect 2,000.
    """
    return decode(read_bytes(Path(path)), path, keep_alpha=keep_alpha, keep_depth=keep_depth)


def read_bytes(path: Path) -> bytes:
    """Gives the bytes of a regular file of at most 256 MiB; never waits for a pipe.

    Raises:
        PhotoError: It is missing, no regular file, empty, too large, or cannot be read.
    """
    try:
        file = files.opened(path)
    except (OSError, ValueError) as error:
        reason = {FileNotFoundError: "does not exist", PermissionError: "may not be read"}.get(type(error))
        text = str(getattr(error, "strerror", None) or error)
        raise PhotoError(path, reason or (text if "regular file" in text else f"cannot be opened: {text}")) from None
    with file:
        size = file.seek(0, 2)
        if size > MAX_BYTES:
            raise PhotoError(path, f"has {size:,} bytes, more than the {MAX_BYTES:,} accepted")
        try:
            file.seek(0)
            content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PhotoError(path, f"cannot be read: {error.strerror}") from error
    if not content:
        raise PhotoError(path, "is empty")
    return content


def decode(content: bytes, path: str | Path, *, keep_alpha: bool = False, keep_depth: bool = False) -> Photo:
    """Reads a photograph from the bytes of its file, as `read` does.

    Args:
        content: The whole file.
        path: Its name in errors.
        keep_alpha: Keep transparency beside the colours, instead of laying the picture over white.
        keep_depth: Also keep the 16-bit levels of an opaque PNG or TIFF.

    Raises:
        PhotoError: It is no supported picture, too large, damaged or truncated.
    """
    try:
        kind = containers.check(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken metadata warns; damaged pixels raise
            return _decode(content, kind, keep_alpha, keep_depth)
    except containers.Refused as refusal:
        raise PhotoError(path, str(refusal)) from None
    except Image.DecompressionBombError:
        raise PhotoError(path, "claims far more than the megapixels that are read") from None
    except MemoryError:
        raise PhotoError(path, "does not fit into memory") from None
    except Exception as error:  # damaged data makes decoders raise many types: SyntaxError, struct.error, KeyError
        raise PhotoError(path, f"is damaged: {str(error)[:200] or type(error).__name__}") from error


def write(
    path: str | Path,
    pixels: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"],
    *,
    alpha: UInt8[np.ndarray, "H W"] | None = None,
    profile: bytes | None = None,
    metadata: Metadata | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a photograph, whole or not at all.

    Args:
        path: Where to; the suffix says the format.
        pixels: `H W 3`, RGB, 8-bit levels; or 16-bit ones for a PNG or TIFF without `alpha`.
        alpha: `H W`, 8-bit levels; JPEG and BMP have no place for it.
        profile: ICC profile to keep with the pixels.
        metadata: What `read` gave; BMP has no place for more than the resolution, WEBP none for that.
        overwrite: Replace an existing file, in one step.

    Raises:
        PhotoError: The suffix names no format, the file exists, the format has no alpha or no 16-bit levels, or the
            disk refuses.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise PhotoError(path, f"cannot be written: choose a name that ends in {', '.join(FORMATS)}")
    if alpha is not None and kind in ("JPEG", "BMP"):
        raise PhotoError(path, f"cannot be written: {kind} keeps no transparency; choose PNG, WEBP or TIFF")
    if pixels.dtype == np.uint16 and (alpha is not None or kind not in depth.HOLD_IT):
        raise PhotoError(path, f"cannot be written: {kind} keeps 16 bits a channel only as PNG or TIFF, without alpha")
    from_metadata = metadata.options(kind) if metadata else {}
    try:
        if pixels.dtype == np.uint16:
            content = depth.packed(pixels, kind, profile=profile, options=from_metadata)
        elif kind == "PNG":
            whole = pixels if alpha is None else np.dstack([pixels, alpha])
            content = png(whole, profile=profile, options=from_metadata)
        else:
            encoded = BytesIO()
            image = Image.fromarray(pixels if alpha is None else np.dstack([pixels, alpha]))
            more = {"icc_profile": profile} if profile and kind != "BMP" else {}
            image.save(encoded, kind, **_OPTIONS[kind], **more, **from_metadata)
            content = encoded.getvalue()
        files.write(path, content, overwrite=overwrite)
    except FileExistsError:
        raise PhotoError(path, "exists already and is kept; ask for overwriting to replace it") from None
    except (OSError, ValueError) as error:
        raise PhotoError(path, f"cannot be written: {getattr(error, 'strerror', None) or error}") from error


def looks_like_photo(path: Path) -> bool:
    """Says whether a file is a picture by its name or by its first bytes, read here or not.

    Args:
        path: A file found in a folder; unreadable ones count as pictures, so that they are reported.
    """
    if path.suffix.lower() in (*FORMATS, *ONLY_READ) or not path.is_file():
        return True
    try:
        with path.open("rb") as file:
            return formats.kind(file.read(512)).picture
    except OSError:
        return True


def _decode(content: bytes, kind: str, keep_alpha: bool, keep_depth: bool) -> Photo:
    notes: list[str] = []
    found = jpegs.structure(content) if kind == "JPEG" else None
    image = formats.open_as(content, kind)
    containers.check_size(image.width, image.height, scans=found.scans if found else 1)
    frames = _frames(content, image, kind)
    if frames != "1":
        notes.append(f"the first of {frames} frames was taken")
    is_deep, pixels, deep = metadata.is_deep(content, image, kind), None, None
    if found:
        image, pixels = jpegs.decoded(content, image, found.ended, notes)
    image.load()
    decoded = image
    if kind == "PNG":
        containers.check_rows(content, image)
    try:
        if image.getexif().get(ExifTags.Base.Orientation) in range(2, 9):
            image = ImageOps.exif_transpose(image)
        kept_text = metadata.kept(image, notes)
    except Exception:
        notes.append("broken EXIF data was ignored")
        kept_text = metadata.Metadata()
    profile = image.info.get("icc_profile")
    if keep_depth and image.mode.startswith("I;16"):
        deep = np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, 2)
    image = to_rgb(image, profile, [] if deep is not None else notes)
    alpha = None
    if image.mode == "RGBA":
        if keep_alpha:
            alpha = np.array(image.getchannel("A"))
            image = image.convert("RGB")
        else:
            notes.append("transparency was laid over white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    kept = profile if is_profile(profile, b"RGB ") else None
    if pixels is None or image is not decoded:
        pixels = _levels(image)
    if is_deep:
        deep = depth.deep_values(content, pixels) if keep_depth and alpha is None else None
        if deep is None:
            notes.append("16 bits a channel were read as 8" + depth.what_would_read_them())
    return Photo(pixels, alpha, kept, kind, tuple(notes), kept_text, deep)


def _levels(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Gives `np.array(image)`, copied in pieces that stay in the processor's cache."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(_PIECE // (4 * width), 1)
    for top in range(0, height, rows):
        pixels[top : top + rows] = np.asarray(image.crop((0, top, width, min(top + rows, height))))
    return pixels


def _frames(content: bytes, image: Image.Image, kind: str) -> str:
    """Says how many frames there are; counting stops where there are very many."""
    if kind == "TIFF":
        pages = tiffs.check(content)
        return str(pages) if pages < tiffs.MAX_PAGES else f"{pages:,} or more"
    if kind == "GIF":
        frames = formats.gif_frames(content, most=tiffs.MAX_PAGES)
        return str(frames) if frames < tiffs.MAX_PAGES else f"{frames:,} or more"
    return str(getattr(image, "n_frames", 1))
