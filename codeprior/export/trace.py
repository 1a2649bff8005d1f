"""A model as one graph of PyTorch's own operators: its restoration, traced with any batch and a fixed size.

While a model is traced, the kernels' rooms take their references, and write the lookup in PyTorch's own operators; so
nothing in the graph asks for this library. First step of an export.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from codeprior.shapes import Image


class Program(nn.Module):
    """What is exported of a model: its restoration, and the codes that it chose on the way.

    Args:
        model: Has `restore(signed, **options)`; or is an auto-encoder whose answer has an `image`.
        fidelity: Whether the fidelity is asked for each time.
        options: Further options of the model, fixed for good.
    """

    def __init__(self, model: nn.Module, *, fidelity: bool = False, options: Mapping[str, Any] | None = None):
        super().__init__()
        self.model, self.takes_fidelity, self.options = model, fidelity, dict(options or {})

    def forward(self, image: Image, fidelity: Tensor | None = None) -> tuple[Tensor, ...]:
        """Gives the restored faces and the indices of their codes.

        Args:
            image: `b 3 size size`, signed.
            fidelity: `(b,)`, [0, 1], where it is asked for.

        Returns:
            The faces, signed, not clamped; and `indices`, int64, `b h w` or of several tables `b m h w`, where the
            model chooses codes: those that were shown, or where their mean is shown, the likeliest.
        """
        model: Any = self.model
        given = self.options | ({"fidelity": fidelity} if self.takes_fidelity else {})
        with _codes_of(model) as chosen:
            restored = model.restore(image, **given) if callable(getattr(model, "restore", None)) else model(image)
        indices = next((chosen[kind] for kind in ("shown", "nearest", "likeliest") if kind in chosen), None)
        restored = restored if isinstance(restored, Tensor) else cast(Any, restored).image
        return (restored,) if indices is None else (restored, indices)


def trace(program: Program, *, size: int) -> torch.export.ExportedProgram:
    """Gives a program as a graph of PyTorch's own operators, for batches of any length.

    Args:
        program: What to trace; in evaluation mode, on the CPU.
        size: Side of the faces, pixels.

    Raises:
        ValueError: The model cannot take the size, or an operator remains that PyTorch alone does not have.
    """
    # a batch of two: PyTorch takes a length of one for a constant
    image, fidelity = torch.zeros(2, 3, size, size), torch.full((2,), 0.5)
    batch = torch.export.Dim("batch", min=1)
    given = (image, fidelity) if program.takes_fidelity else (image,)
    shapes = tuple({0: batch} for _ in given)
    try:
        with torch.no_grad():
            traced = torch.export.export(program, given, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # the tracer has an exception for each way in which a model cannot be a graph
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"trace: {type(program.model).__name__} at {size} px is no graph: {reason}") from error
    left = _foreign(traced)
    if left:
        raise ValueError(
            f"trace: {type(program.model).__name__} uses {', '.join(sorted(left))}, which runtimes do not have; "
            "give its modules a way in PyTorch's own operators."
        )
    return traced


def group_norm_in_steps(
    feature: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Gives a GroupNorm as means of rows, and means of these, for runtimes that add up a whole group at once.

    ONNX has no operator for it that goes back to opset 17; written as an instance normalisation, onnxruntime sums a
    million numbers one after the other in float32, which is 2e-5 away from the truth where PyTorch is 6e-7 away.

    Args:
        feature: `b c h w`, or with another number of places.
        groups: How many groups the channels are divided into.
        weight: `(c,)`; None for ones.
        bias: `(c,)`; None for zeros.
        eps: Added to the variance.
        cudnn_enabled: Not used; PyTorch's operator has it.
    """
    batch, channels, last = feature.shape[0], feature.shape[1], feature.shape[-1]
    rows = feature.reshape(batch, groups, -1, last)
    centred = rows - rows.mean(3, keepdim=True).mean(2, keepdim=True)
    variance = (centred * centred).mean(3, keepdim=True).mean(2, keepdim=True)
    answer = (centred * (variance + eps).rsqrt()).reshape(feature.shape)
    each = (1, channels, *([1] * (feature.ndim - 2)))
    answer = answer if weight is None else answer * weight.reshape(each)
    return answer if bias is None else answer + bias.reshape(each)


@contextlib.contextmanager
def _codes_of(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Listens which codes a model chooses, and lets go of it afterwards."""
    chosen: dict[str, Tensor] = {}
    handles = []
    tables = _codebooks(model)

    def predicted(_module: nn.Module, _given: Any, answer: Any) -> None:
        logits = getattr(answer, "logits", None)
        if logits is not None:
            chosen["likeliest"] = logits.argmax(-1)

    def found(_module: nn.Module, _given: Any, answer: Any) -> None:
        chosen["nearest"] = answer.indices

    def watched(table: Any) -> None:
        def lookup(indices: Tensor) -> Tensor:
            chosen["shown"] = indices
            return type(table).lookup(table, indices)

        table.lookup = lookup

    handles.append(model.register_forward_hook(predicted))
    handles += [table.register_forward_hook(found) for table in tables]
    for table in tables:
        watched(table)
    try:
        yield chosen
    finally:
        for table in tables:
            del table.lookup
        for handle in handles:
            handle.remove()


def _codebooks(model: nn.Module) -> list[Any]:
    """Gives the outermost codebooks: a residual one answers for its tables, a prior is no codebook."""
    tables: list[tuple[str, Any]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer, _ in tables)
        is_codebook = callable(getattr(module, "lookup", None)) and not callable(getattr(module, "decode", None))
        if is_codebook and not inside:
            tables.append((name, module))
    return [table for _, table in tables]


def _foreign(traced: torch.export.ExportedProgram) -> set[str]:
    """Gives the names of operators in a graph that PyTorch alone does not have."""
    return {
        str(node.target).removesuffix(".default")
        for module in traced.graph_module.modules()
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace not in ("aten", "prims", "prim")
    }
