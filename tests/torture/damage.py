"""Random damage to a checkpoint on the disk: bits, holes, lost ends, lost files, something appended."""

import random
from pathlib import Path

KINDS = ("flip", "zero", "truncate", "delete", "append", "swap")


def harm(place: Path, seed: int) -> str:
    """Damages a checkpoint in one way, and says how; the bytes on the disk are never the same afterwards."""
    chance = random.Random(seed)
    files = sorted(place.iterdir())
    path, kind = chance.choice(files), KINDS[seed % len(KINDS)]
    content = bytearray(path.read_bytes())
    if kind == "flip":
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == "zero":
        start = chance.choice([number for number, byte in enumerate(content) if byte])
        hole = slice(start, min(start + chance.randint(1, 64), len(content)))
        content[hole] = bytes(hole.stop - hole.start)
    elif kind == "truncate":
        del content[chance.randrange(len(content)) :]
    elif kind == "append":
        content += chance.randbytes(chance.randint(1, 64))
    elif kind == "swap":
        other = chance.choice([one for one in files if one != path])
        content = bytearray(other.read_bytes())
    if kind == "delete":
        path.unlink()
    else:
        path.write_bytes(content)
    return f"{kind} {path.name}"
