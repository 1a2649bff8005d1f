"""What keeps a restored face from flickering: scores, answers and estimates of damage that remember the last frames.

Noise changes from frame to frame, and where two codes are nearly as likely the choice between them changes with it. So
the scores of each place, and the answer itself, are running means over frames, which forget as fast as that place of
the face changes. What is said of a face's damage is kept until a running mean has moved far from it.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.estimators import Damage
from codeprior.photos.decisions import Estimator
from codeprior.shapes import Image

_PLACES = 16  # a side, in which a face is compared with the frame before


@dataclass(frozen=True, kw_only=True, slots=True)
class Steadiness:
    """How strongly faces are held steady; see docs/guides/video.md for the measurement."""

    share: float = 0.2  # of a new frame's scores, where the face does not change; 1 takes each frame by itself
    change: float = 0.06  # of a place's mean colour, unit, from which a new frame counts alone
    drift: float = 0.15  # of the estimated limit, from which a new estimate replaces the old one

    def __post_init__(self):
        if not 0 < self.share <= 1 or self.change <= 0 or self.drift < 0:
            raise ValueError(
                f"Steadiness: share must be in (0, 1], change above 0 and drift at least 0, got {self.share}, "
                f"{self.change} and {self.drift}."
            )


class SteadyFaces:
    """Running means of what a network says of each face: its scores of codes where it has them, and its answer.

    Args:
        steadiness: How much of each frame is taken.

    Note:
        Scores are averaged, not codes: the code that is then chosen is a whole one, as sharp as any. The answer is
        averaged in the aligned face, so that a face which moves is compared with itself.
    """

    def __init__(self, steadiness: Steadiness):
        self.steadiness = steadiness
        self.colours: dict[int, Tensor] = {}  # means of 3 16 16 places
        self.scores: dict[int, Tensor] = {}  # (m) h w k
        self.answers: dict[int, Tensor] = {}  # 3 size size

    def __call__(
        self, ask: Callable[[], Float[Tensor, "3 H W"]], model: nn.Module, face: Float[Tensor, "3 s s"], number: int
    ) -> Float[Tensor, "3 H W"]:
        """Gives the steady answer for the next frame of a face.

        Args:
            ask: Gives the model's answer for this frame.
            model: Where it predicts codes with a part `predictor`, the scores that this gives are steady too.
            face: As the model is given it, aligned, unit.
            number: Of the face's track.
        """
        share = self._share(face.float(), number)
        predictor = getattr(model, "predictor", None)
        hook = None
        if isinstance(predictor, nn.Module):

            def steady(_: nn.Module, __: Any, scores: Any) -> Any:
                fits = isinstance(scores, Tensor) and scores.ndim >= 4 and len(scores) == 1
                return self._mean(self.scores, scores[0], share, number, grid=True)[None] if fits else None

            hook = predictor.register_forward_hook(steady)
        try:
            answer = ask()
        finally:
            if hook is not None:
                hook.remove()
        return self._mean(self.answers, answer, share, number, grid=False)

    def forget(self, alive: Container[int]) -> None:
        """Forgets faces that are no longer there."""
        for known in (self.colours, self.scores, self.answers):
            for number in [number for number in known if number not in alive]:
                del known[number]

    def memory(self) -> dict[str, np.ndarray]:
        """Gives what the next frame depends on, as arrays by name."""
        known = {"colours": self.colours, "scores": self.scores, "answers": self.answers}
        return {
            f"{name}.{number}": part.cpu().numpy() for name, parts in known.items() for number, part in parts.items()
        }

    def remember(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `memory` gave.

        Args:
            arrays: By name; further names are ignored.
        """
        for name, known in (("colours", self.colours), ("scores", self.scores), ("answers", self.answers)):
            known.clear()
            known |= {int(key.split(".")[1]): torch.tensor(arrays[key]) for key in arrays if key.startswith(f"{name}.")}

    def _share(self, face: Float[Tensor, "3 s s"], number: int) -> Float[Tensor, "1 g g"]:
        """Gives the share of each place of this frame in the running means: all of it where the face changes."""
        colours = F.adaptive_avg_pool2d(face[None], _PLACES)[0]
        before = self.colours.get(number)
        if before is None:
            self.colours[number] = colours
            return torch.ones(1, _PLACES, _PLACES)
        change = (colours - before).abs().amax(0, keepdim=True) / self.steadiness.change
        change = F.max_pool2d(change[None], 3, 1, 1)[0]  # a place sees its neighbours too
        share = (self.steadiness.share + (1 - self.steadiness.share) * change).clamp(max=1)
        self.colours[number] = before + share * (colours - before)
        return share

    def _mean(
        self, known: dict[int, Tensor], value: Tensor, share: Float[Tensor, "1 g g"], number: int, *, grid: bool
    ) -> Tensor:
        before = known.get(number)
        if before is not None and before.shape == value.shape:
            height, width = value.shape[-3:-1] if grid else value.shape[-2:]
            weight = F.interpolate(share[None], size=(height, width), mode="bilinear")[0].to(value)
            weight = weight[0, ..., None] if grid else weight
            before = before.to(value)
            value = before + weight * (value - before)
        known[number] = value
        return value


class SteadyDamage:
    """An estimator that remembers: what it says of a face changes only when the running mean of its estimates has.

    Args:
        inner: What estimates a single frame.
        steadiness: How far the mean may drift.

    Attributes:
        number: Of the track that is looked at next.
    """

    def __init__(self, inner: Estimator, steadiness: Steadiness):
        self.inner, self.steadiness, self.number = inner, steadiness, 0
        self.known: dict[int, tuple[Tensor, Tensor]] = {}  # running mean, what was said last; five figures each

    def estimate(self, faces: Image) -> Damage:
        """Gives the damage of the next face of track `number`.

        Args:
            faces: `1 3 H W`, unit.
        """
        found = torch.stack(list(self.inner.estimate(faces)))[:, 0]
        mean, said = self.known.get(self.number, (found, found))
        mean = mean + self.steadiness.share * (found - mean)
        limit = Damage._fields.index("limit")
        if abs(float(mean[limit] - said[limit])) > self.steadiness.drift * float(said[limit]):
            said = mean
        self.known[self.number] = mean, said
        return Damage(*said[:, None])

    def forget(self, alive: Container[int]) -> None:
        """Forgets faces that are no longer there."""
        for number in [number for number in self.known if number not in alive]:
            del self.known[number]

    def memory(self) -> dict[str, np.ndarray]:
        """Gives what the next frame depends on, as arrays by name."""
        return {f"damage.{number}": torch.stack(pair).numpy() for number, pair in self.known.items()}

    def remember(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `memory` gave.

        Args:
            arrays: By name; further names are ignored.
        """
        pairs = {int(key.split(".")[1]): torch.tensor(arrays[key]) for key in arrays if key.startswith("damage.")}
        self.known = {number: (mean, said) for number, (mean, said) in pairs.items()}
