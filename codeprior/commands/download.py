"""`codeprior download NAME --to DIR`: a published weights file, fetched because it was asked for, and checked."""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from codeprior.commands._printing import say

HELP = "Fetch a published weights file into a folder: asked for, checksummed, resumable; never done by anything else."
_REFUSED = 2


class Published(NamedTuple):
    """A file that somebody publishes.

    Attributes:
        address: Where it is.
        sha256: What it must be.
        about: What it is and under which licence.
    """

    address: str
    sha256: str
    about: str


_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/v0.1.0"
PUBLISHED = {
    "retinaface": Published(
        f"{_FACEXLIB}/detection_Resnet50_Final.pth",
        "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        "RetinaFace ResNet-50, the detector of published face models; 104 MiB; MIT",
    ),
    "retinaface-mobilenet": Published(
        f"{_FACEXLIB}/detection_mobilenet0.25_Final.pth",
        "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
        "RetinaFace MobileNet 0.25; 1.7 MiB; MIT",
    ),
    "yunet": Published(
        "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
        "face_detection_yunet_2023mar.onnx",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        "YuNet for OpenCV; 0.2 MiB; MIT",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("what", metavar="NAME", help=f"{', '.join(PUBLISHED)}, or an address https://…")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="an existing folder")
    parser.add_argument("--sha256", help="what the file must be; needed with an address")
    parser.add_argument("--offline", action="store_true", help="do not use the network, only check what is there")
    parser.add_argument("--timeout", type=float, default=30.0, help="longest silence of the server, seconds")


def run(arguments: argparse.Namespace) -> int:
    """Fetches one file.

    Args:
        arguments: As parsed.

    Returns:
        0 it is there and has its checksum, 2 it is not; the reason is on stderr.
    """
    try:
        path = _fetched(arguments)
    except (OSError, ValueError) as error:
        say(f"codeprior download: {error}", error=True)
        return _REFUSED
    say(path)
    return 0


def _fetched(arguments: argparse.Namespace) -> Path:
    from tqdm import tqdm

    from codeprior.checkpoints import fetch

    if arguments.what in PUBLISHED:
        address, sha256, about = PUBLISHED[arguments.what]
        if arguments.sha256 not in (None, sha256):
            raise ValueError(f"{arguments.what} is published with SHA-256 {sha256}, not {arguments.sha256}.")
        say(f"{arguments.what}: {about}", error=True)
    elif "://" not in arguments.what:
        raise ValueError(f"nothing is named {arguments.what!r}; choose {', '.join(PUBLISHED)}, or give an address.")
    elif arguments.sha256 is None:
        raise ValueError("an address needs --sha256: what comes from it could be anything.")
    else:
        address, sha256 = arguments.what, arguments.sha256
    with tqdm(unit="B", unit_scale=True, disable=not sys.stderr.isatty(), file=sys.stderr) as bar:

        def told(there: int, total: int | None) -> None:
            bar.total = total
            bar.update(there - bar.n)

        return fetch(
            address,
            arguments.to,
            sha256=sha256,
            offline=arguments.offline,
            timeout=arguments.timeout,
            progress=told,
        )
