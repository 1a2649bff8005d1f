"""The pyramid of a VQGAN, read from a checkpoint: our names for its tensors, and its sizes.

Checkpoints of different origins name the same steps differently: as a flat list, as lists in lists, or with a word for
each. A layout gives the prefixes of the steps in the order in which they are run; the tensors under a prefix show what
kind of step it is.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from torch import Tensor

State = Mapping[str, Tensor]
"""Tensors by their names in the checkpoint."""

_BLOCK = {"nin_shortcut": "skip", "conv_out": "skip", "shortcut_conv": "skip", "residual_func": "skip"}
_ATTENTION = {
    "norm": "norm", "norm1": "norm", "norm2": "norm_guide", "q": "query", "k": "key", "v": "value",
    "proj_out": "project",
}  # fmt: skip
_LAYER = {
    "self_attn.in_proj_weight": "query_key_value.weight",
    "self_attn.in_proj_bias": "query_key_value.bias",
    "self_attn.out_proj": "project",
    "linear1": "expand",
    "linear2": "contract",
}


class Ladder(NamedTuple):
    """An encoder or a decoder of a checkpoint.

    Attributes:
        names: Our name of each tensor, within the network, by the checkpoint's key.
        sizes: Keyword arguments of our class.
    """

    names: dict[str, str]
    sizes: dict


class _Step(NamedTuple):
    where: str
    kind: Literal["convolution", "norm", "residual", "attention", "resampling"]
    keys: dict[str, str]
    """What stands after the prefix, by the whole key."""


def read_encoder(state: State, steps: Sequence[str], *, bilinear: bool = False) -> Ladder:
    """Gives the names and sizes of an encoder.

    Args:
        state: The checkpoint.
        steps: Prefixes of its steps, in the order in which they are run.
        bilinear: Whether its grids are halved bilinearly, which no tensor shows.

    Raises:
        ValueError: The steps are not those of an encoder.
    """
    first, *body, norm, last = _steps(state, steps)
    for step, kind in ((first, "convolution"), (norm, "norm"), (last, "convolution")):
        _expect("encoder", step, kind)
    middle = _has_middle(body)
    levels = _split(body[: len(body) - 3 * middle])
    names = _renamed(first, "conv_in") | _renamed(norm, "norm_out") | _renamed(last, "conv_out")
    for index, (blocks, resampling) in enumerate(levels):
        steps_here = blocks if resampling is None else [*blocks, resampling]
        for number, step in enumerate(steps_here):
            names |= _renamed(step, f"levels.{index}.steps.{number}")
    for number, step in enumerate(body[len(body) - 3 * middle :]):
        names |= _renamed(step, f"middle.{number}")
    sizes = _sizes(state, levels, channels=_width(state, first)) | {"middle": middle, "bilinear": bilinear}
    return Ladder(names, sizes | {"dim": _width(state, last)})


def read_decoder(state: State, steps: Sequence[str], *, bilinear: bool = False) -> Ladder:
    """Gives the names and sizes of a decoder.

    Args:
        state: The checkpoint.
        steps: Prefixes of its steps, in the order in which they are run.
        bilinear: Whether its grids are doubled bilinearly, which no tensor shows.

    Raises:
        ValueError: The steps are not those of a decoder.
    """
    found = _steps(state, steps)
    widening = found[0].kind == "convolution"
    *body, norm, last = found[widening:]
    for step, kind in ((norm, "norm"), (last, "convolution")):
        _expect("decoder", step, kind)
    middle = len(body) > 2 and body[0].kind == "residual" and body[1].kind == "attention" and body[2].kind == "residual"
    # a level with attention looks like the middle, unless another attention follows its second block
    middle = middle and not (len(body) > 3 and body[3].kind == "attention")
    levels = _split(body[3 * middle :])[::-1]
    names = _renamed(norm, "norm_out") | _renamed(last, "conv_out")
    names |= _renamed(found[0], "conv_in") if widening else {}
    for number, step in enumerate(body[: 3 * middle]):
        names |= _renamed(step, f"middle.{number}")
    for index, (blocks, resampling) in enumerate(levels):
        for number, step in enumerate(blocks):
            names |= _renamed(step, f"levels.{index}.steps.{number}")
        names |= _renamed(resampling, f"levels.{index}.resample") if resampling else {}
    channels = next(iter(state[f"{norm.where}.weight"].shape))
    sizes = _sizes(state, levels, channels=channels) | {"middle": middle, "bilinear": bilinear, "widening": widening}
    return Ladder(names, sizes | ({"dim": state[f"{found[0].where}.weight"].shape[1]} if widening else {}))


def read_step(state: State, where: str, mine: str) -> dict[str, str]:
    """Gives our names of the tensors of one step by itself, by the checkpoint's keys.

    Args:
        state: The checkpoint.
        where: The step's prefix.
        mine: Our prefix.
    """
    return _renamed(_steps(state, [where])[0], mine)


def predictor_name(key: str) -> str | None:
    """Gives our name for a tensor of the code predictor that CodeFormer and DAEFR share, or None for another tensor.

    Args:
        key: The checkpoint's.
    """
    head, _, rest = key.partition(".")
    if head == "ft_layers":
        number, _, name = rest.partition(".")
        for theirs, mine in _LAYER.items():
            name = name.replace(theirs, mine)
        return f"predictor.layers.{number}.{name}"
    known = {
        "position_emb": "position",
        "feat_emb": "embed",
        "idx_pred_layer.0": "norm_out",
        "idx_pred_layer.1": "to_logits",
    }
    for theirs, mine in known.items():
        if key == theirs or key.startswith(f"{theirs}."):
            return f"predictor.{mine}{key.removeprefix(theirs)}"
    return None


def account(state: State, names: Mapping[str, str], *, who: str) -> dict[str, Tensor]:
    """Gives the tensors under our names; a key without a name is an error.

    Args:
        state: The checkpoint, without what is dropped.
        names: Our name for each key.
        who: The layout, for the error.

    Raises:
        ValueError: There is a key without a name.
    """
    surplus = [key for key in state if key not in names]
    if surplus:
        more = f" and {len(surplus) - 1} more" if len(surplus) > 1 else ""
        raise ValueError(f"{who}: no such model has the tensor {surplus[0]}{more}.")
    return {names[key]: value for key, value in state.items()}


def _steps(state: State, prefixes: Sequence[str]) -> list[_Step]:
    steps = []
    for where in prefixes:
        keys = {key: key.removeprefix(f"{where}.") for key in state if key.startswith(f"{where}.")}
        if not keys:
            raise ValueError(f"the checkpoint holds nothing under {where}, so it is a part of a model only.")
        inside = set(keys.values())
        if "q.weight" in inside:
            kind = "attention"
        elif "conv2.weight" in inside:
            kind = "residual"
        elif "conv.weight" in inside:
            kind = "resampling"
        elif "weight" in inside:
            kind = "norm" if state[f"{where}.weight"].ndim == 1 else "convolution"
        else:
            raise ValueError(f"the checkpoint holds only {sorted(inside)[0]} under {where}, which is no whole step.")
        steps.append(_Step(where, kind, keys))
    if len(steps) < 1:
        raise ValueError("the checkpoint holds none of the network's steps.")
    return steps


def _expect(who: str, step: _Step, kind: str) -> None:
    if step.kind != kind:
        raise ValueError(f"its {who} has a {step.kind} at {step.where}, where a {kind} is expected; is it whole?")


def _has_middle(body: Sequence[_Step]) -> bool:
    return len(body) > 2 and [step.kind for step in body[-3:]] == ["residual", "attention", "residual"]


def _split(body: Sequence[_Step]) -> list[tuple[list[_Step], _Step | None]]:
    """Gives the blocks of each level and what stands after it."""
    levels: list[tuple[list[_Step], _Step | None]] = []
    blocks: list[_Step] = []
    for step in body:
        if step.kind == "resampling":
            levels.append((blocks, step))
            blocks = []
        else:
            blocks.append(step)
    return [*levels, (blocks, None)]


def _sizes(state: State, levels: Sequence[tuple[list[_Step], _Step | None]], *, channels: int) -> dict:
    widths = [state[f"{blocks[0].where}.conv2.weight"].shape[0] for blocks, _ in levels]
    return {
        "channels": channels,
        "multipliers": [width // channels for width in widths],
        "blocks": sum(step.kind == "residual" for step in levels[0][0]),
        "attention": [index for index, (blocks, _) in enumerate(levels) if any(s.kind == "attention" for s in blocks)],
    }


def _width(state: State, step: _Step) -> int:
    return state[f"{step.where}.weight"].shape[0]


def _renamed(step: _Step, mine: str) -> dict[str, str]:
    table = {"residual": _BLOCK, "attention": _ATTENTION}.get(step.kind, {})
    names = {}
    for key, inside in step.keys.items():
        head, _, leaf = inside.partition(".")
        names[key] = ".".join(part for part in (mine, table.get(head, head), leaf) if part)
    return names
