"""Faces in photographs: found, brought onto the FFHQ template, and put back without a seam."""

from codeprior.photos.faces.detect import (
    PUBLISHED,
    Detector,
    Face,
    NoFaceError,
    box_around,
    choose,
    detector,
    from_landmarks,
    usable,
)  # fmt: skip
from codeprior.photos.faces.geometry import at_side, invert, resample, similarity, template, transform
from codeprior.photos.faces.parse import FaceParser, Parser, parser
from codeprior.photos.faces.paste import Crop, align, alignment, match_colour, paste, soft_mask
from codeprior.photos.faces.region import region
from codeprior.photos.faces.search import search

__all__ = [
    "PUBLISHED", "Crop", "Detector", "Face", "FaceParser", "NoFaceError", "Parser", "align", "alignment", "at_side",
    "box_around", "choose", "detector", "from_landmarks", "invert", "match_colour", "parser", "paste", "region",
    "resample", "search", "similarity", "soft_mask", "template", "transform", "usable",
]  # fmt: skip
