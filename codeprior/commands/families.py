"""`codeprior families`: the model families that are installed, what they let one choose, and their weights."""

import argparse
import json
from typing import Any

from codeprior.commands._printing import say, say_lines

HELP = "List the installed model families: options, embedded and published weights with address, checksum and licence."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Prints what is there.

    Args:
        arguments: As parsed.

    Returns:
        0.
    """
    from codeprior.families import installed_families
    from codeprior.photos.faces import PUBLISHED

    families = installed_families()
    if arguments.json:
        described = {family.name: _described(family) for family in families}
        detectors = [one._asdict() for one in PUBLISHED]
        say_lines(json.dumps({"families": described, "detectors": detectors}, indent=2))
        return 0
    for family in families:
        say(f"{family.name}: {family.text}" if family.text else family.name)
        for name, option in family.options.items():
            say(f"  option {name}: {option.described()}, {option.default} by default; {option.text}")
        if family.tasks:
            say(f"  task {', '.join(family.tasks)}: with weights that were trained for it, codeprior restore --task")
        for name in family.embedded:
            say(f"  weights {name}: in the package; {family.licence}")
        _say_published(family.published)
        say()
    say("face detectors")
    _say_published(PUBLISHED)
    return 0


def _say_published(published: Any) -> None:
    for one in published:
        say(f"  download {one.name}: {one.described()}")
        say(f"    {one.url}")
        say(f"    SHA-256 {one.sha256 or 'not given by its publisher; a download cannot be verified'}")


def _described(family: Any) -> dict[str, Any]:
    return {
        "text": family.text,
        "options": {
            name: {
                "type": option.type.__name__,
                "default": option.default,
                "low": option.low,
                "high": option.high,
                "text": option.text,
            }
            for name, option in family.options.items()
        },
        "stages": list(family.stages),
        "tasks": list(family.tasks),
        "embedded": dict.fromkeys(family.embedded, family.licence),
        "published": [one._asdict() for one in family.published],
    }
