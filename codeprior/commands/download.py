"""`codeprior download NAME --to DIR`: a published weights file, fetched because it was asked for, and checked."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codeprior.commands._printing import say

if TYPE_CHECKING:
    from codeprior.families import Published

HELP = "Fetch a published weights file into a folder: asked for, checked, resumable; never done by anything else."
_REFUSED = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("what", metavar="NAME", help="a name that codeprior families lists, or an address https://…")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="an existing folder")
    parser.add_argument("--sha256", help="what the file must be; needed with an address")
    parser.add_argument("--offline", action="store_true", help="do not use the network, only check what is there")
    parser.add_argument("--timeout", type=float, default=30.0, help="longest silence of the server, seconds")


def run(arguments: argparse.Namespace) -> int:
    """Fetches one file.

    Args:
        arguments: As parsed.

    Returns:
        0 it is there and has its checksum, where there is one; 2 it is not, the reason is on stderr.
    """
    try:
        path = _fetched(arguments)
    except (OSError, ValueError) as error:
        say(f"codeprior download: {error}", error=True)
        return _REFUSED
    say(path)
    return 0


def published_weights() -> "list[Published]":
    """Gives the published weights of the installed families, and of the face detectors."""
    from codeprior.families import installed_families
    from codeprior.photos.faces import PUBLISHED

    return [one for family in installed_families() for one in family.published] + list(PUBLISHED)


def _fetched(arguments: argparse.Namespace) -> Path:
    from tqdm import tqdm

    from codeprior.checkpoints import fetch, recorded_sum

    names = {} if "://" in arguments.what else {one.name: one for one in published_weights()}
    if arguments.what in names:
        found = names[arguments.what]
        address, sha256 = found.url, found.sha256 or arguments.sha256
        if arguments.sha256 not in (None, sha256):
            raise ValueError(f"{arguments.what} is published with SHA-256 {sha256}, not {arguments.sha256}.")
        say(f"{arguments.what}: {found.described()}", error=True)
    elif "://" not in arguments.what:
        raise ValueError(f"nothing is named {arguments.what!r}; choose {', '.join(names)}, or give an address.")
    elif arguments.sha256 is None:
        raise ValueError("an address needs --sha256: what comes from it could be anything.")
    else:
        address, sha256 = arguments.what, arguments.sha256
    with tqdm(unit="B", unit_scale=True, disable=not sys.stderr.isatty(), file=sys.stderr) as bar:

        def report(there: int, total: int | None) -> None:
            bar.total = total
            bar.update(there - bar.n)

        path = fetch(
            address,
            arguments.to,
            sha256=sha256,
            offline=arguments.offline,
            timeout=arguments.timeout,
            progress=report,
        )
    if sha256 is None:
        say(
            f"{arguments.what}: its publisher gives no checksum, so what came could not be verified. It has SHA-256 "
            f"{recorded_sum(path)}, recorded in {path.name}.sha256; compare it with one that you trust.",
            error=True,
        )
    return path
