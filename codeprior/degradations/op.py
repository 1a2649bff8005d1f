"""What an op is: a frozen dataclass of ranges, which draws values in one step and applies drawn values in another.

`sample` is the only place that uses random numbers; `apply` is pure. A new op defines `_draw`, `_one` (one
image as an array, on the CPU) and `_batch` (a batch of ragged images as a tensor, on any device). A new field of an op
gets a default that means what the op did without it; test sets that were saved before are then still read.
"""

import ast
from dataclasses import MISSING, Field, fields, is_dataclass
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ._canvas import Canvas, pixels_from_planes, planes_from_pixels
from ._draws import Draws, fresh_keys
from ._run import Images, Mode, run, sizes_of
from .record import Params, Values

Sizes = NDArray[np.int64]
"""Height and width a sample: `b 2`."""

Pixels = NDArray[Any]
"""One image inside a chain: `H W 3`, unit, float32."""

Kind = Literal["planes in", "blur", "bilinear", "round", "planes out"]
"""What the patterns of `_fusion` know."""


class Traced(NamedTuple):
    """A degraded image and what was drawn for it."""

    image: Images
    params: Params


class Op:
    """One distortion, or several put together.

    Calling an op is `sample` followed by `apply`. Images are `3 H W`, `b 3 H W`, or a list of `3 H W` of any sizes, in
    RGB; unit floats or 8-bit levels as `uint8`.
    """

    def __call__(
        self,
        image: Images,
        *,
        generator: torch.Generator | None = None,
        mode: Mode = "fast",
        dtype: torch.dtype | None = None,
    ) -> Images:
        """Gives the degraded image.

        Args:
            image: `3 H W`, `b 3 H W` or a list of `3 H W`; unit, [0, 1], or uint8.
            generator: Where the random numbers come from; global generators are not touched.
            mode: See `apply`.
            dtype: See `apply`.

        Returns:
            The degraded image in the form, and by default the type, of `image`.

        Raises:
            TypeError: No generator was given, or the image is neither floating-point nor uint8.
            ValueError: The image is not RGB, is empty, or leaves [0, 1].
        """
        return self.trace(image, generator=generator, mode=mode, dtype=dtype).image

    def trace(
        self,
        image: Images,
        *,
        generator: torch.Generator | None = None,
        mode: Mode = "fast",
        dtype: torch.dtype | None = None,
    ) -> Traced:
        """Gives the degraded image together with the values drawn for it, for logging and replay.

        Args:
            image: As for calling the op.
            generator: As for calling the op.
            mode: See `apply`.
            dtype: See `apply`.

        Returns:
            image: The degraded image.
            params: One row of drawn values per sample; `op.apply(image, params)` gives the same image again.
        """
        params = self.sample(image, generator)
        return Traced(self.apply(image, params, mode=mode, dtype=dtype), params)

    def sample(self, image: Images | tuple[int, ...], generator: torch.Generator | None) -> Params:
        """Draws the values of each sample; nothing else in this room uses random numbers.

        Args:
            image: The image or images to draw for, or their size: `(H, W)` or `(b, H, W)`, pixels.
            generator: Where the random numbers come from. It gives one key a sample; everything follows from the key,
                so a batch draws what its images would draw one by one.

        Returns:
            One row per sample, on the CPU.

        Raises:
            TypeError: No generator was given.
            ValueError: A drawn size would be below one pixel, or the image is no image.
        """
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"{type(self).__name__}: expected a torch.Generator, got {generator!r}; "
                "give generator=torch.Generator().manual_seed(seed)."
            )
        sizes = sizes_of(type(self).__name__, image)
        values = self._draw(Draws(fresh_keys(len(sizes), generator)), sizes, sizes)
        self._check(values, sizes)
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()}
        return Params(values=tensors, sizes=torch.from_numpy(sizes.astype(np.int32)))

    def apply(
        self,
        image: Images,
        params: Params,
        *,
        mode: Mode = "fast",
        dtype: torch.dtype | None = None,
        impl: str | None = None,
    ) -> Images:
        """Gives the image with these values applied; the same image and values give the same bits.

        Args:
            image: `3 H W`, `b 3 H W` or a list of `3 H W`; unit, [0, 1], or uint8. It is not changed.
            params: What `sample` drew for images of these sizes.
            mode: `fast` fuses steps; `strict` gives the pixels of the plain OpenCV chain; `diff` has gradients towards
                the image.
            dtype: `torch.uint8` or a floating-point type of the result; by default the image's own. A uint8 result is
                rounded half to even and clamped.
            impl: `cpu` (native code, an image at a time) or `torch` (the batch at once, any device); by default `cpu`
                for tensors on the CPU, except in mode `diff`.

        Returns:
            The degraded image; a list where the sizes of the results differ.

        Raises:
            TypeError: The image is neither floating-point nor uint8.
            ValueError: The image is not RGB, is empty or leaves [0, 1]; the values were drawn for another number of
                samples or other sizes; a value is out of its range. The text names the sample.
        """
        return run(self, image, params, mode=mode, dtype=dtype, impl=impl)

    def is_described_by(self, text: str) -> bool:
        """Says whether a text that `definition` gave, perhaps in an older version, describes this op.

        Args:
            text: Class and fields. A field that the text does not name, because it was added later, counts as given
                with its default of today.

        Returns:
            False also where the text is no description.
        """
        if text == definition(self):
            return True
        try:
            return _describes(ast.parse(text, mode="eval").body, self)
        except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
            return False

    # what an op is made of

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        """Draws one row per sample; `sizes` are the sizes here, `origin` those at the start of the chain."""
        raise NotImplementedError

    def _sizes(self, values: Values, sizes: Sizes) -> Sizes:
        """Gives the sizes after the op."""
        return sizes

    def _check(self, values: Values, sizes: Sizes) -> None:
        """Raises ValueError, with the sample and the reason, for values that cannot be applied."""

    def _planes(self, planes: np.ndarray, values: Values, strict: bool, dtype: type) -> np.ndarray:
        """Gives one image, planes in and planes out; ops that need no pixels override this."""
        return planes_from_pixels(self._one(pixels_from_planes(planes), values, strict), dtype)

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        """Gives one image with one row of values applied; `image` must not be changed."""
        raise NotImplementedError

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        """Gives a batch with its rows of values applied."""
        raise NotImplementedError

    def _kind(self, values: Values) -> Kind | None:
        """Says which of the steps that `_fusion` knows the op is with these values, of one sample or of a batch."""
        return None

    def _parts(self, values: Values) -> "list[Part] | None":
        """Gives what is done to one image, first to last; None for an op that is not made of others."""
        return None


