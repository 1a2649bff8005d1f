"""vector-quantize-pytorch: any of its quantizers as a codebook here, and our lookup inside its quantizers.

The package is imported when it is used; install the extra `bench` or the package itself. Tried with 1.20 to 1.32.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.codebooks.codebook import Quantized, check_indices
from codeprior.codebooks.gradients import straight_through
from codeprior.kernels.code_stats import code_stats
from codeprior.kernels.nearest_code import lookup
from codeprior.shapes import Latent

Module = TypeVar("Module", bound=nn.Module)


class QuantizedWithLoss(NamedTuple):
    """What `VQPCodebook.quantize` gives."""

    quantized: Quantized
    loss: Tensor | None
    """The quantizer's own losses, summed; None where it has none."""


class VQPCodebook(nn.Module):
    """A quantizer of vector-quantize-pytorch as a codebook of this library.

    Args:
        quantizer: A module that takes `b n d` and gives the quantized vectors, indices, and perhaps losses:
            `VectorQuantize`, `ResidualVQ`, `SimVQ`, `FSQ`, `LFQ` and others, with the channels last (their default).
        size: Count of codes; read from the quantizer where None.
        dim: Width of a vector; read from the quantizer where None.

    Raises:
        TypeError: The size or the width is not given, and the quantizer has no attribute for it.

    Note:
        `codeprior.save` does not take it: a weights file cannot hold an arbitrary class. Save the quantizer's state
        yourself.
    """

    def __init__(self, quantizer: nn.Module, *, size: int | None = None, dim: int | None = None):
        super().__init__()
        self.quantizer = quantizer
        self.size = _number_of(quantizer, "size", size, ("codebook_size",))
        self.dim = _number_of(quantizer, "dim", dim, ("dim", "_dim", "input_dim"))

    def forward(self, latent: Latent) -> Quantized:
        """Quantizes the latent, and drops the quantizer's own loss; `quantize` keeps it.

        Args:
            latent: `b d h w`, with `d = dim`.

        Returns:
            values: `b d h w`, with the gradient that the quantizer gives it.
            codes: The same without a gradient.
            indices: `b h w`, or `b m h w` where the quantizer gives several.
        """
        return self.quantize(latent).quantized

    def quantize(self, latent: Latent) -> QuantizedWithLoss:
        """Quantizes the latent and keeps the quantizer's loss."""
        rows = rearrange(latent, "b d h w -> b (h w) d")
        values, indices, *rest = self.quantizer(rows)
        values = rearrange(values, "b (h w) d -> b d h w", h=latent.shape[2])
        pattern = "b (h w) -> b h w" if indices.ndim == 2 else "b (h w) m -> b m h w"
        found = Quantized(values, values.detach(), rearrange(indices.long(), pattern, h=latent.shape[2]))
        return QuantizedWithLoss(found, rest[0].sum() if rest and torch.is_tensor(rest[0]) else None)

    def lookup(self, indices: Tensor) -> Latent:
        """Gives the codes of these indices.

        Args:
            indices: `b h w`, or `b m h w` where the quantizer gives several; integers in [0, size). Of several, −1 says
                that a stage was left out, as quantizer dropout does.

        Returns:
            `b d h w`, in the quantizer's type.

        Raises:
            TypeError: The quantizer has no way back from indices, or they are no integers.
            ValueError: They are neither `b h w` nor `b m h w`; or, on the CPU, one is out of range.
        """
        back = getattr(self.quantizer, "get_output_from_indices", None) or getattr(
            self.quantizer, "indices_to_codes", None
        )
        if back is None:
            raise TypeError(f"VQPCodebook: {type(self.quantizer).__name__} has no way from indices to codes.")
        several = isinstance(indices, Tensor) and indices.ndim == 4
        check_indices(_kept(indices) if several else indices, self.size)
        pattern = "b m h w -> b (h w) m" if several else "b h w -> b (h w)"
        return rearrange(back(rearrange(indices, pattern)), "b (h w) d -> b d h w", h=indices.shape[-2])


