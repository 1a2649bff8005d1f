"""The weight of the adversarial loss at which its gradient at the last layer is as large as that of the reconstruction.

There are two ways to compute it. `adaptive_weight` asks autograd for both gradients at the last weight; the backward
pass then goes through the losses a second time. `cut_adaptive_weight` goes through each loss once, back to the
reconstructed image. The gradient at the last weight follows from the gradient at the image and from the input of the
last convolution, and the backward pass starts at the image. This second way also works with
`DistributedDataParallel(static_graph=True)`, where the first one leaves gradients unaveraged without an error.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from codeprior.distributed import mean_over_ranks
from codeprior.shapes import Image

LIMIT = 1e4
EPSILON = 1e-4


class LossAtImage(NamedTuple):
    """A loss of an image, and its gradient at each pixel."""

    value: Float[Tensor, ""]
    """The loss, detached."""
    gradient: Image
    """Its gradient at the image, `b 3 H W`."""


def adaptive_weight(
    reconstruction: Float[Tensor, ""],
    adversarial: Float[Tensor, ""],
    *,
    last_layer: nn.Module,
    mode: Literal["local", "global"] = "local",
    limit: float = LIMIT,
    epsilon: float = EPSILON,
) -> Float[Tensor, ""]:
    """Gives `clamp(‖∂reconstruction/∂W‖ / (‖∂adversarial/∂W‖ + epsilon), 0, limit)`, detached.

    Args:
        reconstruction: Loss of the reconstruction, with its graph; the graph is kept.
        adversarial: The generator's adversarial loss, with its graph; the graph is kept.
        last_layer: The module whose `weight` is `W`: the decoder's last convolution.
        mode: `"local"` takes this process's gradients, as the released code does. `"global"` averages gradients over
            the ranks first, so that the weight is the one that a single process with the whole batch finds.
        limit: Largest weight.
        epsilon: Added to the divisor.

    Returns:
        The weight, a scalar in [0, limit].

    Raises:
        ValueError: `mode` is neither `"local"` nor `"global"`.
        TypeError: `last_layer` has no weight.

    Source:
        Esser et al. 2021 (VQGAN), eq. 7; DAEFR multiplies the result by 0.8 and by a gate.
    """
    weight = getattr(last_layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise TypeError(f"adaptive_weight: expected a layer with one weight, got {type(last_layer).__name__}.")
    gradients = [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in (reconstruction, adversarial)]
    return weight_of_gradients(torch.stack(gradients), mode=mode, limit=limit, epsilon=epsilon)


def cut_adaptive_weight(
    reconstruction: Image,
    adversarial: Image,
    *,
    entering: Float[Tensor, "b c H W"],
    last_layer: nn.Conv2d,
    mode: Literal["local", "global"] = "local",
    limit: float = LIMIT,
    epsilon: float = EPSILON,
) -> Float[Tensor, ""]:
    """Gives the number of `adaptive_weight` from the two losses' gradients at the reconstructed image.

    Args:
        reconstruction: Gradient of the reconstruction loss at the image, `b 3 H W` (`loss_at_image`).
        adversarial: Gradient of the adversarial loss at the image, `b 3 H W`.
        entering: The input of the last convolution when it made the image (`watch_input`).
        last_layer: That convolution; the image must be its output, unchanged.
        mode: `"local"` or `"global"`, as in `adaptive_weight`; ranks exchange only two gradients of the last weight.
        limit: Largest weight.
        epsilon: Added to the divisor.

    Returns:
        The weight, a scalar in [0, limit].

    Raises:
        ValueError: `mode` is neither word, or the convolution does not pad with zeros.

    Example:
        >>> import torch
        >>> from codeprior.losses import cut_adaptive_weight, loss_at_image, watch_input
        >>> last, clean = torch.nn.Conv2d(8, 3, 3, padding=1), torch.rand(1, 3, 16, 16)
        >>> with watch_input(last) as entering:
        ...     image = last(torch.rand(1, 8, 16, 16))
        >>> wanted = loss_at_image(image, lambda image: (image - clean).abs().mean())
        >>> fooling = loss_at_image(image, lambda image: -image.mean())
        >>> weight = cut_adaptive_weight(wanted.gradient, fooling.gradient, entering=entering[-1], last_layer=last)
        >>> image.backward(wanted.gradient + 0.8 * weight * fooling.gradient)
    """
    gradients = last_layer_gradients(reconstruction, adversarial, entering=entering, last_layer=last_layer)
    return weight_of_gradients(gradients, mode=mode, limit=limit, epsilon=epsilon)


def last_layer_gradients(
    reconstruction: Image, adversarial: Image, *, entering: Float[Tensor, "b c H W"], last_layer: nn.Conv2d
) -> Float[Tensor, "2 o c m n"]:
    """Gives both losses' gradients at the last weight, from their gradients at the reconstructed image.

    Where a batch is worked on in parts, the mean of the parts' gradients is that of the batch; `weight_of_gradients`
    then gives the batch's weight.

    Args:
        reconstruction: As in `cut_adaptive_weight`.
        adversarial: As there.
        entering: As there.
        last_layer: As there.

    Raises:
        ValueError: The convolution does not pad with zeros.
    """
    if last_layer.padding_mode != "zeros" or isinstance(last_layer.padding, str):
        raise ValueError(
            f"cut_adaptive_weight: expected a convolution with a number of zeros as padding, got padding="
            f"{last_layer.padding!r}, padding_mode={last_layer.padding_mode!r}; use adaptive_weight instead."
        )
    return torch.stack([_weight_gradient(last_layer, entering, one) for one in (reconstruction, adversarial)])


def weight_of_gradients(
    gradients: Float[Tensor, "2 o c m n"],
    *,
    mode: Literal["local", "global"] = "local",
    limit: float = LIMIT,
    epsilon: float = EPSILON,
) -> Float[Tensor, ""]:
    """Gives the adaptive weight from the gradients that `last_layer_gradients` gives.

    Args:
        gradients: Gradient of the reconstruction loss and of the adversarial loss at the last weight.
        mode: `"local"` or `"global"`, as in `adaptive_weight`.
        limit: Largest weight.
        epsilon: Added to the divisor.

    Raises:
        ValueError: `mode` is neither word.
    """
    if mode not in ("local", "global"):
        raise ValueError(f"adaptive_weight: mode is 'local' or 'global', got {mode!r}.")
    gradients = gradients.detach()
    if mode == "global":
        gradients = mean_over_ranks(gradients)
    return (gradients[0].norm() / (gradients[1].norm() + epsilon)).clamp(0, limit)


def loss_at_image(image: Image, loss: Callable[[Tensor], Tensor]) -> LossAtImage:
    """Gives a loss of an image and its gradient at the image; the backward pass stops there.

    Args:
        image: The reconstruction, `b 3 H W`, signed.
        loss: From an image to a scalar, called once with a detached copy.

    Returns:
        value: The loss, detached.
        gradient: Its gradient at the image, `b 3 H W`, to be summed with others and given to `image.backward`.
    """
    with torch.enable_grad():
        leaf = image.detach().requires_grad_()
        value = loss(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
    return LossAtImage(value.detach(), gradient)


@contextmanager
def watch_input(module: nn.Module) -> Iterator[list[Tensor]]:
    """Gives a list that, while the context is open, collects the first input of every call of a module, detached.

    Args:
        module: The module to watch: a decoder's `last_layer`.
    """
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()


def _weight_gradient(layer: nn.Conv2d, entering: Tensor, at_output: Tensor) -> Tensor:
    entering = entering.detach()
    return conv2d_weight(
        entering, layer.weight.shape, at_output.to(entering.dtype),
        layer.stride, layer.padding, layer.dilation, layer.groups,  # pyright: ignore[reportArgumentType]  # tuples will do
    )  # fmt: skip
