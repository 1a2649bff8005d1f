"""The frames of a video, restored one after the other with a memory of the faces that are in them."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from codeprior.photos.faces import Detector, choose
from codeprior.photos.restoration import Choices, Restored, answer, finish, prepare
from codeprior.photos.video.steady import Steadiness, SteadyDamage, SteadyFaces
from codeprior.photos.video.tracks import Track, Tracker


class FrameRestorer:
    """Restores the frames of one video in their order, and remembers what holds its faces steady.

    Args:
        restorer: Takes aligned faces; a `codeprior.Restorer` also judges them.
        detector: Finds faces.
        choices: Which faces and how strongly.
        steadiness: How strongly they are held steady.
        mask: What keeps paste-back to the face.
    """

    def __init__(
        self,
        restorer: Any,
        detector: Detector,
        *,
        choices: Choices | None = None,
        steadiness: Steadiness | None = None,
        mask: Callable | None = None,
    ):
        self.choices, steadiness, self.mask = choices or Choices(), steadiness or Steadiness(), mask
        self.tracker = Tracker(detector, smallest=self.choices.smallest, score=self.choices.score)
        self.steady, self.damage = SteadyFaces(steadiness), None
        self.restorer = copy.copy(restorer)  # a copy, because it gets another estimator
        if callable(getattr(restorer, "judge", None)) and hasattr(restorer, "estimator"):
            from codeprior.estimators import load_estimator

            self.damage = SteadyDamage(restorer.estimator or load_estimator(), steadiness)
            self.restorer.estimator = self.damage

    def __call__(
        self, pixels: UInt8[np.ndarray, "H W 3"], tracks: list[Track] | None = None
    ) -> tuple[UInt8[np.ndarray, "H W 3"], int]:
        """Restores the next frame.

        Args:
            pixels: RGB, 8-bit levels.
            tracks: Its faces, where the tracker has been asked already.

        Returns:
            The frame, the same one where nothing was to be done, and how many faces were restored.
        """
        tracks = self.tracker(pixels) if tracks is None else tracks
        alive = {track.number for track in tracks}
        for part in self._remembering():
            part.forget(alive)
        chosen = self._chosen(tracks, pixels)
        if not chosen:
            return pixels, 0
        numbers = iter(chosen)
        prepared = prepare(
            pixels,
            None,
            size=self.restorer.size,
            choices=_for_known(self.choices),
            faces=[track.face for track in chosen],
            judge=self._judge(numbers) if callable(getattr(self.restorer, "judge", None)) else None,
        )
        answers = []
        for at, fidelity in zip(prepared.asked, prepared.fidelities, strict=True):
            face = prepared.crops[at].image[None]
            ask = lambda face=face, value=fidelity: answer(self.restorer, face, fidelities=[value]).images[0].cpu()
            model = getattr(self.restorer, "model", self.restorer)
            answers.append(self.steady(ask, model, face[0], chosen[at].number))
        if not answers:
            return pixels, 0
        done = finish(prepared, Restored(torch.stack(answers)), choices=_for_known(self.choices), mask=self.mask)
        return done.pixels, len(answers)

    def _chosen(self, tracks: list[Track], pixels: np.ndarray) -> list[Track]:
        height, width = pixels.shape[:2]
        good = [track for track in tracks if np.linalg.norm(track.points[1] - track.points[0]) >= self.choices.smallest]
        if self.choices.faces.isdecimal() and int(self.choices.faces) >= len(good):
            return []
        return [
            good[at] for at in choose([track.face for track in good], self.choices.faces, width=width, height=height)
        ]

    def _judge(self, tracks: Iterator[Track]) -> Callable:
        def judge(face: torch.Tensor, **given: Any) -> Any:
            if self.damage is not None:
                self.damage.number = next(tracks).number
            return self.restorer.judge(face, **given)

        return judge

    def memory(self) -> dict[str, np.ndarray]:
        """Gives what the network's side of the next frame depends on, as arrays by name."""
        return {name: array for part in self._remembering() for name, array in part.memory().items()}

    def remember(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `memory` gave.

        Args:
            arrays: By name; further names are ignored.
        """
        for part in self._remembering():
            part.remember(arrays)

    def _remembering(self) -> list[SteadyFaces | SteadyDamage]:
        return [self.steady, *([] if self.damage is None else [self.damage])]


def _for_known(choices: Choices) -> Choices:
    """Gives choices for faces that are chosen already; grain, new in each frame, comes back only where asked for."""
    grain = 0.0 if choices.grain == "auto" else choices.grain
    return Choices(**asdict(choices) | {"faces": "all", "score": 0.0, "smallest": 0.0, "grain": grain})
