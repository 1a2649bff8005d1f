"""Writing a model as ONNX or `.pt2`, with its sizes and its licence, compared with itself before it gets its name."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from codeprior import files
from codeprior.export.parity import Parity, compare
from codeprior.export.trace import Program, group_norm_in_steps, trace
from codeprior.extras import needed
from codeprior.families import Option, family_of
from codeprior.restorers.exported import OnnxModel
from codeprior.restorers.models import option_types, side, takes_fidelity

FORMATS = {".onnx": "onnx", ".pt2": "pt2"}
"""What a file's name ends in, and the format."""
OPSET = 20
"""Version of ONNX's operators that is written unless another is asked for: the first that samples freely."""
_MOST_BYTES = 2_000_000_000  # a protocol buffer ends at 2 GiB
_DETAILS = "codeprior.json"  # beside the program in a .pt2 archive


class Exported(NamedTuple):
    """What was written.

    Attributes:
        path: The file.
        format: `onnx` or `pt2`.
        metadata: Text that the file carries.
        parity: Beside the model.
        data: The file beside it that holds the tensors; None where one file holds all.
    """

    path: Path
    format: str
    metadata: dict[str, str]
    parity: Parity
    data: Path | None = None


def export_model(
    model: nn.Module,
    path: str | Path,
    *,
    size: int | None = None,
    options: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    opset: int = OPSET,
    most_bytes: int = _MOST_BYTES,
    overwrite: bool = False,
) -> Exported:
    """Writes a model as a file that runs without this library, and compares the file with the model.

    The file takes `image`, signed faces `b 3 size size`, and where the model has it `fidelity`, `(b,)` in [0, 1]. It
    gives `restored`, signed and not clamped, and `indices`, the codes that were chosen, where there are any.

    Args:
        model: One that restores; or an auto-encoder with `size` given.
        path: The file: its name ends in `.onnx` or `.pt2`.
        size: Side of the faces, pixels; the model's own by default.
        options: Options of the model other than fidelity, fixed for good.
        metadata: Further text for the file, such as its licence.
        opset: Version of ONNX's operators.
        most_bytes: An ONNX file with more bytes of tensors keeps them in a second file, `NAME.onnx.data`.
        overwrite: Replace files that exist.

    Returns:
        What was written; `parity` says how far it is from the model.

    Raises:
        FileExistsError: The file exists and `overwrite` is off.
        ImportError: A package that ONNX needs is not installed.
        TypeError: The model does not restore, or does not say its size.
        ValueError: The name ends in something else, the model cannot be traced, or the file gives other pictures or
            other codes than the model; then nothing is left.
    """
    path = Path(path)
    kind = _kind_of(path)
    targets = [path, *([path.with_name(f"{path.name}.data")] if kind == "onnx" else [])]
    for target in targets:
        if os.path.lexists(target) and not overwrite:
            raise _kept(target)
    program, sides = _program(model, options or {}, size)
    details = _details(program, sides, metadata or {}, f"onnx {opset}" if kind == "onnx" else "pt2")
    traced = trace(program, size=sides[0])
    # unfinished and refused files live in a folder of their own, which goes away with them
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=files.temporary_name()) as folder:
        made = Path(folder) / path.name
        if kind == "onnx":
            _write_onnx(traced, made, details, opset=opset, most_bytes=most_bytes)
            run = _onnx_runner(made)
        else:
            torch.export.save(traced, made, extra_files={_DETAILS: json.dumps(details, indent=1)})
            run = _pt2_runner(made)
        parity = compare(program, run, size=sides[0])
        if not parity.holds:
            raise ValueError(f"export: the file would not give what the model gives: {parity}; nothing is written.")
        data = made.with_name(f"{made.name}.data")
        moved = [made] if not data.exists() else [data, made]  # the file that names the other comes last
        _name(moved, path.parent, overwrite=overwrite)
    return Exported(path, kind, details, parity, targets[1] if len(moved) > 1 else None)


def _name(finished: list[Path], folder: Path, *, overwrite: bool) -> None:
    """Gives finished files their names; where one of them is taken by now, none of them stays."""
    named: list[Path] = []
    try:
        for source in finished:
            files.rename(source, folder / source.name, overwrite=overwrite)
            named.append(folder / source.name)
    except FileExistsError as error:
        for path in named:
            path.unlink()
        raise _kept(error.filename) from None


