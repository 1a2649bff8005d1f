"""The layout of taming-transformers, which RestoreFormer and DAEFR keep: the steps of its pyramids in order."""

import re

from codeprior.weights.layouts.ladder import State


def encoder_steps(state: State, prefix: str) -> list[str]:
    """Gives the prefixes of an encoder's steps, in the order in which they are run.

    Args:
        state: The checkpoint.
        prefix: The encoder's, such as `encoder`.

    Raises:
        ValueError: There is no such encoder.
    """
    steps = [f"{prefix}.conv_in"]
    for level in range(_levels(state, f"{prefix}.down")):
        steps += _level(state, f"{prefix}.down.{level}", "downsample")
    return [*steps, *_middle(prefix), f"{prefix}.norm_out", f"{prefix}.conv_out"]


def decoder_steps(state: State, prefix: str) -> list[str]:
    """Gives the prefixes of a decoder's steps, in the order in which they are run.

    Args:
        state: The checkpoint.
        prefix: The decoder's, such as `decoder`.

    Raises:
        ValueError: There is no such decoder.
    """
    steps = [f"{prefix}.conv_in", *_middle(prefix)]
    for level in reversed(range(_levels(state, f"{prefix}.up"))):
        steps += _level(state, f"{prefix}.up.{level}", "upsample")
    return [*steps, f"{prefix}.norm_out", f"{prefix}.conv_out"]


def _levels(state: State, prefix: str) -> int:
    return 1 + max(_numbers(state, prefix), default=-1)


def _level(state: State, where: str, resampling: str) -> list[str]:
    steps = []
    for number in sorted(_numbers(state, f"{where}.block")):
        steps.append(f"{where}.block.{number}")
        if f"{where}.attn.{number}.q.weight" in state:
            steps.append(f"{where}.attn.{number}")
    return steps + [f"{where}.{resampling}"] * (f"{where}.{resampling}.conv.weight" in state)


def _middle(prefix: str) -> list[str]:
    return [f"{prefix}.mid.{step}" for step in ("block_1", "attn_1", "block_2")]


def _numbers(state: State, prefix: str) -> set[int]:
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return {int(match[1]) for match in map(pattern.match, state) if match}
