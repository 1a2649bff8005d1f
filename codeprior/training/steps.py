"""Inside a step: updating weights only where every gradient is finite, and recomputation that saves memory."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint


class NotFinite(RuntimeError):
    """Too many updates were left out because gradients were not finite."""


def step_if_finite(*optimizers: Optimizer, clip: float | None = None, unless: Tensor | None = None) -> Tensor:
    """Steps all the optimisers if all their gradients are finite; otherwise none.

    Gradients have been averaged over ranks before, so every rank comes to the same decision without communication.

    Args:
        *optimizers: With their gradients in place. Fused ones decide on the device; others cost a synchronisation.
        clip: Largest Euclidean norm of all the gradients together; longer ones are scaled down to it. None leaves
            them as they are.
        unless: Scalar on the gradients' device; where it is true the optimisers do not step, and the update does not
            count as skipped.

    Returns:
        How many updates were left out, 0.0 or 1.0, a scalar on the parameters' device; report it as `skipped`.
    """
    parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros((), device=parameters[0].device if parameters else None)
    # the largest magnitude is not finite exactly when some element is not
    norms = torch.stack(torch._foreach_norm(gradients, ord=float("inf")))
    skipped = (~norms.isfinite().all()).float()
    held = skipped
    if unless is not None:
        skipped, held = skipped * ~unless, torch.maximum(skipped, unless.float())
    if clip is not None:
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (clip / length.clamp(min=clip)).to(gradients[0].dtype))
    if all(group.get("fused") for optimizer in optimizers for group in optimizer.param_groups):
        for optimizer in optimizers:
            optimizer.grad_scale, optimizer.found_inf = None, held  # pyright: ignore[reportAttributeAccessIssue]
            optimizer.step()
            del optimizer.grad_scale, optimizer.found_inf  # pyright: ignore[reportAttributeAccessIssue]
    elif not held:
        for optimizer in optimizers:
            optimizer.step()
    return skipped


class Guard:
    """Undoes what a skipped update did to buffers, counts such updates, and ends a run that makes too many.

    Args:
        modules: Whose buffers (running statistics, moving-average codes) a skipped update must not touch.
        in_a_row: This many skipped updates one after the other end the run.
        share: More than this share of skipped updates also ends it, if there are more than `in_a_row` of them.
        skipped: Count of skipped updates in the runs that this one resumes.
        run: How many of them were the last ones, in a row.
    """

    def __init__(
        self, modules: Sequence[nn.Module], *, in_a_row: int = 5, share: float = 0.001, skipped: int = 0, run: int = 0
    ):
        self.in_a_row, self.share = in_a_row, share
        self._buffers = [buffer for module in modules for buffer in module.buffers()]
        self._before: list[Tensor] = []
        self._pending: list[tuple[int, Tensor, Tensor]] = []
        self.skipped, self.run = skipped, run
        self._row: list[str] = []

    def before(self) -> None:
        """Remembers the buffers; call it before an update."""
        self._before = [buffer.clone() for buffer in self._buffers]

    def after(self, step: int, keys: Tensor, skipped: Tensor | None) -> None:
        """Records an update; it does not wait for the device, which `check` does.

        Args:
            step: Number of the update.
            keys: The samples' keys.
            skipped: What `step_if_finite` gave, or None.
        """
        if skipped is None:
            return
        if self._buffers:
            kept = [torch.where(skipped > 0, old, new) for old, new in zip(self._before, self._buffers, strict=True)]
            torch._foreach_copy_(self._buffers, kept)
        self._pending.append((step, keys, skipped))
        if not skipped.is_cuda or len(self._pending) >= 50:
            self.check()

    def check(self) -> None:
        """Counts the recorded updates.

        Raises:
            NotFinite: There are too many; the text has the steps and the samples' keys.
        """
        pending, self._pending = self._pending, []
        for step, keys, skipped in pending:
            if not skipped:
                self.run, self._row = 0, []
                continue
            self.run += 1
            self.skipped += 1
            self._row.append(f"step {step}: keys {keys.tolist()}")
            if self.run >= self.in_a_row or self.skipped > max(self.in_a_row, self.share * (step + 1)):
                raise NotFinite(
                    f"train: gradients were not finite in {self.run} updates in a row, {self.skipped} in all; "
                    "lower the learning rate, or look at these samples.\n" + "\n".join(self._row)
                )

    def state(self) -> dict[str, int]:
        """Gives the counts as JSON values, from which a resumed run goes on."""
        self.check()
        return {"skipped": self.skipped, "run": self.run}


def checkpoint_activations(module: nn.Module, *kinds: type[nn.Module]) -> nn.Module:
    """Makes blocks of a module drop their activations and compute them again in the backward pass.

    Args:
        module: Changed in place; its parameters keep their names.
        *kinds: Classes of the blocks.

    Returns:
        The module.

    Raises:
        ValueError: There is no such block, or one holds buffers, which computing twice would move twice.
    """
    blocks = [block for block in module.modules() if isinstance(block, kinds)]
    names = ", ".join(kind.__name__ for kind in kinds)
    if not blocks:
        raise ValueError(f"checkpoint_activations: no {names} in {type(module).__name__}; name classes that are there.")
    for block in blocks:
        if any(True for _ in block.buffers()):
            raise ValueError(
                f"checkpoint_activations: {type(block).__name__} holds buffers, which a second forward pass would move "
                "again; leave it out."
            )
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    return module
