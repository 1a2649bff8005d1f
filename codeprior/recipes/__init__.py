"""In a clone: the packages of `examples/` under the name by which they are imported; a wheel holds them here."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2] / "examples")]
