"""Packs what a campaign on a lent GPU needs into one folder: faces, weights, wheels of peers, and the revision.

    python -m benchmarks.device.pack --faces FOLDER --weights FILE --wheel vector-quantize-pytorch --out campaign

Each folder of faces is a source; as many faces are packed as fit.
"""

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pack_faces(folders: list[Path], out: Path, *, room: int, side: int | None = None, quality: int = 95) -> int:
    """Copies faces into a folder for each source, in the order of their names, until `room` bytes are taken.

    Args:
        folders: One for each source; its name is kept.
        out: Where the folders of the sources go.
        room: Most bytes of all of them.
        side: Pixels a side that faces are reduced to, as JPEG; None copies the files.
        quality: Of those JPEG files.

    Returns:
        How many faces there are now.
    """
    from PIL import Image

    taken = count = 0
    for folder in folders:
        (out / folder.name).mkdir(parents=True, exist_ok=True)
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES):
            target = out / folder.name / path.name
            if side is None:
                shutil.copy(path, target)
            else:
                target = target.with_suffix(".jpg")
                with Image.open(path) as image:
                    # by area, as the networks' own inputs are reduced
                    face = image.convert("RGB").resize((side, side), Image.Resampling.BOX)
                face.save(target, quality=quality, subsampling=0)
            taken += target.stat().st_size
            if taken > room:
                target.unlink()
                return count
            count += 1
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, nargs="*", default=[], help="folders of square faces, one a source")
    parser.add_argument("--side", type=int, help="pixels a side that faces are reduced to; without it, they are copied")
    parser.add_argument("--most", type=float, default=40, metavar="MIB", help="of everything that is packed")
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
    taken, most = size_of(given.out), round(given.most * 2**20)
    if taken > most:
        said = f"weights and wheels take {taken / 2**20:.1f} MiB of {given.most:g}"
        print(f"pack: {said}; leave some out, or raise --most", file=sys.stderr)
        return 2
    count = pack_faces(given.faces, given.out / "faces", side=given.side, room=most - taken)
    print(f"{given.out}: {count} faces, {size_of(given.out) / 2**20:.1f} MiB of {given.most:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
