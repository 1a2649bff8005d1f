"""A codebook whose table is a linear map of fixed random codes: a step of the map moves every code, chosen or not."""

import torch
from torch import Tensor, nn

from codeprior.codebooks.codebook import Quantized, check_sizes, codes_at, exchange
from codeprior.codebooks.gradients import Passage
from codeprior.layers.configured import configured
from codeprior.shapes import Indices, Latent


@configured
class SimVQCodebook(nn.Module):
    """A codebook of fixed random codes and a linear map; only the map learns.

    In a plain table only the chosen rows get a gradient, and the others stay where they are; here all move together.

    Args:
        size: Count of codes.
        dim: Width of a code.
        gradient: How it passes to the latent, `"straight_through"` or `"rotation"`.

    Attributes:
        fixed: `(size, dim)` buffer, normal with deviation 1 / √dim.
        mapping: The linear map, without a bias; its weight is `(dim, dim)`.
        weight: The table, `(size, dim)`: the fixed codes after the map.

    Source: Zhu et al. 2024 (SimVQ), section 4. Its losses are `codebook_loss`.
    """

    fixed: Tensor

    def __init__(self, size: int, dim: int, *, gradient: Passage = "straight_through"):
        super().__init__()
        check_sizes("SimVQCodebook", size, dim)
        self.size, self.dim = size, dim
        self.gradient: Passage = gradient
        self.register_buffer("fixed", torch.randn(size, dim) / dim**0.5)
        self.mapping = nn.Linear(dim, dim, bias=False)

    @property
    def weight(self) -> Tensor:
        """The table; its gradient goes to the map."""
        return self.mapping(self.fixed)

    def forward(self, latent: Latent) -> Quantized:
        """Exchanges each vector for its nearest code.

        Args:
            latent: `b d h w`, with `d = dim`.

        Returns:
            values: The codes with a gradient to the latent, in its type.
            codes: The codes with a gradient to the map, in the latent's type.
            indices: `b h w`, int64.

        Raises:
            ValueError: The latent's width is not `dim`.
        """
        return exchange(latent, self.weight, how=self.gradient)

    def lookup(self, indices: Indices) -> Latent:
        """Gives the codes of these indices.

        Args:
            indices: `b h w`, integers in [0, size).

        Returns:
            `b d h w`, in the map's type.

        Raises:
            TypeError: They are no integers.
            ValueError: They are not `b h w`; or, on the CPU, one is out of range.
        """
        return codes_at(indices, self.weight)

    def extra_repr(self) -> str:
        return f"size={self.size}, dim={self.dim}"
