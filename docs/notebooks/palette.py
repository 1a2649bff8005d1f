# %% [markdown]
# # A codebook you can see: sixteen colours
#
# A codebook is a table of vectors. In a face restorer a code is 256 numbers and hard to look at; here a code is a colour,
# so the whole story fits into pictures. A photograph `b 3 H W` is a latent with code dimension 3.

# %%
import numpy as np
import torch
from matplotlib import pyplot
from skimage import data

import codeprior as cp

photograph = torch.from_numpy(np.ascontiguousarray(data.astronaut())).permute(2, 0, 1)[None] / 255  # b 3 H W, unit
latent = photograph[:, :, ::4, ::4]
latent.shape

# %% [markdown]
# ## Codes that follow the data
#
# `MovingAverageCodebook` moves each code towards the mean of the vectors that chose it. It updates itself in training mode
# and brings codes back to life that nothing chooses any more.

# %%
torch.manual_seed(0)
codebook = cp.MovingAverageCodebook(16, 3, decay=0.9)
errors = []
for _ in range(60):
    quantized = codebook(latent)
    errors.append(float((quantized.codes - latent).square().mean()))
codebook.eval()
print(f"mean squared error: {errors[0]:.4f} at first, {errors[-1]:.5f} after {len(errors)} passes")

# %%
quantized = codebook(latent)
figure, axes = pyplot.subplots(1, 3, figsize=(11, 4))
axes[0].imshow(latent[0].permute(1, 2, 0))
axes[0].set_title("latent")
axes[1].imshow(quantized.indices[0], cmap="tab20")
axes[1].set_title("indices")
axes[2].imshow(quantized.codes[0].permute(1, 2, 0).clamp(0, 1))
axes[2].set_title("codes")
for axis in axes:
    axis.axis("off")

# %% [markdown]
# ## How much of the table is used
#
# Perplexity says how many codes are used in effect: 16 if all are chosen equally often, 1 if one is chosen always. A table
# whose perplexity falls during training is collapsing.

# %%
counts = cp.codebooks.usage(quantized.indices, 16)
figure, axis = pyplot.subplots(figsize=(7, 2.5))
colours = codebook.lookup(torch.arange(16)[None, None])[0, :, 0].T.clamp(0, 1)  # k d
axis.bar(range(16), counts.tolist(), color=colours.tolist(), edgecolor="black", linewidth=0.5)
axis.set_xlabel("code")
axis.set_ylabel("places")
print(f"perplexity {float(cp.codebooks.perplexity(counts)):.1f} of 16")

# %% [markdown]
# ## Two gradients
#
# `values` and `codes` hold the same numbers. Through `values` the gradient goes straight to the latent, as if nothing had
# been exchanged; a table that learns by gradient gets its own through `codes`.

# %%
table = cp.Codebook(16, 3)
vector = torch.rand(1, 3, 2, 2, requires_grad=True)
values, codes, _ = table(vector)
values.sum().backward()
assert torch.equal(vector.grad, torch.ones_like(vector)) and table.weight.grad is None
codes.sum().backward()
table.weight.grad.sum(dim=1).tolist()
