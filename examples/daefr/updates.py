"""What the stages' updates share: parts of a batch, the optimiser, its rate, and the names of scalars."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim import Adam

from codeprior.training import Engine


@contextmanager
def apart(engine: Engine, last: bool, *modules: nn.Module) -> Iterator[None]:
    """Opens the forward and the backward pass of one part of a batch; ranks talk only in that of the last part.

    Args:
        engine: What distributes.
        last: Whether it is the last part.
        *modules: Those wrapped ones that the backward pass goes through.
    """
    with nullcontext() if last else engine.accumulate(*modules):
        yield


@contextmanager
def unrecorded(module: nn.Module) -> Iterator[None]:
    """Opens forward passes of a bare module that leave no graph, though gradients are on: its hooks are then called.

    Args:
        module: Its parameters ask for no gradient meanwhile.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def means(metrics: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Gives the mean of each scalar over the parts of a batch."""
    if len(metrics) == 1:
        return dict(metrics[0])
    return {name: torch.stack([one[name] for one in metrics]).mean() for name in metrics[0]}


def adam(module: nn.Module, recipe) -> Adam:
    """Gives the recipe's Adam over what a module trains.

    On a GPU it is the fused one, which is faster and itself leaves out an update that is not finite, so that no step
    waits for the device; elsewhere it is the plain one.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    fused = True if all(parameter.device.type == "cuda" for parameter in trained) else None
    return Adam(trained, lr=recipe.learning_rate, betas=recipe.betas, fused=fused)


def perceptual_precision(engine: Engine, backbone: str) -> AbstractContextManager[object]:
    """Opens the precision of a perceptual network: the engine's for VGG, float32 for others.

    VGG-16's convolutions are a fifth of the work of stage 1; a MobileNet's are few, and faster in float32 on a CPU.
    """
    return engine.autocast() if backbone.startswith("vgg") else nullcontext()


def rate_at(recipe, step: int) -> float:
    """Gives the learning rate of a step: it rises in `warmup` steps, stays, and falls to zero from `decay_from` on.

    It falls by a straight line, or as half a cosine where the recipe says so.
    """
    rate = recipe.learning_rate * min(1.0, (step + 1) / (recipe.warmup + 1))
    done = step / recipe.steps
    if done <= recipe.decay_from or recipe.decay_from >= 1:
        return rate
    left = max(0.0, (1 - done) / (1 - recipe.decay_from))
    return rate * (left if recipe.decay == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))


def with_skipped(metrics: Mapping[str, Tensor], *skipped: Tensor) -> dict[str, Tensor]:
    """Gives metrics with `skipped` 1 where any part of the step was left out."""
    return {
        **metrics,
        "skipped": torch.stack([*skipped, *(metrics[key] for key in metrics if key == "skipped")]).amax(),
    }


def prefixed(prefix: str, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives metrics under longer names."""
    return {f"{prefix}_{name}": value for name, value in metrics.items()}
