"""`codeprior convert IN OUT.safetensors`: a published checkpoint, read without running it, in the safe format."""

import argparse
import contextlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from codeprior.commands._printing import say
from codeprior.families import family_names

HELP = "Read a .pth or .ckpt checkpoint without running it, and write safetensors; says what it kept and dropped."
_REFUSED = 2
_HEADROOM = 2 * 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("input", type=Path, metavar="IN", help="checkpoint: .pth, .ckpt, .pt or .safetensors")
    parser.add_argument("output", type=Path, metavar="OUT", help="the .safetensors file to write; never replaced")
    parser.add_argument(
        "--recipe", choices=(*family_names(), "none"), help="whose modules to build (default: what its names say)"
    )
    parser.add_argument(
        "--variant",
        help="which model it is, where files of several are alike (restoreformer: restorer, dictionary; "
        "codeformer and gpen: restoration, inpainting, colourisation; gpen also: segmentation)",
    )
    parser.add_argument("--section", help="key of the state dict (default: params_ema, state_dict, …, the top level)")
    parser.add_argument("--sha256", help="refuse the input unless its SHA-256 is this")
    parser.add_argument("--half", action="store_true", help="store floating-point weights in half precision")


def run(arguments: argparse.Namespace) -> int:
    """Converts one checkpoint.

    Args:
        arguments: As parsed.

    Returns:
        0 written, 2 refused; the reason is on stderr.
    """
    try:
        if arguments.output.suffix != ".safetensors":
            raise ValueError(f"the output must end in .safetensors, got {arguments.output}")
        import_module("codeprior.weights")  # torch maps far more than it uses, so it comes before the bound
        with _bounded(arguments.input):
            lines = _convert(arguments)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        say(f"codeprior convert: {str(error) or 'not enough memory'}", error=True)
        return _REFUSED
    for line in lines:
        say(line)
    return 0


def _convert(arguments: argparse.Namespace) -> list[str]:
    from codeprior.checkpoints import read_checkpoint
    from codeprior.weights import published_as

    found = read_checkpoint(arguments.input, section=arguments.section, sha256=arguments.sha256)
    source = {"source": arguments.input.name, "source_sha256": found.sha256}
    published = published_as(found.sha256)
    source |= {} if published is None else {"licence": published.licence, "published": published.name}
    source |= {"source_section": found.section} if found.section else {}
    modules, dropped, stage = _modules(found.tensors, arguments.recipe, arguments.variant)
    targets = _targets(arguments.output, list(modules))
    for target in targets.values():
        if target.exists():
            raise FileExistsError(f"{target} exists already and is kept; remove it or choose another name")
    lines = [
        f"read {len(found.tensors)} tensors of {arguments.input}" + (f" ({found.section})" if found.section else "")
    ]
    if modules:
        lines[0] += f": {stage}"
        for part, module in modules.items():
            _save_module(targets[part], module, source | {"part": part}, arguments.half)
            lines.append(f"kept {len(module.state_dict())} tensors as {type(module).__name__}: {targets[part]}")
    else:
        _save_tensors(arguments.output, found.tensors, source, arguments.half)
        lines.append(f"kept {len(found.tensors)} tensors under their own names: {arguments.output}")
    if published is not None:
        lines.append(f"these are the published weights {published.name}; their licence: {published.licence}")
    reasons: dict[str, int] = {}
    for reason in dropped.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    lines += [f"dropped {count} tensors: {reason}" for reason, count in reasons.items()]
    return lines + [f"dropped {line}" for line in found.dropped]


def _modules(
    tensors: dict[str, Any], wanted: str | None, variant: str | None
) -> tuple[dict[str, Any], dict[str, str], str]:
    """Gives the modules that a family makes of the tensors; none where the names are nobody's."""
    from codeprior.weights import convert_state

    found = None if wanted == "none" else convert_state(tensors, family=wanted, variant=variant)
    if found is None:
        return {}, {}, ""
    family, converted = found
    return converted.modules, converted.dropped, f"{family.name}, stage {converted.stage}".removesuffix(", stage ")


def _targets(output: Path, parts: list[str]) -> dict[str, Path]:
    main = next((part for part in ("restorer", "vqgan") if part in parts), None)
    return {part: output if part == main else output.with_name(f"{output.stem}.{part}.safetensors") for part in parts}


def _save_module(target: Path, module: Any, metadata: dict[str, str], half: bool) -> None:
    import torch

    from codeprior.weights import save

    save(target, module, metadata=metadata, dtype=torch.float16 if half else None, overwrite=False)


def _save_tensors(target: Path, tensors: dict[str, Any], metadata: dict[str, str], half: bool) -> None:
    from safetensors.torch import save

    from codeprior import files

    if target.exists():
        raise FileExistsError(f"{target} exists already and is kept; remove it or choose another name")
    kept = {name: value.half() if half and value.is_floating_point() else value for name, value in tensors.items()}
    files.write(target, save({name: value.contiguous() for name, value in kept.items()}, metadata))


@contextlib.contextmanager
def _bounded(path: Path) -> Iterator[None]:
    """Bounds the memory of the process by the size of the file, where the system can."""
    try:
        import resource
    except ImportError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = Path("/proc/self/statm")
    if not pages.exists() or not path.is_file():
        yield
        return
    now = int(pages.read_text().split()[0]) * resource.getpagesize()
    limit = now + _HEADROOM + 8 * path.stat().st_size
    hard = before[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
