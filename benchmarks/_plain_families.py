"""The forward passes of CodeFormer, VQFR and RestoreFormer written out as their formulas say, with nothing fused.

They run on the weights of our modules. Source: the papers, and the facts that the families' READMEs give.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from benchmarks._plain import attend, predict, swish

Change = Callable[[Tensor], Tensor]
_MIDDLE = 0  # the place of the middle among the strides


def codeformer(model: Any, image: Tensor, *, fidelity: float) -> Tensor:
    """Signed faces to signed faces: predicted codes with the face's statistics, and the decoder's features changed."""
    latent, features = encode(model.encoder, image)
    codes = looked_up(model.prior.codebook.weight, torch.softmax(predict(model.predictor, latent), -1).argmax(-1))
    changes: dict[int, Change] = {}
    for stride, block in zip(model.taps.strides, model.taps.modulations, strict=True):
        changes[stride] = lambda feature, block=block, guide=features[stride]: transformed(
            block, feature, guide, fidelity
        )
    return decode(model.prior.decoder, statistics_of(codes, latent), changes=changes)[0]


def restoreformer(model: Any, image: Tensor) -> Tensor:
    """Signed faces to signed faces: nearest codes, and the decoder's attention asked by the encoder's features."""
    latent, features = encode(model.encoder, image)
    codes = nearest(model.codebook.weight, latent)
    guides = {place: features[source.stride, source.block] for place, source in model._sources().items()}
    return decode(model.decoder, latent + (codes - latent), guides=guides)[0]


def vqfr_v1(model: Any, image: Tensor) -> Tensor:
    """Signed faces to signed faces: nearest codes, their textures warped, and a head that also sees the face."""
    latent, _ = encode(model.encoder, image)
    codes = nearest(model.codebook.weight, latent)
    _, textures = decode(model.decoder, latent + (codes - latent))
    feature = model.norm_out(branch(model.branch, textures, image))
    return model.conv_out(torch.cat((feature, image), 1))


def vqfr_v2(model: Any, image: Tensor, *, fidelity: float) -> Tensor:
    """Signed faces to signed faces: linearly predicted codes, and the branch's feature added to the finest texture."""
    latent, _ = encode(model.encoder, image)
    tokens = model.predictor.norm(rearrange(latent, "b d h w -> b h w d"))
    codes = looked_up(model.prior.codebook.weight, torch.softmax(model.predictor.to_logits(tokens), -1).argmax(-1))
    decoder = model.prior.decoder
    _, textures = decode(decoder, codes)
    finest = min(textures)
    feature = textures[finest] + fidelity * branch(model.branch, textures, image)
    return decoder.conv_out(swish(decoder.norm_out(feature)))