def _kept(indices: Tensor) -> Tensor:
    """Gives the indices of several stages as one picture `b (m h) w`, with 0 for a stage that was left out."""
    return rearrange(indices.masked_fill(indices == -1, 0), "b m h w -> b (m h) w")


def accelerate(module: Module) -> Module:
    """Lets the quantizers inside a module use our lookup and statistics, not n x k distances and one-hot products.

    It changes `VectorQuantize` and `SimVQ`, and with them `ResidualVQ`, `GroupedResidualVQ`, `ResidualSimVQ`,
    `RandomProjectionQuantizer` and `HierarchicalVQ`, which consist of them. Other quantizers compute no distances and
    stay as they are.

    State dictionary, arguments and outputs stay the same, and so do moving averages and the replacement of dead codes.
    An index can differ only where two codes are nearly equally far and the original's float32 rounding chose wrongly.

    Args:
        module: A `VectorQuantize`, `SimVQ` or `ResidualVQ`, or any module that holds some.

    Returns:
        The same module, changed in place.

    Raises:
        ValueError: There is no quantizer inside that can be accelerated, or one has an option that needs all distances:
            cross-entropy commitment, a diversity loss, stochastic sampling, affine parameters, or a bridge.

    Note:
        `forward(x, indices=…)`, which asks for a cross-entropy over all distances, no longer works. Calls with a mask,
        top-k or a code transformation run the original's code.
    """
    from vector_quantize_pytorch import VectorQuantize
    from vector_quantize_pytorch.vector_quantize_pytorch import Codebook as Original

    quantizers = [part for part in module.modules() if isinstance(part, VectorQuantize)]
    mapped = _mapped_quantizers(module)
    if not quantizers and not mapped:
        raise ValueError(f"accelerate: found no VectorQuantize and no SimVQ in {type(module).__name__}.")
    accelerated = _accelerated(Original, _make)
    for quantizer in quantizers:
        reason = _why_not(quantizer, Original, accelerated)
        if reason is not None:
            raise ValueError(f"accelerate: {reason}.")
    for quantizer in quantizers:
        quantizer._codebook.__class__ = accelerated
    for quantizer in mapped:
        if type(quantizer) not in _made.values():
            quantizer.__class__ = _accelerated(type(quantizer), _make_mapped)
    return module


def _mapped_quantizers(module: nn.Module) -> list[Any]:
    try:
        from vector_quantize_pytorch import SimVQ
    except ImportError:
        # a version that does not have it yet
        return []
    return [part for part in module.modules() if isinstance(part, SimVQ)]


def _make_mapped(original: type) -> type:
    from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

    class AcceleratedSimVQ(original):
        """The original's state and arguments, without the distances of all vectors to all codes."""

        def forward(self, x: Tensor):
            rows = x.movedim(1, -1) if self.channel_first else x
            flat = rows.flatten(1, -2)
            with torch.autocast(x.device.type, enabled=False):
                found = lookup(flat.detach().float(), self.codebook.float())
            codes = found.codes.to(flat.dtype)
            loss = F.mse_loss(flat.detach(), codes)
            loss = loss + F.mse_loss(flat, codes.detach()) * self.input_to_quantize_commit_loss_weight
            values = rotate_to(flat, codes) if self.rotation_trick else straight_through(flat, codes)
            values, indices = values.view(rows.shape), found.indices.view(rows.shape[:-1])
            values = values.movedim(-1, 1) if self.channel_first else values
            return values, indices, loss * self.commitment_weight

    AcceleratedSimVQ.__name__ = original.__name__
    return AcceleratedSimVQ


