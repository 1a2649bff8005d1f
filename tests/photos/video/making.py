"""Clips made from a photograph with known motion, and what stands in for a network and a detector."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from codeprior.photos.faces import Face, resample, template

SIDE = 240


def portrait() -> torch.Tensor:
    """The astronaut, `3 240 240`, unit."""
    astronaut = pytest.importorskip("skimage.data").astronaut()
    return rearrange(torch.from_numpy(astronaut[10:250, 110:350].copy()), "h w c -> c h w").float() / 255


def moving(frames: int, *, seed: int = 0, noise: float = 8.0, still: bool = False) -> tuple[list, np.ndarray]:
    """Frames of the portrait that moves, turns and grows, reduced by 4 and noisy; and where the first frame's went."""
    generator, picture, made, motion = torch.Generator().manual_seed(seed), portrait(), [], []
    for at in range(frames):
        time = 0 if still else at
        turn, scale = 0.01 * time, 1 + 0.004 * time
        matrix = np.array(
            [
                [np.cos(turn) * scale, -np.sin(turn) * scale, 1.3 * time],
                [np.sin(turn) * scale, np.cos(turn) * scale, 0.7 * time],
            ]
        )
        back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
        frame = resample(picture, back, height=SIDE, width=SIDE, padding="border").clamp(0, 1)
        small = F.interpolate(frame[None], scale_factor=0.25, mode="area")
        frame = F.interpolate(small, size=(SIDE, SIDE), mode="bicubic")[0]
        frame = (frame + torch.randn(frame.shape, generator=generator) * noise / 255).clamp(0, 1)
        made.append(rearrange(frame * 255, "c h w -> h w c").round().byte().numpy())
        motion.append(matrix)
    return made, np.stack(motion)


def tensor(frames: list) -> torch.Tensor:
    return torch.stack([rearrange(torch.from_numpy(frame.copy()), "h w c -> c h w").float() / 255 for frame in frames])


def write_clip(
    path: Path, frames: list, *, times: list[int] | None = None, sound: bool = False, pix_fmt: str = "yuv420p",
    codec: str = "libx264", rate: int = 25,
) -> None:  # fmt: skip
    """Encodes a clip; times are in 1/1000 s, 40 apart where none are given."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'codeprior[video]'")
    with av.open(str(path), "w") as out:
        options = {"crf": "4", "bf": "0"} if codec == "libx264" else {}
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        tone = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for at, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = (times[at] if times else 40 * at), Fraction(1, 1000)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
        if tone is not None:
            samples = (np.sin(np.arange(16000) / 16000 * 2 * np.pi * 440) * 9000).astype(np.int16)
            for start in range(0, 16000, 1024):
                part = samples[None, start : start + 1024]
                heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="s16", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = 16000, start, Fraction(1, 16000)
                out.mux(tone.encode(heard))
            out.mux(tone.encode(None))


def read_clip(path: Path) -> tuple[list, list]:
    """Pixels and times in seconds of every frame."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as clip:
        found = [(frame.to_ndarray(format="rgb24"), frame.pts * frame.time_base) for frame in clip.decode(video=0)]
    return [pixels for pixels, _ in found], [time for _, time in found]


def read_sound(path: Path) -> list[tuple]:
    av = pytest.importorskip("av")
    with av.open(str(path)) as clip:
        return [
            (packet.pts * packet.time_base, bytes(packet)) for packet in clip.demux(audio=0) if packet.pts is not None
        ]


class Middle:
    """Finds one face in the middle of a picture of the full size, and none in a part of it."""

    def __init__(self, *, side: int = SIDE):
        self.side, self.asked = side, 0

    def __call__(self, photo: np.ndarray) -> list[Face]:
        self.asked += 1
        if max(photo.shape[:2]) < self.side:
            return []
        height, width = photo.shape[:2]
        points = (template(512) + 0.5) / 4 - 64 + np.array([width / 2, height / 2])
        return [Face(np.array([width / 2 - 40, height / 2 - 40, width / 2 + 40, height / 2 + 40]), points, 0.99)]


class Brighter:
    """Restores by making everything brighter; remembers how many faces it was asked about."""

    size = 32

    def __init__(self):
        self.asked: list[int] = []  # shared with copies

    @property
    def faces(self) -> int:
        return sum(self.asked)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(images))
        return (images + 0.2).clamp(0, 1)
