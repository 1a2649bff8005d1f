"""`codeprior export IN OUT.onnx|OUT.pt2`: a model as a file that runs without this library, compared with the model."""

import argparse
from pathlib import Path
from typing import Any

from codeprior.commands._printing import say
from codeprior.families import family_names

HELP = "Write a model as ONNX or .pt2, which run without this library, and compare the file with the model."
_REFUSED = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("input", metavar="IN", help="weights file of any family, or small: the embedded prior")
    parser.add_argument("output", type=Path, metavar="OUT", help="the file to write: NAME.onnx or NAME.pt2")
    parser.add_argument("--format", choices=("onnx", "pt2"), help="format (default: as the output's name says)")
    parser.add_argument("--recipe", choices=family_names(), help="model family (default: the one of the weights)")
    parser.add_argument("--size", type=int, help="side of the faces, pixels (default: the model's own)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the model, fixed in the file; fidelity stays an input",
    )
    parser.add_argument("--opset", type=int, default=20, help="version of ONNX's operators (default: 20)")
    parser.add_argument("--licence", help="licence of the weights, where the file does not say one")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def run(arguments: argparse.Namespace) -> int:
    """Exports one model.

    Args:
        arguments: As parsed.

    Returns:
        0 written, 2 refused; the reason is on stderr.
    """
    from codeprior.commands._outputs import named_options

    try:
        _check_name(arguments.output, arguments.format)
        options = named_options(arguments.option)
        lines = _exported(arguments, options)
    except (OSError, ImportError, RuntimeError, TypeError, ValueError) as error:
        say(f"codeprior export: {str(error).removeprefix('export: ')}", error=True)
        return _REFUSED
    for line in lines:
        say(line)
    return 0


def _check_name(path: Path, kind: str | None) -> None:
    if kind is not None and path.suffix != f".{kind}":
        raise ValueError(f"the output of --format {kind} must end in .{kind}, got {path}")


def _exported(arguments: argparse.Namespace, options: dict[str, str]) -> list[str]:
    from codeprior.export import export_model
    from codeprior.restorers import load_model
    from codeprior.weights import origin_of

    model: Any = load_model(arguments.input, family=arguments.recipe)
    licence = arguments.licence or origin_of(model).get("licence", "")
    origin = origin_of(model) | ({"licence": licence} if licence else {})
    made = export_model(
        model, arguments.output, size=arguments.size, options=options, metadata=origin, opset=arguments.opset,
        overwrite=arguments.overwrite,
    )  # fmt: skip
    said = made.metadata
    of_family = f" of the family {said['codeprior.family']}" if said["codeprior.family"] else ""
    fidelity = "image and fidelity" if "codeprior.fidelity" in said else "image"
    beside = f", with its tensors in {made.data.name}" if made.data else ""
    size = sum(path.stat().st_size for path in (made.path, made.data) if path) / 2**20
    return [
        f"read {arguments.input}: {said['codeprior.class']}{of_family}, {said['codeprior.size']} px",
        f"licence of the weights: {licence or 'not known; ask whoever published them (--licence writes it)'}",
        f"wrote {made.path}: {said['codeprior.format']}, {size:.1f} MiB{beside}; takes {fidelity}, any batch",
        f"beside the model: {made.parity}",
    ]
