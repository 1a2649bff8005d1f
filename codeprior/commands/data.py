"""`codeprior data`: looks at training images once, and packs them for fast reading."""

import argparse
from pathlib import Path

from codeprior.commands._printing import say

HELP = "Check a folder of training images and list them; pack them into shards or raw pixels."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="read every image completely; write index.jsonl, name what is refused")
    check.add_argument("folder", type=Path, help="folder of images, of tar files, or of raw pixels")
    check.add_argument("--any-shape", action="store_true", help="accept images that are not square")
    check.add_argument("--workers", type=int, default=2, help="files read at the same time")
    check.add_argument("--update", action="store_true", help="replace a list from which the folder now differs")
    shards = actions.add_parser("shards", help="pack the listed images of a folder into tar files, bytes as they are")
    shards.add_argument("folder", type=Path, help="folder with index.jsonl")
    shards.add_argument("out", type=Path, help="where the tar files and their list go")
    shards.add_argument("--megabytes", type=float, default=1024, help="size at which a tar file is closed")
    pixels = actions.add_parser("pixels", help="decode the images into one file of raw 8-bit pixels")
    pixels.add_argument("folder", type=Path, help="folder of images or of tar files")
    pixels.add_argument("out", type=Path, help="where pixels.u8 goes")
    pixels.add_argument("--size", type=int, required=True, help="height and width, pixels")


def run(arguments: argparse.Namespace) -> int:
    """Checks or packs a folder.

    Args:
        arguments: As parsed.

    Returns:
        0 everything can be used, 3 some files were refused or have changed, 2 a wrong call.
    """
    try:
        return {"check": _check, "shards": _shards, "pixels": _pixels}[arguments.action](arguments)
    except (ValueError, OSError, MemoryError) as error:
        say(f"codeprior data: {error}", error=True)
        return 2


def _check(arguments: argparse.Namespace) -> int:
    from codeprior.training import PixelFile, check_images, index_shards, write_index
    from codeprior.training.index import INDEX
    from codeprior.training.pixels import PIXELS

    folder: Path = arguments.folder
    if (folder / PIXELS).exists():
        found = PixelFile(folder)
        found.verify()
        say(f"{len(found)} images of {found.size}×{found.size} pixels, as they were written")
        return 0
    if any(folder.glob("*.tar")):
        refused = index_shards(folder, square=not arguments.any_shape)
        say(f"listed the images of {len(list(folder.glob('*.tar')))} tar files; {len(refused)} refused")
        return _report("refused", refused)
    checked = check_images(folder, square=not arguments.any_shape, workers=arguments.workers)
    changed = _changed(folder / INDEX, checked.entries)
    for name, first in checked.copies.items():
        say(f"note: {name} is a copy of {first}")
    if checked.entries and (not changed or arguments.update):
        write_index(folder / INDEX, checked.entries)
    say(f"{len(checked.entries)} images can be used, {len(checked.refused)} refused")
    status = _report("refused", checked.refused)
    if changed and not arguments.update:
        say("the list is kept as it is; --update replaces it", error=True)
        return _report("changed", changed)
    return status


def _changed(path: Path, entries: list) -> dict[str, str]:
    from codeprior.training import read_index

    if not path.exists():
        return {}
    before = {entry.name: entry.sha256 for entry in read_index(path)}
    now = {entry.name: entry.sha256 for entry in entries}
    gone = {name: "is listed and cannot be used any more" for name in before if name not in now}
    new = {name: "is not in the list" for name in now if name not in before}
    other = {name: "is not the file that was listed" for name in now if before.get(name, now[name]) != now[name]}
    return gone | new | other


def _shards(arguments: argparse.Namespace) -> int:
    from codeprior.training import write_shards

    written = write_shards(arguments.folder, arguments.out, shard_bytes=int(arguments.megabytes * 2**20))
    say(f"wrote {len(written)} tar files to {arguments.out}")
    return 0


def _pixels(arguments: argparse.Namespace) -> int:
    from codeprior.training import open_images, write_pixels

    source = open_images([arguments.folder], size=arguments.size)
    write_pixels(source, arguments.out)
    say(f"wrote {len(source)} images of {arguments.size}×{arguments.size} pixels to {arguments.out}")
    return 0


def _report(what: str, reasons: dict[str, str]) -> int:
    for name, reason in reasons.items():
        say(f"{what}: {name}: {reason}", error=True)
    return 3 if reasons else 0
