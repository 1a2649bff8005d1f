"""Photographs: hardened reading, atomic writing, faces found and put back, and many of them in a stream."""

from codeprior.photos.files import Photo, PhotoError, read, write

__all__ = ["Photo", "PhotoError", "read", "write"]
