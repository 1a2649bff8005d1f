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

import codeprior as cp

photograph = torch.from_numpy(np.ascontiguousarray(data.astronaut())).permute(2, 0, 1) / 255  # 3 H W, unit
damage = cp.degradations.preset("daefr")
damage

# %% [markdown]
# ## One picture, six seeds
#
# A generator is asked for, never assumed; the global one is left alone. The same seed gives the same damage.

# %%
pictures = [damage(photograph, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]
assert torch.equal(pictures[3], damage(photograph, generator=torch.Generator().manual_seed(3)))
figure, axes = pyplot.subplots(2, 3, figsize=(10, 7))
for seed, (axis, picture) in enumerate(zip(axes.flat, pictures, strict=True)):
    axis.imshow(picture[:, :256, 96:352].permute(1, 2, 0).clamp(0, 1))
    axis.set_title(f"seed {seed}")
    axis.axis("off")

# %% [markdown]
# ## What was drawn
#
# `trace` gives the picture with the parameters that were drawn on the way.

# %%
trace = damage.trace(photograph, generator=torch.Generator().manual_seed(3))
trace.params if hasattr(trace, "params") else trace[1]

# %% [markdown]
# ## How strong is it?
#
# PSNR of 40 draws: the `daefr` preset is wide on purpose, from nearly clean to hopeless.

# %%
def psnr(first, second):
    return float(-10 * (first - second).square().mean().log10())


generator = torch.Generator().manual_seed(0)
face = photograph[:, :256, 96:352]
values = [psnr(damage(photograph, generator=generator)[:, :256, 96:352], face) for _ in range(40)]
figure, axis = pyplot.subplots(figsize=(6, 2.5))
axis.hist(values, bins=12)
axis.set_xlabel("PSNR of the face, dB")
print(f"from {min(values):.1f} dB to {max(values):.1f} dB")
