"""Packs what a campaign on a lent GPU needs into one folder: faces, weights, wheels of peers, and the revision.

    python -m benchmarks.device.pack --faces FOLDER --weights FILE --wheel vector-quantize-pytorch --out campaign

Faces are reduced to the side that training takes, and as many are packed as fit: what travels may have 40 MiB in all.
"""

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

MOST = 40 * 2**20  # bytes
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pack_faces(folders: list[Path], out: Path, *, side: int, room: int, quality: int = 95) -> int:
    """Writes faces as JPEG in the order of their names until `room` bytes are taken; gives how many."""
    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    taken = 0
    for number, path in enumerate(paths):
        target = out / f"{number:06d}.jpg"
        with Image.open(path) as image:
            # by area, as the networks' own inputs are reduced
            face = image.convert("RGB").resize((side, side), Image.Resampling.BOX)
        face.save(target, quality=quality, subsampling=0)
        taken += target.stat().st_size
        if taken > room:
            target.unlink()
            return number
    return len(paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, nargs="*", default=[], help="folders of square faces")
    parser.add_argument("--side", type=int, default=128, help="pixels a side that faces are reduced to")
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="files that training reads")
    parser.add_argument("--wheel", nargs="*", default=[], help="names of packages without compiled parts")
    parser.add_argument("--out", type=Path, default=Path("campaign"))
    given = parser.parse_args()
    for name in ("faces", "weights", "wheels", "site"):
        shutil.rmtree(given.out / name, ignore_errors=True)
        (given.out / name).mkdir(parents=True)
    (given.out / ".gitignore").write_text("*\n")
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    (given.out / "REVISION").write_text(revision.stdout)
    for path in given.weights:
        shutil.copy(path, given.out / "weights" / path.name)
    for name in given.wheel:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "-d",
            str(given.out / "wheels"),
            name,
        ]
        if subprocess.run(command, check=False).returncode:
            print(f"no wheel of {name}: its rows will be missing", file=sys.stderr)
    for wheel in (given.out / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(given.out / "site")
    shutil.rmtree(given.out / "wheels")
    room = MOST - size_of(given.out)
    if room < 0:
        print(f"pack: weights and wheels take {(MOST - room) / 2**20:.1f} MiB of 40; leave some out", file=sys.stderr)
        return 2
    count = pack_faces(given.faces, given.out / "faces", side=given.side, room=room)
    print(f"{given.out}: {count} faces of {given.side} pixels, {size_of(given.out) / 2**20:.1f} MiB of 40")
    return 0


if __name__ == "__main__":
    sys.exit(main())
