# %% [markdown]
# # Damage that can be replayed
#
# A restorer learns from pairs: a clean picture, and the same picture damaged. Here damage is drawn from ranges by a
# generator and then applied, in two steps, so that every damaged picture can be explained and made again.

# %%
import numpy as np
import torch
from matplotlib import pyplot
from skimage import data
from torch.nn import functional as F

import codeprior as cp

photograph = torch.from_numpy(np.ascontiguousarray(data.astronaut())).permute(2, 0, 1) / 255  # 3 H W, unit
# the preset's ranges are meant for a face that fills 512 pixels
face = F.interpolate(photograph[None, :, 10:190, 130:310], size=512, mode="bicubic")[0].clamp(0, 1)
damage = cp.degradations.preset("daefr")
damage

# %% [markdown]
# ## One picture, six seeds
#
# A generator is asked for, never assumed; the global one is left alone. The same seed gives the same damage.

# %%
pictures = [damage(face, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]
assert torch.equal(pictures[3], damage(face, generator=torch.Generator().manual_seed(3)))
figure, axes = pyplot.subplots(2, 3, figsize=(10, 7))
for seed, (axis, picture) in enumerate(zip(axes.flat, pictures, strict=True)):
    axis.imshow(picture.permute(1, 2, 0).clamp(0, 1))
    axis.set_title(f"seed {seed}")
    axis.axis("off")

# %% [markdown]
# ## What was drawn
#
# `trace` gives the picture with the parameters that were drawn on the way, and `apply` makes the picture again from them.

# %%
image, params = damage.trace(face, generator=torch.Generator().manual_seed(3))
assert torch.equal(damage.apply(face, params), image)
for name, value in params.values.items():
    print(f"{name:28} {value[0].tolist()}")

# %% [markdown]
# ## How strong is it?
#
# PSNR of 40 draws. The preset is wide on purpose: blur of up to 15 pixels, a picture shrunk to as little as a thirtieth.

# %%
def psnr(first, second):
    return float(-10 * (first - second).square().mean().log10())


generator = torch.Generator().manual_seed(0)
values = [psnr(damage(face, generator=generator), face) for _ in range(40)]
figure, axis = pyplot.subplots(figsize=(6, 2.5))
axis.hist(values, bins=12)
axis.set_xlabel("PSNR of the face, dB")
print(f"from {min(values):.1f} dB to {max(values):.1f} dB")
