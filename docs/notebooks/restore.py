# %% [markdown]
# # Restore a face, and look inside
#
# A face is damaged, restored by the small prior that comes with the package, and then the codes are shown that the model
# chose: where it was sure, where it guessed, and what a face is made of. Everything runs on a CPU, offline.

# %%
import torch
from matplotlib import pyplot
from skimage import data

import codeprior as cp
from codeprior.photos.faces import align, detector
from codeprior.restorers import entropy, load_restorer

photograph = data.astronaut()  # H W 3, 8-bit levels
face = detector()(photograph)[0]
clean = align(photograph, face.points, size=512).image[None]  # 1 3 512 512, unit
restorer = load_restorer("small")
restorer

# %% [markdown]
# ## Damage it, restore it
#
# The preset `daefr` blurs, reduces, adds noise and compresses; what it drew is in the record. `examine` restores and says
# what it found and decided.

# %%
preset = cp.degradations.preset("daefr")
drawn = preset.sample(clean, torch.Generator().manual_seed(3))
damaged = preset.apply(clean, drawn, impl="torch")
examined = restorer.examine(damaged)
print(examined.decisions[0].reason)
print({name: round(float(value), 1) for name, value in examined.damage._asdict().items()})

# %%
figure, axes = pyplot.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
axes[0].imshow(damaged[0].permute(1, 2, 0))
axes[0].set_title("damaged")
axes[1].imshow(examined.images[0].permute(1, 2, 0))
axes[1].set_title("restored")
axes[2].imshow(clean[0].permute(1, 2, 0))
axes[2].set_title("as it was")
shown = axes[3].imshow(examined.uncertainty[0], vmin=0, vmax=1, cmap="magma")
axes[3].set_title("how far it guessed")
figure.colorbar(shown, ax=axes[3], fraction=0.046)
for one in axes:
    one.axis("off")

# %% [markdown]
# ## The codes
#
# Called itself, the model gives logits: for each place of a 16×16 grid, and for each of its two tables, a score for every
# code. The first table says roughly what is there, the second what is missing from that.

# %%
model = restorer.model
small = torch.nn.functional.interpolate(damaged, size=128, mode="area")
with torch.no_grad():
    logits = model(cp.to_signed(small)).logits
indices = logits.argmax(-1)
print("logits b m h w k:", tuple(logits.shape))
print("different codes in the first table:", len(indices[:, 0].unique()), "of", model.prior.size)
print("mean entropy over its maximum:", round(float(entropy(logits).mean()), 3))

# %% [markdown]
# ## What a face is made of
#
# The decoder turns any codes into a picture. With one code everywhere one sees its texture; with the face's own codes the
# face; with those of every second place replaced by their neighbours', how much one place decides.

# %%
with torch.no_grad():
    whole = model.prior.decode_indices(indices)
    coarse = indices.clone()
    coarse[..., 1::2] = coarse[..., ::2]
    half = model.prior.decode_indices(coarse)
    common = int(indices[:, 0].flatten().mode().values)
    one = model.prior.decode_indices(torch.full_like(indices, common))
figure, axes = pyplot.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
axes[0].imshow(indices[0, 0], cmap="tab20", interpolation="nearest")
axes[0].set_title("numbers of the codes")
for place, (name, image) in enumerate((("decoded", whole), ("every second", half), (f"only code {common}", one)), 1):
    axes[place].imshow(cp.to_unit(image)[0].permute(1, 2, 0))
    axes[place].set_title(name)
for each in axes:
    each.axis("off")