Part = tuple[Op, Values]
"""An op inside another one, with its own values."""


class Combined(Op):
    """An op that is made of others."""

    def _parts(self, values: Values) -> list[Part]:
        raise NotImplementedError

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        for op, own in self._parts(values):
            image = op._one(image, own, strict)
        return image


def reject(op: Op, bad: ArrayLike, reason: str) -> None:
    """Raises ValueError naming the first sample that is bad."""
    bad = np.asarray(bad)
    if bad.any():
        raise ValueError(f"{type(op).__name__}: sample {np.flatnonzero(bad)[0]}: {reason}")


def ordered(op: Op, *ranges: str) -> None:
    """Raises an error where a range of an op is not (low, high) with low ≤ high."""
    for name in ranges:
        given = getattr(op, name)
        two = isinstance(given, (tuple, list)) and len(given) == 2 and all(isinstance(end, Real) for end in given)
        if not two or not given[0] <= given[1]:
            raise ValueError(f"{type(op).__name__}: expected {name}=(low, high) with low ≤ high, got {given!r}.")


def only_ops(op: Op, parts: object) -> None:
    """Raises an error where what an op is made of is not a tuple of ops."""
    if not isinstance(parts, tuple) or not all(isinstance(part, Op) for part in parts):
        raise TypeError(f"{type(op).__name__}: expected a tuple of ops, such as GaussianBlur(), got {parts!r}.")


def _describes(node: ast.expr, value: object) -> bool:
    if isinstance(value, tuple):
        pairs = zip(node.elts, value, strict=False) if isinstance(node, ast.Tuple) else ()
        return isinstance(node, ast.Tuple) and len(node.elts) == len(value) and all(_describes(*pair) for pair in pairs)
    if not isinstance(value, Op) or not is_dataclass(value):
        return ast.literal_eval(node) == value
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        return False
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    shown = {field.name: field for field in fields(value) if field.repr}
    return node.func.id == type(value).__name__ and given.keys() <= shown.keys() and all(
        _describes(given[name], getattr(value, name)) if name in given else getattr(value, name) == _default(field)
        for name, field in shown.items()
    )  # fmt: skip


def _default(field: Field) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def definition(op: Op) -> str:
    """Gives an op with every range of every part, as the test sets name it that were drawn from it.

    Args:
        op: Any op; the repr of a chain names its parts only.

    Example:
        >>> from codeprior.degradations import Chain, GaussianNoise
        >>> definition(Chain(ops=(GaussianNoise(sigma=(0, 20)),)))
        'Chain(ops=(GaussianNoise(sigma=(0, 20), grey=0.0, clip=True),))'
    """
    return _written(op)


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        parts = [_written(part) for part in value]
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
    if not is_dataclass(value) or isinstance(value, type):
        return repr(value)
    said = [f"{field.name}={_written(getattr(value, field.name))}" for field in fields(value) if field.repr]
    return f"{type(value).__qualname__}({', '.join(said)})"
