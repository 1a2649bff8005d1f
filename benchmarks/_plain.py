"""DAEFR's forward pass written out as its formulas say, on the weights of our modules, with nothing fused."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def restore(model: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """Signed faces to signed faces and the indices of the codes that were chosen."""
    stream, guide = encode(model.hq_encoder, image), encode(model.lq_encoder, image)
    logits = predict(model.predictor, attend(model.fusion.attention, stream, guide))
    indices = torch.softmax(logits, dim=-1).argmax(-1)
    one_hot = F.one_hot(indices, model.prior.codebook.size).to(image.dtype)
    codes = rearrange(one_hot @ model.prior.codebook.weight, "b h w d -> b d h w").contiguous()
    return decode(model.prior.decoder, codes), indices


def encode(encoder: nn.Module, image: Tensor) -> Tensor:
    feature = encoder.conv_in(image)
    for level in encoder.levels:
        feature = steps(level.steps, feature)
    feature = steps(encoder.middle, feature)
    return encoder.to_code(encoder.conv_out(swish(encoder.norm_out(feature))))


def decode(decoder: nn.Module, codes: Tensor) -> Tensor:
    feature = steps(decoder.middle, decoder.conv_in(decoder.from_code(codes)))
    for level in reversed(decoder.levels):
        feature = steps(level.steps, feature)
        if hasattr(level.resample, "conv"):
            feature = level.resample.conv(F.interpolate(feature, scale_factor=2.0, mode="nearest"))
    return decoder.conv_out(swish(decoder.norm_out(feature)))


def steps(parts: nn.Sequential, feature: Tensor) -> Tensor:
    for part in parts:
        if hasattr(part, "query"):
            feature = attend(part, feature)
        elif hasattr(part, "conv1"):
            hidden = part.conv1(swish(part.norm1(feature)))
            feature = part.skip(feature) + part.conv2(swish(part.norm2(hidden)))
        else:
            feature = part.conv(F.pad(feature, (0, 1, 0, 1)))
    return feature


def attend(block: nn.Module, stream: Tensor, guide: Tensor | None = None) -> Tensor:
    source = block.norm(stream)
    asking = source if guide is None else block.norm_guide(guide)
    query, key, value = (
        rearrange(layer(feature), "b (m c) h w -> b m c (h w)", m=block.heads)
        for layer, feature in ((block.query, asking), (block.key, source), (block.value, source))
    )
    weights = torch.softmax(query.transpose(2, 3) @ key * query.shape[2] ** -0.5, dim=-1)
    answer = rearrange(value @ weights.transpose(2, 3), "b m c (h w) -> b (m c) h w", h=stream.shape[2])
    return stream + block.project(answer)


def predict(predictor: nn.Module, latent: Tensor) -> Tensor:
    tokens = predictor.embed(rearrange(latent, "b d h w -> b (h w) d"))
    for layer in predictor.layers:
        value = layer.norm1(tokens)
        placed = value + predictor.position
        weights, biases = layer.query_key_value.weight.chunk(3), layer.query_key_value.bias.chunk(3)
        query, key, values = (
            rearrange(F.linear(given, weight, bias), "b n (m c) -> b m n c", m=layer.heads)
            for given, weight, bias in zip((placed, placed, value), weights, biases, strict=True)
        )
        shares = torch.softmax(query @ key.transpose(2, 3) * query.shape[3] ** -0.5, dim=-1)
        tokens = tokens + layer.project(rearrange(shares @ values, "b m n c -> b n (m c)"))
        tokens = tokens + layer.contract(F.gelu(layer.expand(layer.norm2(tokens))))
    return rearrange(predictor.to_logits(predictor.norm_out(tokens)), "b (h w) k -> b h w k", h=latent.shape[2])


def swish(feature: Tensor) -> Tensor:
    return feature * torch.sigmoid(feature)
