"""Sizes and images of the DAEFR fixtures, and networks filled by the rule."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from codeprior.prior import VQGAN
from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.model import vqgan
from tests.parity import fill, names

Arrays = dict[str, Any]

NETWORKS = {
    "tiny": settings.Network(
        size=64, dim=32, codes=64, channels=32, multipliers=(1, 2, 4), width=64, layers=3, hidden=128
    ),
    "full": settings.Network(),
}
_BATCH = {"tiny": 2, "full": 1}


class Setting(NamedTuple):
    """Which sizes and which images."""

    size: str
    """`tiny` or `full`."""
    images: str
    """Last word of the images' names: `open`, `held`."""

    @property
    def network(self) -> settings.Network:
        return NETWORKS[self.size]

    @property
    def batch(self) -> int:
        return _BATCH[self.size]

    def image(self, kind: str) -> Tensor:
        return fill.image_for(f"daefr-{self.size}-{kind}-{self.images}", self.batch, self.network.size)


def stats(value: Tensor) -> np.ndarray:
    """Gives mean, population deviation, least, greatest and L2 norm over all elements, in double precision."""
    value = value.detach().double()
    return torch.stack(
        [value.mean(), value.std(correction=0), value.min(), value.max(), value.norm()]
    ).numpy()  # fmt: skip


def fill_module(module: nn.Module, keys: Mapping[str, str]) -> None:
    """Fills a module with the weights that belong under its reference keys; all of it, or it is an error."""
    own = module.state_dict()
    module.load_state_dict({name: fill.tensor_for(keys[name], tuple(own[name].shape), own[name].dtype) for name in own})


@lru_cache(maxsize=1)
def filled_vqgan(size: str, prefix: str) -> VQGAN:
    model = vqgan(NETWORKS[size])
    if prefix == "final":
        parts = {
            "encoder": "Fixed_encoder", "quant": "Fixed_quant_conv", "table": "Fixed_quantize", "decoder": "decoder",
            "post": "post_quant_conv",
        }  # fmt: skip
        fill_module(model, names.vqgan_names(model, **{part: f"vqvae.{name}" for part, name in parts.items()}))
    else:
        fill_module(model, names.stage_names(model, prefix))
    return model


@contextmanager
def outputs(watched: Mapping[str, nn.Module], seen: dict[str, Tensor]) -> Iterator[None]:
    """Fills `seen` with what each watched module gave."""
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
        for name, module in watched.items()
    ]
    yield
    for handle in handles:
        handle.remove()


def prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}_{name}": value for name, value in arrays.items()}
