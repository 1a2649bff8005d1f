"""A codebook on the unit sphere: vectors are compared by their angle."""

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.codebooks.codebook import Quantized, check_sizes, codes_at, exchange
from codeprior.codebooks.gradients import Passage
from codeprior.codebooks.start import Vectors, exchanged, kmeans
from codeprior.layers.configured import configured
from codeprior.shapes import Indices, Latent


@configured
class CosineCodebook(nn.Module):
    """A codebook that scales vectors and codes to unit length before it compares them.

    On the unit sphere |x − c|² = 2 − 2 x·c, so that the nearest code is the one of the largest cosine.

    Args:
        size: Count of codes.
        dim: Width of a code.
        gradient: `"straight_through"` or `"rotation"`.

    Attributes:
        weight: `(size, dim)`, normal at first; of any length.

    Source: Yu et al. 2021 (ViT-VQGAN), section 3.2. Give `codebook_loss` the latent at unit length, `unit(latent)`.
    """

    def __init__(self, size: int, dim: int, *, gradient: Passage = "straight_through"):
        super().__init__()
        check_sizes("CosineCodebook", size, dim)
        self.size, self.dim = size, dim
        self.gradient: Passage = gradient
        self.weight = nn.Parameter(torch.randn(size, dim))

    def unit(self, latent: Latent) -> Latent:
        """Gives the latent with each vector at unit length."""
        return F.normalize(latent, dim=1)

    def forward(self, latent: Latent) -> Quantized:
        """Exchanges each vector for the code of the smallest angle.

        Args:
            latent: `b d h w`, with `d = dim`, of any length.

        Returns:
            values: The codes, of unit length, with a gradient to the latent.
            codes: The same with a gradient to the table.
            indices: `b h w`, int64.
        """
        return exchange(self.unit(latent), F.normalize(self.weight, dim=1), how=self.gradient)

    def lookup(self, indices: Indices) -> Latent:
        """Gives the codes of these indices.

        Args:
            indices: `b h w`, integers in [0, size).

        Returns:
            `b d h w`, of unit length.

        Raises:
            TypeError: They are no integers.
            ValueError: They are not `b h w`; or, on the CPU, one is out of range.
        """
        return codes_at(indices, F.normalize(self.weight, dim=1))

    @torch.no_grad()
    def start(self, vectors: Vectors, *, seed: int = 0) -> None:
        """Sets the codes' directions to the centres that k-means finds among these vectors at unit length.

        Args:
            vectors: `(n, d)`, as the encoder gives them, of any length; several for each code.
            seed: Of the draws.

        Raises:
            ValueError: There is no vector, or a value is not finite.
        """
        self._turn(kmeans(F.normalize(vectors.float(), dim=1), self.size, seed=seed))

    @torch.no_grad()
    def revive(self, vectors: Vectors, dead: Bool[Tensor, " k"], *, seed: int = 0) -> None:
        """Turns dead codes to the directions of vectors of a batch; from there the gradient moves them like others.

        A code keeps its length, so that a step of the optimiser turns it as far as before.

        Args:
            vectors: `(n, d)`, as the encoder gives them; the same on every rank.
            dead: Which codes, see `unused`.
            seed: Of the draws.
        """
        # a vector without a direction revives nothing
        unit = vectors / vectors.norm(dim=1, keepdim=True)
        self._turn(exchanged(self.weight, unit, dead, seed=seed), only=dead)

    def _turn(self, directions: Tensor, *, only: Tensor | None = None) -> None:
        turned = F.normalize(directions, dim=1) * self.weight.norm(dim=1, keepdim=True)
        self.weight.copy_(turned if only is None else torch.where(only[:, None], turned, self.weight))

    def extra_repr(self) -> str:
        return f"size={self.size}, dim={self.dim}"
