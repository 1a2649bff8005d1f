"""A model made usable: faces in any of Python's picture types, in batches, or whole photographs.

A model of any family restores here when it has `size`, `scale`, `stride` and `restore(signed) -> signed`. The restorer
does for all of them what surrounds the network: picture types, units, sizes, batches, the map of uncertainty, and the
decision whether restoring would help a face at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as Pictures
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior import hub
from codeprior.estimators import Damage
from codeprior.images import to_signed, to_unit
from codeprior.photos.bands import keep_trustworthy
from codeprior.photos.decisions import SMALLEST, Decision, Estimator, check_share, decide
from codeprior.photos.pictures import face_from_picture, photograph_levels, to_picture
from codeprior.photos.restoration import Choices, Restored, restore_photo
from codeprior.photos.tints import find_tint
from codeprior.restorers.models import called, option_types, side, takes_fidelity
from codeprior.shapes import Image, Logits


class Restorer:
    """A face restoration model with units, sizes and picture types taken care of.

    Args:
        model: Has `size`, the side of the faces that it takes in pixels; `scale`, the side that it gives over the side
            that it takes (1 where it is missing); and `restore(signed) -> signed`, `b 3 size size` to
            `b 3 size·scale size·scale`. Where calling it gives `.logits`, the restorer can say how sure it was.
        device: Where it runs.
        batch: Faces that go through it at once.
        estimator: Says what a face still holds; None takes the one that comes with the library.
        options: Values of what the model lets a user choose, for every call that does not say otherwise. Which ones
            there are says its family, or `model.option_types`, a dictionary of `codeprior.families.Option`. A fidelity
            is given in the call.

    Raises:
        TypeError: The model has no `restore` or no size.
        ValueError: The model has no such option, or its value is out of range.

    Note:
        A face that holds more than the model can give back comes back as it is; of one that still holds something, that
        is kept, and the model adds what the damage took; a grey face stays grey. `always=True` turns the first two off.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str | torch.device = "cpu",
        batch: int = 8,
        estimator: Estimator | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        if not callable(getattr(model, "restore", None)):
            raise TypeError(
                f"Restorer: expected a model with restore(signed), got {type(model).__name__}; see docs/concepts."
            )
        self.model: Any = model.to(device).eval()
        self.device, self.batch, self.estimator = torch.device(device), batch, estimator
        self.size = side(model)
        self.scale = int(getattr(model, "scale", 1))
        self.option_types = option_types(model)
        self.options = self._checked(options or {})

    def __repr__(self) -> str:
        """Gives the model's class, its sizes and where it runs, in one line."""
        sizes = f"{self.size} px" if self.scale == 1 else f"{self.size} to {self.size * self.scale} px"
        return f"Restorer({type(self.model).__name__}, {sizes}, {self.device}, batch {self.batch})"

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        batch: int = 8,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Gives the restorer of a folder, or of a repository of the hub; see `codeprior.hub.from_pretrained`.

        Args:
            name: A local folder, or a repository, `owner/name`.
            revision: Branch, tag or commit of the repository.
            device: Where it runs.
            batch: Faces that go through it at once.
            options: As in `Restorer`.
        """
        model = hub.from_pretrained(name, revision=revision, device=device)
        return cls(model, device=device, batch=batch, options=options)

    def save_pretrained(self, folder: str | Path, **about: Any) -> Path:
        """Writes the model into a folder.

        Args:
            folder: Where to.
            about: Licence, data and figures, as in `codeprior.hub.save_pretrained`.
        """
        return hub.save_pretrained(self.model, folder, **about)

    def push_to_hub(self, repository: str, **about: Any) -> str:
        """Writes the model to a repository of the hub, and gives the address of the commit.

        Args:
            repository: `owner/name`.
            about: As in `codeprior.hub.push_to_hub`.
        """
        return hub.push_to_hub(self.model, repository, **about)

    def __call__(
        self,
        images: Any,
        *,
        fidelity: float | str | Tensor = "auto",
        always: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Restores aligned faces, in the type in which they come.

        Args:
            images: A PIL image; an array `H W 3` of 8-bit levels or unit floats; a tensor `3 H W` or `b 3 H W`, unit or
                uint8; or a list of these. Give them at the photograph's own resolution: their damage is estimated
                there, then they are resized to the model's size, by area where they shrink.
            fidelity: From 0, only what the model predicts, to 1, as near to the picture as the model can stay; `auto`
                chooses for each face by the detail that it still has; a tensor `(b,)` gives one for each face.
            always: Restore every face as the model says, and keep nothing of it but its tint.
            options: Further options of the model by name, each a value for all faces, or a tensor of one row per face.

        Returns:
            The same type, `size · scale` pixels a side; the same order for a list.

        Raises:
            TypeError: It is none of these.
            ValueError: The shape or range is not a face's, the fidelity is neither `auto` nor in [0, 1], or the
                model has no such option.
        """
        many = isinstance(images, (list, tuple))
        taken = [face_from_picture(image) for image in (images if many else [images])]
        restored = self._restored(taken, fidelity, always=always, uncertainty=False, options=options).images
        if not many:
            return to_picture(restored, images)
        return [to_picture(one[None], image) for one, image in zip(restored, images, strict=True)]

    def examine(
        self,
        images: Any,
        *,
        fidelity: float | str | Tensor = "auto",
        always: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Restored:
        """Restores aligned faces and says what was found and decided, and where the model guessed.

        Args:
            images: `b 3 H W`, unit or uint8, or any of the types of a call.
            fidelity: As in a call.
            always: As in a call.
            options: As in a call.

        Returns:
            Images, unit; the entropy of the predicted codes over its maximum, `b h w`, [0, 1], the mean over the tables
            of residual codes, 0 for faces that are left, None where the model gives no logits; the estimated damage,
            each part `(b,)`, None with `always` or where a face is too small to judge; and a decision for each face.

        Raises:
            TypeError: It is no picture.
            ValueError: As in a call.
        """
        taken = [face_from_picture(image) for image in (images if isinstance(images, (list, tuple)) else [images])]
        return self._restored(taken, fidelity, always=always, uncertainty=True, options=options)

    def photograph(
        self,
        picture: Any,
        *,
        choices: Choices | None = None,
        faces: Sequence[Any] | None = None,
        fidelity: float | str | None = None,
        always: bool | None = None,
        grain: float | str | None = None,
    ) -> Any:
        """Restores the faces of a whole photograph; those that hold more than the model gives back stay untouched.

        Args:
            picture: A PIL image, whose EXIF orientation is applied, or an array `H W 3` of 8-bit levels.
            choices: Which faces and how strongly.
            faces: Faces whose points are known; else the default detector finds them.
            fidelity: As in a call; None leaves it to `choices`.
            always: As in a call; None leaves it to `choices`.
            grain: Share of the photograph's grain that mended faces have again, [0, 1]; `auto` takes all of fine grain
                and a part of heavy noise; None leaves it to `choices`.

        Returns:
            The same type, the same size.

        Raises:
            TypeError: It is neither of these.
            ValueError: It holds no 8-bit levels `H W 3`, or there is no face in it.
        """
        from codeprior.photos.faces import detector

        pixels = photograph_levels(picture)
        choices = choices or Choices()
        choices = choices if fidelity is None else replace(choices, fidelity=fidelity)
        choices = choices if always is None else replace(choices, always=always)
        choices = choices if grain is None else replace(choices, grain=grain)
        found = None if faces is not None else detector()
        restored = restore_photo(pixels, self, detector=found, faces=faces, choices=choices).pixels
        return Pictures.fromarray(restored) if isinstance(picture, Pictures.Image) else restored

    def judge(
        self, face: Float[Tensor, "3 H W"], *, side: float | None = None, fidelity: float | None = None,
        always: bool = False,
    ) -> Decision:  # fmt: skip
        """Says what is done with a face, and why.

        Args:
            face: At the photograph's own resolution, unit.
            side: Side of the aligned face, pixels, where `face` is a larger or smaller part of the photograph.
            fidelity: A number in [0, 1], or None for what the estimate says.
            always: Restore as the model says.
        """
        height, width = face.shape[1:]
        damage = None
        if not always and min(height, width) >= SMALLEST:
            damage = self._estimator().estimate(face[None])
        pixels = (height * width) ** 0.5 if side is None else side
        option = self.option_types.get("fidelity")
        usual = 1.0 if option is None else float(option.default)
        return decide(damage, side=pixels, size=self.size, fidelity=fidelity, always=always, usual=usual)

    @torch.no_grad()
    def restore(
        self,
        images: Image,
        *,
        fidelities: Sequence[float | None] | None = None,
        uncertainty: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Restored:
        """Gives what the model itself says, without deciding whether it helps.

        Args:
            images: `b 3 size size`, unit.
            fidelities: For each face, [0, 1] or None; rounded to tenths and given to models whose `restore` takes a
                fidelity.
            uncertainty: Also ask where the model guessed.
            options: Of the model by name, each a value for all faces, or a tensor of one row per face.

        Returns:
            Images `b 3 size·scale size·scale`, unit, and the entropy of the codes where it was asked for and is known.
        """
        chosen = self.options | self._checked(options or {})
        given_fidelities = [None] * len(images)
        if fidelities is not None and takes_fidelity(self.model):
            given_fidelities = [None if fidelity is None else round(fidelity, 1) for fidelity in fidelities]
        restored = torch.zeros(len(images), 3, self.size * self.scale, self.size * self.scale)
        doubts: dict[int, Tensor] = {}
        # a model takes one fidelity a batch
        for fidelity in dict.fromkeys(given_fidelities):
            for at in torch.tensor([i for i, other in enumerate(given_fidelities) if other == fidelity]).split(
                self.batch
            ):
                signed = to_signed(images[at].to(self.device))
                given = {name: _of_faces(value, at, len(images), self.device) for name, value in chosen.items()}
                given |= {} if fidelity is None else {"fidelity": fidelity}
                image, logits = self._answer(signed, given, uncertainty)
                restored[at] = to_unit(image).float().cpu()
                if logits is not None:
                    doubts |= dict(zip(at.tolist(), entropy(logits).cpu(), strict=True))
        return Restored(restored, torch.stack([doubts[i] for i in range(len(images))]) if doubts else None)

    def _restored(
        self,
        taken: list[Image],
        fidelity: float | str | Tensor,
        *,
        always: bool,
        uncertainty: bool,
        options: Mapping[str, Any] | None,
    ) -> Restored:
        faces = [face for batch in taken for face in batch]
        numbers = _numbers(fidelity, len(faces))
        chosen = self._checked(options or {})
        decisions = [
            self.judge(face, fidelity=number, always=always) for face, number in zip(faces, numbers, strict=True)
        ]
        tints = [find_tint(face) for face in faces]
        asked = [at for at, decision in enumerate(decisions) if decision.action != "left"]
        greys = [face if tint is None else tint.without(face[None])[0] for face, tint in zip(faces, tints, strict=True)]
        images = [_resized(greys[at][None], self.size) for at in asked]
        given = self.restore(
            torch.cat(images) if images else torch.zeros(0, 3, self.size, self.size),
            fidelities=[decisions[at].fidelity for at in asked],
            uncertainty=uncertainty,
            options={
                name: _of_faces(value, torch.tensor(asked, dtype=torch.long), len(faces), "cpu")
                for name, value in chosen.items()
            },
        )
        side = self.size * self.scale
        result = [_resized(face[None], side)[0] for face in faces]
        for at, image in zip(asked, given.images, strict=True):
            crossover, tint = decisions[at].crossover, tints[at]
            if crossover is not None:
                image = keep_trustworthy(_resized(greys[at][None], side)[0], image, crossover)
            result[at] = image if tint is None else tint.over(image[None])[0]
        doubt = None
        if given.uncertainty is not None:
            doubt = torch.zeros(len(faces), *given.uncertainty.shape[1:])
            doubt[asked] = given.uncertainty
        known = [decision.damage for decision in decisions if decision.damage is not None]
        damage = Damage(*map(torch.cat, zip(*known))) if len(known) == len(faces) and known else None
        return Restored(
            torch.stack(result) if result else torch.zeros(0, 3, side, side), doubt, damage, tuple(decisions)
        )

    def _estimator(self) -> Estimator:
        if self.estimator is None:
            from codeprior.estimators import load_estimator

            self.estimator = load_estimator()
        return self.estimator

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Gives options as the model takes them."""
        known = {name: option for name, option in self.option_types.items() if name != "fidelity"}
        for name in options:
            if name not in known:
                more = ", ".join(known) or "none"
                raise ValueError(f"{type(self.model).__name__} has no option {name!r}; it has {more}.")
        return {name: known[name].check(name, value) for name, value in options.items()}

    def _answer(self, signed: Image, options: dict[str, Any], uncertainty: bool) -> tuple[Image, Logits | None]:
        """Gives what the model restores and, where they are wanted, the logits on the way to it."""
        if not uncertainty:
            return self.model.restore(signed, **options), None
        seen: list[Any] = []
        # most models predict inside `restore`; listening there spares a second run of the encoders
        hook = self.model.register_forward_hook(lambda _, __, given: seen.append(given))
        try:
            restored = self.model.restore(signed, **options)
        finally:
            hook.remove()
        return restored, getattr(seen[-1] if seen else called(self.model, signed), "logits", None)


def entropy(logits: Logits | Float[Tensor, "b m h w k"]) -> Float[Tensor, "b h w"]:
    """Gives the entropy of predicted codes over its maximum, a measure of how far a model guesses.

    Args:
        logits: `b h w k`, or `b m h w k` of residual codes; the mean over the `m` tables is then given.

    Returns:
        `b h w`, [0, 1].

    Raises:
        ValueError: The logits have other dimensions.
    """
    if logits.ndim not in (4, 5):
        raise ValueError(f"entropy: expected logits b h w k or b m h w k, got shape {tuple(logits.shape)}.")
    shares = logits.float().log_softmax(-1)
    doubt = (-(shares.exp() * shares).sum(-1) / np.log(logits.shape[-1])).clamp(0, 1)
    return doubt if logits.ndim == 4 else doubt.mean(1)


def _numbers(fidelity: Any, faces: int) -> list[float | None]:
    """Gives one fidelity a face, None where it is chosen."""
    if getattr(fidelity, "ndim", 0) == 0:
        return [check_share(fidelity)] * faces
    if fidelity.shape != (faces,):
        raise ValueError(f"fidelity: expected one number for each of {faces} faces, got shape {tuple(fidelity.shape)}.")
    return [check_share(float(one)) for one in fidelity]


def _of_faces(value: Any, at: Tensor, faces: int, device: str | torch.device) -> Any:
    """Gives an option's value for some of the faces: a tensor has a row for each of them."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if len(value) != faces:
        raise ValueError(f"options: expected a row for each of {faces} faces, got shape {tuple(value.shape)}.")
    return value[at].to(device)


def _resized(image: Image, size: int) -> Image:
    if image.shape[2:] == (size, size):
        return image
    if min(image.shape[2:]) >= size:
        return F.interpolate(image, size=(size, size), mode="area")
    return F.interpolate(image, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
