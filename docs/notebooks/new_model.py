# %% [markdown]
# # Write a new model
#
# A restorer of your own: the codebook and the decoder come from a trained prior and stay frozen; an encoder and a code
# predictor are new. It is trained on crops of one photograph for a minute on a CPU, which is enough to see every part at
# work and too little for anything else. [The same at full size](../concepts/new_model.md) has 27 lines.

# %%
import torch
from matplotlib import pyplot
from skimage import data
from torch import nn
from torch.nn import functional as F

import codeprior as cp
from codeprior.photos.faces import align, detector
from codeprior.restorers import Restorer, load_restorer

torch.manual_seed(0)
given = load_restorer("small").model
prior, encoder = given.prior.eval().requires_grad_(False), given.hq_encoder.eval().requires_grad_(False)
photograph = data.astronaut()
face = align(photograph, detector()(photograph)[0].points, size=128).image  # 3 128 128, unit
print(f"codes of {prior.dim} numbers, {prior.size} in each table, one a square of {prior.stride} pixels")

# %% [markdown]
# ## The model
#
# `forward` is yours; the parts fit because all of them exchange features `b d h w`. What it needs to be used by
# `Restorer`, by the command line and by the page is `size`, `stride` and `restore`.


# %%
class Tiny(nn.Module):
    def __init__(self, prior):
        super().__init__()
        self.size, self.scale, self.stride = 128, 1, prior.stride
        self.prior = prior
        self.encoder = cp.VQGANEncoder(prior.dim, channels=32, multipliers=(1, 1, 2, 2), blocks=1, attention=())
        self.predict = cp.CodePredictor(prior.dim, prior.size, grid=(16, 16), width=64, layers=2, heads=4, hidden=128, tables=2)

    def forward(self, image):  # b 3 128 128, signed
        latent = self.encoder(image)  # b 32 16 16
        return self.predict(latent), latent  # b 2 16 16 512, b 32 16 16

    def restore(self, image):
        return self.prior.decode_indices(self(image)[0].argmax(-1))


model = Tiny(prior)
print(sum(part.numel() for part in model.parameters() if part.requires_grad), "numbers are trained")

# %% [markdown]
# ## Training
#
# The target of a damaged face are the codes of the clean one: cross-entropy towards their numbers, and a distance
# towards the codes themselves.

# %%
with torch.no_grad():
    truth = prior.codebook(encoder(cp.to_signed(face[None])))
optimizer = torch.optim.Adam([part for part in model.parameters() if part.requires_grad], lr=2e-3)
damage = cp.degradations.GaussianNoise(sigma=(5, 40))
generator, losses = torch.Generator().manual_seed(0), []
for _ in range(30):
    batch = face.expand(2, -1, -1, -1)
    damaged = damage.apply(batch, damage.sample(batch, generator), impl="torch")
    logits, latent = model(cp.to_signed(damaged))
    codes, indices = truth.codes.expand(2, -1, -1, -1), truth.indices.expand(2, -1, -1, -1)
    loss = cp.code_loss(logits, indices) + F.mse_loss(latent, codes)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(float(loss.detach()))
print(f"loss {losses[0]:.2f} at first, {losses[-1]:.2f} after {len(losses)} steps")

# %% [markdown]
# ## Using it
#
# `Restorer` gives it pictures of any type and decides whether restoring helps; `always=True` leaves that decision out.

# %%
noisy = damage.apply(face[None], damage.sample(face[None], torch.Generator().manual_seed(9)), impl="torch")
restored = Restorer(model)(noisy, always=True)
figure, axes = pyplot.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
axes[0].plot(losses)
axes[0].set_xlabel("step")
axes[0].set_title("loss")
for axis, (name, image) in zip(axes[1:], (("noisy", noisy[0]), ("restored", restored[0]), ("as it was", face)), strict=True):
    axis.imshow(image.detach().permute(1, 2, 0).clamp(0, 1))
    axis.set_title(name)
    axis.axis("off")
