"""Every array of GPEN's fixtures, computed anew from names of images and weights alone.

Networks are filled under the official keys by the rule `eq` of fixtures/gpen/FIXTURES.md and converted by the library's
own layout, so that a wrong name shows here.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.discriminators import StyleGANDiscriminator
from codeprior.generators import mixed_styles
from codeprior.layers import batch_deviation
from codeprior.losses import (
    feature_matching_loss,
    logistic_discriminator_loss,
    logistic_generator_loss,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from codeprior.recipes.gpen.convert import convert
from codeprior.recipes.gpen.model import GPEN, Generated
from tests.parity import fill, gpen_layers
from tests.parity.judge import Row

Arrays = dict[str, Any]
KEYS = Path(__file__).parent / "fixtures" / "gpen"
SIZES = {"tiny": 64, "512": 512}
_RATE = 0.01  # of the mapping network


def unit(name: str, shape: tuple[int, ...]) -> Tensor:
    """Gives the standard normals of a name."""
    return fill.tensor_for(name, shape) * math.sqrt(math.prod(shape[1:]))


def filled(name: str, part: str, *, keep: Callable[[str], bool] = lambda key: True, fixed: float | None = None) -> Any:
    """Gives the network of a key list, filled by the rule `eq`.

    Args:
        name: Of the list: `tiny`, `512`, `tiny_noise_add`.
        part: `generator` or `discriminator`.
        keep: Which keys.
        fixed: What every noise weight is instead.
    """
    state = {key: value for key, value in official(name, part).items() if keep(key)}
    if fixed is not None:
        state |= {key: torch.full((1,), fixed) for key in state if key.endswith("noise.weight")}
    (module,) = convert(state).modules.values()
    return module.eval()


def official(name: str, part: str) -> dict[str, Tensor]:
    """Gives the tensors of a key list, filled by the rule `eq`.

    Args:
        name: Of the list.
        part: `generator` or `discriminator`.
    """
    keys = json.loads((KEYS / f"keys_gpen_{name}.json").read_text())[part]
    return {key: _eq(key, tuple(shape)) for key, shape, _ in keys}


def _eq(key: str, shape: tuple[int, ...]) -> Tensor:
    value = fill.tensor_for(key, shape)
    if len(shape) >= 2 and key.endswith((".weight", "input.input")):
        value = value * math.sqrt(math.prod(shape[1:]))
    if key.startswith("generator.style."):
        value = value / _RATE
    return value + 1 if key.endswith(".modulation.bias") else value


@lru_cache(maxsize=1)
def networks(size: str) -> tuple[GPEN, StyleGANDiscriminator]:
    """Gives both networks of a size."""
    return filled(size, "generator"), filled(size, "discriminator")


@torch.no_grad()
def forward(size: str, images: str) -> Arrays:
    """Gives what was recorded of one image set's forward passes.

    Args:
        size: `tiny` or `512`.
        images: Last word of the image names.
    """
    model, judge = networks(size)
    image = fill.image_for(f"gpen-{images}", 1, SIZES[size])
    deep = 8 if size == "tiny" else 4
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, key=key: seen.update({key: out}))
        for key, module in _places(model)
    ]
    out = model(image).image
    for hook in hooks:
        hook.remove()
    encoded = model.encoder(image)
    found: Arrays = {f"z_{images}": encoded.latent[0], f"w_{images}": model.generator.mapping(encoded.latent)[0]}
    for number, feature in enumerate(encoded.features):
        found |= {
            f"enc.ecd{number}_{images}_stats": _stats(feature[0]),
            f"enc.ecd{number}_{images}_crop": feature[0, :deep, :4, :4],
        }
    for key, value in seen.items():
        if key.startswith("rgb"):
            found[f"{key}_{images}"] = value[0]
            continue
        halves = value[0].chunk(2)
        few = slice(deep // 2)
        found[f"{key}_{images}_stats"] = np.stack([_stats(half) for half in halves])
        found[f"{key}_{images}_crop"] = torch.cat([half[few, :4, :4] for half in halves])
    for word, shown in (("in", image), ("out", out)):
        found |= _judged(judge, shown, f"d_{word}_{images}", whole=size == "512")
    return found | (_pictured(out, images) if size == "512" else {f"out_{images}": out[0]})


@torch.no_grad()
def extras() -> Arrays:
    """Gives what was recorded of the tiny networks beside single images: a batch, variants, the decoder alone."""
    model, judge = networks("tiny")
    both = torch.cat([fill.image_for(f"gpen-{word}", 1, 64) for word in ("open", "held")])
    single, batch = torch.cat([model(one[None]).image for one in both]), model(both).image
    found = {
        "batch2_out_maxdiff": (single - batch).abs().max(),
        "batch2_d_in_logits": judge(both)[:, 0],
        "batch2_d_out_logits": judge(batch)[:, 0],
        "variant_add_out_open": filled("tiny_noise_add", "generator")(both[:1]).image[0],
        "variant_concat_zero_out_open": filled("tiny", "generator", fixed=0.0)(both[:1]).image[0],
    }
    mapping, synthesis = model.generator.mapping, model.synthesis
    first, second = (mapping(unit(f"gpen.z{number}", (2, 512))) for number in range(2))
    noise = [
        unit(f"gpen.noise.{number}", (2, width, side, side))
        for number, (width, side) in enumerate(synthesis.noise_shapes)
    ]
    mean = mapping(unit("gpen.z2", (64, 512))).mean(0)
    truncated = model.generator(unit("gpen.z0", (2, 512)), noise=noise, truncation=0.7, mean=mean)
    return found | {
        "uncond_out": model.generator(unit("gpen.z0", (2, 512)), noise=noise),
        "uncond_w": first,
        "uncond_mix3_out": synthesis(mixed_styles(first, second, start=3, slots=synthesis.slots), noise=noise),
        "uncond_trunc07_out": truncated,
    }


def losses(images: str, real: str, *, dtype: torch.dtype) -> Arrays:
    """Gives the losses of the tiny networks and the norms of their gradients.

    Args:
        images: Name of the degraded images.
        real: Name of the clean ones.
        dtype: Of the computation.
    """
    model, judge = (module.to(dtype) for module in (filled("tiny", "generator"), filled("tiny", "discriminator")))
    low, clean = (fill.image_for(name, 2, 64).to(dtype) for name in (images, real))
    made: Generated = model(low)
    fake = made.image
    found: Arrays = {
        "latents_shape": np.array(made.styles.shape), "fake_stats": torch.stack([fake.mean(), fake.std(correction=0)]),
    }  # fmt: skip
    scores = judge(fake.detach()), judge(clean)
    found |= {"d_fake_logits": scores[0][:, 0], "d_real_logits": scores[1][:, 0]}
    loss = logistic_discriminator_loss(scores[1], scores[0])
    loss.backward()
    norms = [_norm(block) for block in (judge.start, *judge.blocks, judge.last)]
    norms.append(math.hypot(_norm(judge.gather), _norm(judge.score)))
    found |= {
        "d_loss": loss, "d_loss_gradnorm_total": _norm(judge), "d_loss_gradnorm_blocks": np.array(norms),
        "d_loss_grad_final_linear1_weight": _gradient(judge.score.weight).flatten(),
    }  # fmt: skip
    judge.zero_grad()
    shown = clean.clone().requires_grad_()
    answer = judge(shown)
    penalty = r1_penalty(answer, shown)
    (slope,) = torch.autograd.grad(answer.sum(), shown, retain_graph=True)
    (80 * penalty).backward()
    found |= {
        "r1": penalty, "r1_per_sample": slope.square().flatten(1).sum(1), "r1_weighted_16x5": 80 * penalty,
        "r1_gradnorm_total": _norm(judge),
    }  # fmt: skip
    judge.requires_grad_(False)
    found |= _generator_losses(model, judge, low, clean)
    lengths = path_lengths(made.image, made.styles, draw=unit("gpen.path_noise", (2, 3, 64, 64)).to(dtype))
    path = path_length_penalty(lengths, torch.zeros((), dtype=dtype))
    found |= {
        "path_lengths": lengths, "path_mean": path.mean, "path_penalty": path.penalty,
        "path_weighted_2x4": 8 * path.penalty,
    }  # fmt: skip
    found |= _gradients("path", model, 8 * path.penalty)
    # last, since it moves the weights
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0016, betas=(0.0, 0.99**0.8))
    _code_loss(model, judge, low, clean).backward()
    optimizer.step()
    with torch.no_grad():
        found["g_code_loss_after_1_adam_step"] = _code_loss(model, judge, low, clean)
    return found | {"group_names": np.array(list(_GROUPS))}


def _generator_losses(model: GPEN, judge: StyleGANDiscriminator, low: Tensor, clean: Tensor) -> Arrays:
    fake = model(low).image
    judged, real = judge.judge(fake), judge.judge(clean)
    pairs = list(zip(judged.features, real.features, strict=True))
    adversarial, l1, smooth = (
        logistic_generator_loss(judged.scores),
        F.l1_loss(fake, clean),
        F.smooth_l1_loss(fake, clean),
    )
    paper = adversarial + l1 + 0.02 * feature_matching_loss(judged.features, real.features)
    found = {
        "g_adv": adversarial, "l1": l1, "smooth_l1": smooth, "g_total_code": adversarial + smooth,
        "g_total_paper": paper,
        "fm_l1_layers": torch.stack([(a - b).abs().mean() for a, b in pairs]),
        "fm_l2norm_layers": torch.stack([(a - b).flatten(1).norm(dim=1).mean() for a, b in pairs]),
        "fm_mse_layers": torch.stack([F.mse_loss(a, b) for a, b in pairs]),
    }  # fmt: skip
    found |= _gradients("g_code", model, adversarial + smooth, keep=True)
    return found | _gradients("g_paper", model, paper)


def _code_loss(model: GPEN, judge: StyleGANDiscriminator, low: Tensor, clean: Tensor) -> Tensor:
    fake = model(low).image
    return logistic_generator_loss(judge(fake)) + F.smooth_l1_loss(fake, clean)


_GROUPS: Mapping[str, str] = {
    "encoder": r"encoder\.(start|down)\..*", "final_linear": r"encoder\.to_latent\..*",
    "mapping": r"generator\.mapping\..*", "const": r"generator\.synthesis\.constant",
    "modulation": r"generator\.synthesis\..*\.modulation\..*", "noise": r".*\.noise_weight",
    "conv_weight": r"generator\.synthesis\.convs\.\d+\.conv\.weight",
    "to_rgb": r"generator\.synthesis\.pictures\.\d+\.(conv\.weight|bias)",
    "activate_bias": r"generator\.synthesis\.convs\.\d+\.bias",
}  # fmt: skip
"""The recorded groups of parameters, which cover all of them, by our names."""


def _gradients(stem: str, model: GPEN, loss: Tensor, *, keep: bool = False) -> Arrays:
    model.zero_grad()
    loss.backward(retain_graph=keep)
    named = dict(model.named_parameters())
    groups = [
        math.hypot(*[_length(value) for name, value in named.items() if re.fullmatch(pattern, name)])
        for pattern in _GROUPS.values()
    ]
    weights = [cast(Any, conv).noise_weight for conv in model.synthesis.convs]
    found = {
        f"{stem}_gradnorm_total": _norm(model), f"{stem}_gradnorm_groups": np.array(groups),
        f"{stem}_grad_noise_weights": torch.cat([_gradient(weight) for weight in weights]),
    }  # fmt: skip
    model.zero_grad()
    return found


def _norm(module: nn.Module) -> float:
    return math.sqrt(sum(_length(value) ** 2 for value in module.parameters()))


def _length(value: Tensor) -> float:
    return 0.0 if value.grad is None else float(value.grad.double().norm())


def _gradient(value: Tensor) -> Tensor:
    return torch.zeros_like(value) if value.grad is None else value.grad.clone()


def _places(model: GPEN) -> Iterator[tuple[str, nn.Module]]:
    """Gives the modules whose outputs were recorded, under the recorded names."""
    for number, conv in enumerate(model.synthesis.convs):
        yield ("dec.conv1" if number == 0 else f"dec.convs.{number - 1}"), conv
    for number, picture in enumerate(model.synthesis.pictures):
        if 4 * 2**number <= 32:
            yield f"rgb.{4 * 2**number}", picture


def _stats(value: Tensor) -> np.ndarray:
    wide = value.double()
    return np.array([float(wide.mean()), float(wide.std(correction=0)), float(wide.abs().max())])


def _judged(judge: StyleGANDiscriminator, image: Tensor, stem: str, *, whole: bool) -> Arrays:
    found = judge.judge(image)
    arrays: Arrays = {
        f"{stem}_logit": found.scores[0], f"{stem}_stats": np.stack([_stats(value[0]) for value in found.features]),
    }  # fmt: skip
    if whole:
        return arrays | {f"{stem}_crops": torch.stack([value[0, :4, :4, :4] for value in found.features])}
    deviation = batch_deviation(found.features[-2])
    return arrays | {f"{stem}_stddev_channel": deviation[0, 0], f"{stem}_final_crop": found.features[-1][0, :8]}


def _pictured(out: Tensor, images: str) -> Arrays:
    channels = [out[0], *out[0]]
    return {
        f"out_{images}_ds8": F.avg_pool2d(out[0], 8), f"out_{images}_crop": out[0, :, 224:288, 224:288],
        f"out_{images}_stats": np.stack([_stats(value) for value in channels]),
    }  # fmt: skip


def file_of(path: Path) -> str | None:
    """Gives which of the recorded files a path is named for: `ops`, `losses`, `tiny` or `512`."""
    for name, pattern in _FILES.items():
        if re.match(pattern, path.stem):
            return name
    return None


_FILES = {
    "ops": r"stylegan_ops(_|$)", "losses": r"gpen_losses_tiny(_|$)", "tiny": r"gpen_tiny_eq(_|$)",
    "512": r"gpen_512_eq(_|$)",
}  # fmt: skip
WORDS = ("open", "held")


def rows_of(path: Path) -> Iterator[Row]:
    """Gives a row for every array of a recorded file; whose images it shows is in the arrays' names.

    Args:
        path: The file.
    """
    name = file_of(path)
    with np.load(path, allow_pickle=False) as stored:
        ours = dict(_computed(str(name), stored.files))
        for array in stored.files:
            yield _row(path.name, array, stored[array], ours)


def _computed(name: str, arrays: list[str]) -> Arrays:
    if name == "ops":
        with torch.no_grad():
            return {array: value() for array, value in gpen_layers.RECORDED.items()}
    if name == "losses":
        found = losses("gpen-open", "gpen-held", dtype=torch.float64)
        return found | {
            f"fp32.{array}": v for array, v in losses("gpen-open", "gpen-held", dtype=torch.float32).items()
        }
    found: Arrays = {}
    for word in WORDS:
        if any(re.search(rf"(^|_){word}(_|$)", array) for array in arrays):
            found |= forward(name, word)
    return found | (extras() if name == "tiny" and any(re.match("uncond|variant|batch2", a) for a in arrays) else {})


def _row(file: str, array: str, stored: np.ndarray, ours: Arrays) -> Row:
    if array not in ours:
        return Row(file, array, None, None, "UNKNOWN to this report")
    value = ours[array].detach().numpy() if isinstance(ours[array], Tensor) else np.asarray(ours[array])
    if array == "group_names":
        same = float([str(word) for word in value] != [str(word) for word in stored])
        return Row(file, array, 0, same, "OUT" if same else "within")
    tolerance, relative = _tolerance(file, array, stored)
    if value.shape != stored.shape or not np.isfinite(value).all():
        return Row(file, array, tolerance, None, f"OUT: shape {value.shape}, stored {stored.shape}, or not finite")
    difference = np.abs(value.astype(np.float64) - stored.astype(np.float64))
    if relative:
        # of a vector of gradients, small ones are sums of large ones that cancel: they are held to the largest
        difference = difference / max(float(np.abs(stored).max()), 1e-12)
    measured = float(difference.max())
    return Row(file, array, tolerance, measured, "within" if measured <= tolerance else "OUT")


def _tolerance(file: str, array: str, stored: np.ndarray) -> tuple[float, bool]:
    """Gives what FIXTURES.md suggests, and whether it is relative."""
    bare = array.removeprefix("fp32.")
    if "losses" not in file:
        if "logit" in array:
            return 1e-4, True
        return (4e-3 if stored.dtype == np.float16 else 1e-4), False
    gradients = "grad" in bare or bare.startswith(("r1", "path")) or bare == "g_code_loss_after_1_adam_step"
    return (1e-3 if gradients else 1e-4), True