def encode(encoder: Any, image: Tensor) -> tuple[Tensor, Mapping[Any, Tensor]]:
    """Gives the latent, and the features at the end of each level and in the middle."""
    feature, features = encoder.conv_in(image), {}
    for stride, level in zip(encoder.tap_channels, encoder.levels, strict=True):
        *blocks, last = level.steps
        for part in blocks if level.halve else level.steps:
            feature = step(part, feature)
        features[stride] = features[stride, None] = features[stride, -1] = feature
        if level.halve:
            feature = step(last, feature)
    for number, part in enumerate(encoder.middle):
        feature = step(part, feature)
        if hasattr(part, "conv1"):
            features[_MIDDLE, number // 2] = feature
    features[_MIDDLE, None] = features[_MIDDLE, -1] = feature
    feature = encoder.norm_out(feature)
    return encoder.to_code(encoder.conv_out(swish(feature) if encoder.activated else feature)), features


def decode(
    decoder: Any,
    values: Tensor,
    *,
    changes: Mapping[int, Change] | None = None,
    guides: Mapping[int, Tensor] | None = None,
) -> tuple[Tensor, dict[int, Tensor]]:
    """Gives the picture, and the features at the end of each level; changes come after a level's first step."""
    changes, guides, textures = changes or {}, guides or {}, {}
    feature = decoder.conv_in(decoder.from_code(values))
    for part in decoder.middle:
        feature = step(part, feature, guides.get(_MIDDLE))
    for stride, level in zip(reversed(decoder.tap_channels), reversed(decoder.levels), strict=True):
        for number, part in enumerate(level.steps):
            feature = step(part, feature, guides.get(stride))
            if number == level.each - 1 and stride in changes:
                feature = changes[stride](feature)
        textures[stride] = feature
        if hasattr(level.resample, "conv"):
            feature = doubled(level.resample, feature)
    feature = decoder.norm_out(feature)
    return decoder.conv_out(swish(feature) if decoder.activated else feature), textures


def step(part: Any, feature: Tensor, guide: Tensor | None = None) -> Tensor:
    if hasattr(part, "query"):
        return attend(part, feature, guide)
    if hasattr(part, "conv1"):
        hidden = part.conv1(swish(part.norm1(feature)))
        return part.skip(feature) + part.conv2(swish(part.norm2(hidden)))
    if hasattr(part, "rate"):
        size = (feature.shape[-2] // part.rate, feature.shape[-1] // part.rate)
        return part.conv(F.interpolate(feature, size=size, mode="bilinear", align_corners=False))
    return part.conv(F.pad(feature, (0, 1, 0, 1)))


def doubled(part: Any, feature: Tensor) -> Tensor:
    if type(part).__name__ == "BilinearUpsample":
        return F.interpolate(part.conv(feature), scale_factor=2.0, mode="bilinear", align_corners=False)
    return part.conv(F.interpolate(feature, scale_factor=2.0, mode="nearest"))


def transformed(block: Any, feature: Tensor, guide: Tensor, weight: float) -> Tensor:
    joined = step(block.join, torch.cat((guide, feature), 1))
    scale, shift = (second(rectified(first(joined))) for first, rectified, second in (block.scale, block.shift))
    return feature + weight * (feature * scale + shift)


def branch(parts: Any, textures: Mapping[int, Tensor], image: Tensor) -> Tensor:
    condition = parts.look(image)
    feature, trace = warped(parts.warps[0], textures[parts.strides[0]], condition, None)
    for number, stride in enumerate(parts.strides[1:]):
        trace = 2 * F.interpolate(trace, scale_factor=2.0, mode="bilinear", align_corners=False)
        texture, trace = warped(parts.warps[number + 1], textures[stride], condition, trace)
        feature = step(parts.blocks[number], torch.cat((doubled(parts.grow[number], feature), texture), 1))
    return feature


def warped(part: Any, texture: Tensor, condition: Tensor, trace: Tensor | None) -> tuple[Tensor, Tensor]:
    from torchvision.ops import deform_conv2d

    size = texture.shape[-2:]
    if part.shrink is not None:
        condition = step(part.shrink, condition)
    elif part.rate > 1:
        condition = F.interpolate(condition, size=size, mode="bilinear", align_corners=False)
    seen = part.look(torch.cat((condition, texture), 1))
    joined = part.join(seen if trace is None else torch.cat((seen, trace), 1))
    raw = part.warp.offsets(joined)
    split = raw.shape[1] * 2 // 3
    mask = torch.sigmoid(raw[:, split:])
    answer = deform_conv2d(texture, raw[:, :split], part.warp.weight, part.warp.bias, padding=(1, 1), mask=mask)
    return answer, joined


def nearest(table: Tensor, latent: Tensor) -> Tensor:
    rows = rearrange(latent, "b d h w -> (b h w) d")
    distances = rows.square().sum(1, keepdim=True) + table.square().sum(1) - 2 * rows @ table.T
    return looked_up(table, rearrange(distances.argmin(1), "(b h w) -> b h w", b=len(latent), h=latent.shape[2]))


def looked_up(table: Tensor, indices: Tensor) -> Tensor:
    one_hot = F.one_hot(indices, len(table)).to(table.dtype)
    return rearrange(one_hot @ table, "b h w d -> b d h w").contiguous()


def statistics_of(stream: Tensor, guide: Tensor) -> Tensor:
    mean, spread = stream.mean((2, 3), keepdim=True), (stream.var((2, 3), keepdim=True) + 1e-5).sqrt()
    wanted, width = guide.mean((2, 3), keepdim=True), (guide.var((2, 3), keepdim=True) + 1e-5).sqrt()
    return (stream - mean) / spread * width + wanted
