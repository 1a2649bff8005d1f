"""What the updates of all stages share: a batch in parts, the optimiser and its rate, and the names of scalars."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from codeprior.stages.settings import StageSettings, rate_at
from codeprior.training import Batch, Engine, WeightAverage, step_if_finite

Named = TypeVar("Named")


def update_by(
    losses: Callable[[Batch], Mapping[str, Tensor]],
    batch: Batch,
    step: int,
    *,
    settings: StageSettings,
    engine: Engine,
    network: nn.Module,
    optimizer: Optimizer,
    average: WeightAverage,
) -> dict[str, Tensor]:
    """Makes one update of a network by the mean of a loss over a batch, which may be worked on in parts.

    Args:
        losses: Scalars of a part of the batch by name, with their graph; `total` is what is walked back from.
        batch: This rank's samples.
        step: Number of the update.
        settings: Rate, parts and the largest norm of the gradients.
        engine: What distributes.
        network: The wrapped module that the backward pass goes through.
        optimizer: Over what is trained.
        average: Follows the weights, where it averages at all.

    Returns:
        The means of the scalars over the parts, detached, and `skipped`.
    """
    set_rate(optimizer, rate_at(settings, step))
    optimizer.zero_grad(set_to_none=True)
    parts, found = batch.parts(settings.accumulate), []
    for number, part in enumerate(parts):
        with sync_gradients_on_last_part(engine, number + 1 == len(parts), network):
            values = losses(part)
            engine.backward([values["total"] / len(parts)])
        found.append({name: value.detach() for name, value in values.items()})
    skipped = step_if_finite(optimizer, clip=settings.clip)
    average.update()
    return means(found) | {"skipped": skipped}


def gradients_of_gradients() -> AbstractContextManager[Any]:
    """Opens a forward pass whose gradients are differentiated again: compiled modules run as they are written.

    `torch.compile` gives no gradients of gradients, and R1 and the path length are made of them.
    """
    return torch.compiler.set_stance("force_eager")


@contextmanager
def sync_gradients_on_last_part(engine: Engine, last: bool, *modules: nn.Module) -> Iterator[None]:
    """Opens the forward and the backward pass of one part of a batch; ranks exchange gradients in the last part only.

    Args:
        engine: What distributes.
        last: Whether it is the last part.
        *modules: Those wrapped ones that the backward pass goes through.
    """
    with nullcontext() if last else engine.accumulate(*modules):
        yield


@contextmanager
def without_graph(module: nn.Module) -> Iterator[None]:
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


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Gives the sum of terms, each times its weight, added up in the order of the terms.

    Args:
        terms: Scalars by name.
        weights: By the same names; others are not looked at.
    """
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


def means(metrics: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Gives the mean of each scalar over the parts of a batch.

    Args:
        metrics: Scalars by name, of each part.
    """
    if len(metrics) == 1:
        return dict(metrics[0])
    return {name: torch.stack([one[name] for one in metrics]).mean() for name in metrics[0]}


def adam(module: nn.Module, settings: StageSettings) -> Adam:
    """Gives the settings' Adam over what a module trains.

    On a GPU it is the fused one, which is faster and itself leaves out an update that is not finite, so that no step
    waits for the device; elsewhere it is the plain one.

    Args:
        module: Those of its parameters that ask for a gradient are trained.
        settings: Rate and betas.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    fused = True if all(parameter.device.type == "cuda" for parameter in trained) else None
    return Adam(trained, lr=settings.learning_rate, betas=settings.betas, fused=fused)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Sets the learning rate of every group of an optimiser.

    Args:
        optimizer: Changed in place.
        rate: The rate.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate


def perceptual_precision(engine: Engine, backbone: str) -> AbstractContextManager[object]:
    """Opens the precision of a perceptual network: the engine's for VGG, float32 for others.

    VGG-16's convolutions are a fifth of the work of stage 1; a MobileNet's are few, and faster in float32 on a CPU.

    Args:
        engine: What distributes.
        backbone: Name of the network.
    """
    return engine.autocast() if backbone.startswith("vgg") else nullcontext()


def with_skipped(metrics: Mapping[str, Tensor], *skipped: Tensor) -> dict[str, Tensor]:
    """Gives metrics with `skipped` 1 where any part of the step was left out.

    Args:
        metrics: Scalars by name.
        *skipped: What `step_if_finite` gave.
    """
    return {
        **metrics,
        "skipped": torch.stack([*skipped, *(metrics[key] for key in metrics if key == "skipped")]).amax(),
    }


def prefixed(prefix: str, metrics: Mapping[str, Named]) -> dict[str, Named]:
    """Gives metrics, or parts of a checkpoint, under longer names.

    Args:
        prefix: Put before each name, with an underscore.
        metrics: By name.
    """
    return {f"{prefix}_{name}": value for name, value in metrics.items()}