def _why_not(quantizer: nn.Module, original: type, accelerated: type) -> str | None:
    codebook: Any = quantizer._codebook
    if type(codebook) not in (original, accelerated):
        return f"a quantizer holds a {type(codebook).__name__}, which is not known here"
    options = {
        "commitment_use_cross_entropy_loss": getattr(quantizer, "commitment_use_cross_entropy_loss", False),
        "codebook_diversity_loss_weight": getattr(quantizer, "has_codebook_diversity_loss", False),
        "stochastic_sample_codes": getattr(codebook.gumbel_sample, "keywords", {}).get("stochastic", False),
        "straight_through": getattr(codebook.gumbel_sample, "keywords", {}).get("straight_through", False),
        "affine_param": getattr(codebook, "affine_param", False),
        "vq_bridge": getattr(codebook, "vq_bridge", None) is not None,
    }
    used = [name for name, value in options.items() if value]
    return f"a quantizer uses {', '.join(used)}, which needs every distance" if used else None


_made: dict[type, type] = {}


def _accelerated(original: type, make: Callable[[type], type]) -> type:
    if original not in _made:
        _made[original] = make(original)
    return _made[original]


def _make(original: type) -> type:
    from vector_quantize_pytorch.vector_quantize_pytorch import ema_inplace

    class AcceleratedCodebook(original):
        """The original's state and arguments, with `lookup` and `code_stats` for the work."""

        def forward(self, x: Tensor, **options):
            if any(options.get(name) is not None for name in ("mask", "topk", "codebook_transform_fn")):
                return super().forward(x, **options)
            with torch.autocast(x.device.type, enabled=False):
                return self._forward(x.float(), **options)

        def _forward(self, x: Tensor, **options):
            single = x.ndim < 4
            x = x[None] if single else x
            shape = x.shape[:-1]
            flat = rearrange(x, "heads ... d -> heads (...) d")
            self.init_embed_(flat)
            table = self.embed if self.learnable_codebook else self.embed.detach()
            found = [lookup(rows.detach(), codes.float()) for rows, codes in zip(flat, table, strict=True)]
            indices = torch.stack([part.indices for part in found])
            quantize = torch.stack([part.codes for part in found])
            if self.training and options.get("update_usage", True) and not options.get("freeze_codebook"):
                kept = {name: options.get(name) for name in ("ema_update_weight", "ema_update")}
                accumulate = options.get("accum_ema_update", False)
                self.update_codebook(flat, indices, accum_ema_update=accumulate, **kept)
            quantize, indices = quantize.view(*shape, -1), indices.view(shape)
            return (quantize[0], indices[0], None) if single else (quantize, indices, None)

        def track_cluster_size_and_embed_avg(
            self, flatten: Tensor, embed_onehot: Tensor, mask=None, ema_update_weight=None, accum_ema_update=False
        ):  # fmt: skip
            if embed_onehot.is_floating_point():
                args = (flatten, embed_onehot, mask, ema_update_weight, accum_ema_update)
                return super().track_cluster_size_and_embed_avg(*args)
            heads = zip(flatten, embed_onehot, strict=True)
            counts, sums = zip(*(code_stats(rows, at, size=self.codebook_size) for rows, at in heads), strict=True)
            size, total = torch.stack(counts).to(flatten.dtype), torch.stack(sums)
            self.all_reduce_fn(size)
            self.all_reduce_fn(total)
            weight = ema_update_weight(total, size) if callable(ema_update_weight) else ema_update_weight
            for buffer, value in ((self.cluster_size, size), (self.embed_avg, total)):
                if accum_ema_update:
                    buffer.grad = value if buffer.grad is None else buffer.grad.add_(value)
                else:
                    ema_inplace(buffer, value, self.decay, weight)
            return None

    AcceleratedCodebook.__name__ = original.__name__
    return AcceleratedCodebook


def _number_of(quantizer: nn.Module, what: str, given: int | None, names: tuple[str, ...]) -> int:
    for name in names:
        value = getattr(quantizer, name, None) if given is None else given
        if isinstance(value, int):
            return value
    raise TypeError(f"VQPCodebook: {type(quantizer).__name__} does not tell its {what}; give {what}=.")