def _kept(path: str | Path) -> FileExistsError:
    return FileExistsError(f"export: {path} exists already and is kept; ask for overwriting to replace it.")


def _kind_of(path: Path) -> str:
    if path.suffix not in FORMATS:
        raise ValueError(f"export: expected a name that ends in {' or '.join(FORMATS)}, got {path}.")
    return FORMATS[path.suffix]


def _program(model: Any, options: Mapping[str, Any], size: int | None) -> tuple[Program, tuple[int, int, int]]:
    """Gives what is traced, and the side of its faces, how much larger its answers are, and its stride."""
    restores = callable(getattr(model, "restore", None))
    if not restores and not (hasattr(model, "encode") and size):
        raise TypeError(
            f"export: a {type(model).__name__} does not restore faces; give a model with restore(signed), or an "
            "auto-encoder and the size of its images."
        )
    known = option_types(model) if restores else {}
    for name in options:
        if name == "fidelity" or name not in known:
            there = ", ".join(name for name in known if name != "fidelity") or "none"
            raise ValueError(
                f"export: {type(model).__name__} has no option {name!r} that can be fixed; it has {there}."
            )
    fixed = {name: known[name].check(name, value) for name, value in options.items()}
    side_of_faces = size if size is not None else side(model)
    stride = int(getattr(model, "stride", 1))
    if side_of_faces <= 0 or side_of_faces % stride:
        raise ValueError(f"export: expected a size that is a multiple of the stride {stride}, got {side_of_faces}.")
    program = Program(model.cpu().float().eval(), fidelity=restores and takes_fidelity(model), options=fixed).eval()
    return program, (side_of_faces, int(getattr(model, "scale", 1)), stride)


def _details(program: Program, sides: tuple[int, int, int], metadata: Mapping[str, str], kind: str) -> dict[str, str]:
    from codeprior import __version__

    size, scale, stride = sides
    details = {
        **metadata,
        "codeprior.version": __version__,
        "codeprior.format": kind,
        "codeprior.family": family_of(program.model) or "",
        "codeprior.class": type(program.model).__name__,
        "codeprior.size": str(size),
        "codeprior.scale": str(scale),
        "codeprior.stride": str(stride),
        "codeprior.image": f"b 3 {size} {size}, float32, RGB, signed [-1, 1]",
        "codeprior.restored": f"b 3 {size * scale} {size * scale}, float32, RGB, signed [-1, 1], not clamped",
        "codeprior.options": json.dumps(program.options, sort_keys=True),
    }
    if program.takes_fidelity:
        option = option_types(program.model).get("fidelity", Option(float, 1.0, 0.0, 1.0))
        details["codeprior.fidelity"] = json.dumps(
            {"default": option.default, "low": option.low, "high": option.high, "text": option.text}
        )
    return details


def _write_onnx(
    traced: torch.export.ExportedProgram, path: Path, details: Mapping[str, str], *, opset: int, most_bytes: int
) -> None:
    for package in ("onnxscript", "onnx"):
        needed(package, who="export to ONNX")
    import onnx_ir

    names = ["restored", "indices"][: len(traced.graph_signature.user_outputs)]
    exact: dict[Any, Callable[..., Any]] = {torch.ops.aten.group_norm.default: group_norm_in_steps}
    written = torch.onnx.export(
        traced.run_decompositions(exact),
        (),
        dynamo=True,
        opset_version=opset,
        output_names=names,
        verbose=False,
        external_data=False,
    )
    assert written is not None
    model = written.model
    model.producer_name = "codeprior"
    model.metadata_props.update(details)
    tensors = [value.const_value for value in model.graph.initializers.values()]
    total = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    onnx_ir.save(model, path, external_data=f"{path.name}.data" if total > most_bytes else None)


def _onnx_runner(path: Path) -> Callable[[Tensor, Tensor | None], tuple[Tensor, ...]]:
    return OnnxModel(path).run


def _pt2_runner(path: Path) -> Callable[[Tensor, Tensor | None], tuple[Tensor, ...]]:
    loaded: Any = torch.export.load(path).module()

    def run(image: Tensor, fidelity: Tensor | None) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return tuple(loaded(image) if fidelity is None else loaded(image, fidelity))

    return run
