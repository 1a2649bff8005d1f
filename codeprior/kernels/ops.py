"""The ops of this room and their implementations: the one table that names them. It imports none of them."""

from typing import NamedTuple


class ImplUnavailable(RuntimeError):
    """An implementation was asked for by name and cannot run here; the text says why."""


class Op(NamedTuple):
    """The implementations of an op."""

    plain: tuple[str, ...]
    """Implementations in PyTorch, which run on any device, best first."""
    triton: bool = True
    """Whether there is a Triton kernel, named `triton`."""
    source: str | None = None
    """The C++ file of the implementation `compiled`, which reads CPU tensors; a path within this folder."""
    flags: tuple[str, ...] = ()
    """Flags for the C++ compiler, besides those that optimise for the processor."""

    @property
    def implementations(self) -> tuple[str, ...]:
        """The names of all implementations."""
        return (*(("triton",) if self.triton else ()), *(("compiled",) if self.source else ()), *self.plain)


OPS = {
    "nearest_code": Op(
        ("blocked", "reference"),
        source="nearest_code/lookup.cpp",
        flags=("-ffinite-math-only", "-fno-signed-zeros", "-pthread"),
    ),
    "residual_code": Op(("reference",)),
    "code_stats": Op(("reference",), source="code_stats/stats.cpp", flags=("-pthread",)),
    "contrastive": Op(("blocked", "reference")),
    "convolution": Op(("reference",), triton=False, source="convolution/winograd.cpp"),
    "prelu_convolution": Op(("reference",), triton=False, source="prelu_convolution/direct.cpp"),
    "deformable_convolution": Op(
        ("torchvision", "reference"), triton=False, source="deformable_convolution/deformable.cpp"
    ),
    "crop_resize": Op(("reference",), triton=False, source="crop_resize/crops.cpp"),
    "group_norm_silu": Op(("reference",)),
    "blur_resize": Op(("reference",)),
    "jpeg": Op(("reference",)),
    "normal_field": Op(("reference",)),
}
