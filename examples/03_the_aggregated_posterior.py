# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · The aggregated posterior, and the number of components
#
# Which prior is best for a given encoder and decoder? The prior enters the bound in one place,
#
# $$\frac1N \sum_n \mathcal L(x_n) = \text{reconstruction} - \frac1N \sum_n \int q(z \mid x_n)\,
#   \log \frac{q(z \mid x_n)}{p(z)}\,dz .$$
#
# Insert $q(z) = \frac1N \sum_n q(z \mid x_n)$: $\log \frac{q(z \mid x_n)}{p(z)} = \log \frac{q(z \mid x_n)}{q(z)} +
# \log \frac{q(z)}{p(z)}$. The second logarithm does not depend on $n$, so its average over images is an average over
# $q(z)$:
#
# $$\frac1N \sum_n \mathrm{KL}\bigl(q(z \mid x_n) \,\|\, p(z)\bigr) = I + \mathrm{KL}\bigl(q(z) \,\|\, p(z)\bigr).$$
#
# $I$ does not depend on the prior, and a KL has its minimum, zero, where both densities are equal. So **the best
# prior is $p(z) = q(z)$**, a mixture of $N$ posteriors. The whole term is then $I \le \log N$. To see this, we train
# with a standard prior, then keep the encoder and the decoder and change only the prior.

# %%
# %matplotlib inline
import math
from pathlib import Path

import pyro
import torch
from matplotlib.figure import Figure
from vampyro.models import VAE
from vampyro.priors import VampPrior

from vampyro import data
from vampyro.catalogue.assemble import assemble, ex_post
from vampyro.diagnostics import surgery
from vampyro.training import fit, make_update

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
pyro.set_rng_seed(0)
images = data.load("mnist5k")
x, test = images.images("train")[:2000], images.images("test")  # N = 2000, to save time

model, guide = assemble(prior="standard", hidden=(200,), latent=5)
for _ in fit(make_update(model, guide, lr=2e-3), images, epochs=15):
    pass
standard = surgery(model, guide, x, samples=2)
print("standard prior", standard)
print(f"I can be at most log N = {math.log(len(x)):.2f}")

# %% [markdown]
# ## The optimum
#
# `aggregate` is this mixture. The second part of the KL becomes zero, exactly, for every sample.

# %%
best = surgery(VAE(ex_post("aggregate", model, guide, x), model.decoder), guide, x, samples=2)
print("aggregated posterior", best)
assert abs(best.marginal_kl.mean) < 1e-4 and abs(best.kl.mean - standard.mutual_information.mean) < 0.1

# %% [markdown]
# ## The number of components
#
# Training with $q(z)$ as the prior would need $N$ posteriors in every step, and this prior has memorised the training
# images. With fewer components, the posteriors of $K$ training images,
#
# $$p(z) = \frac1K \sum_{k=1}^K q(z \mid x_{n_k}),$$
#
# the fit quickly gets worse. Posteriors are narrow, and a code that no component covers costs many nats. To see this,
# compare the training images with the test images, whose codes are not in the mixture.


# %%
def kl(prior):
    """Return the KL term with this prior for training and test images, in nats per image."""
    program = VAE(prior, model.decoder)
    return [surgery(program, guide, some, samples=2).kl.mean.item() for some in (x, test)]


print("   K   training    test")
curve = {}
for count in (30, 100, 300, 1000, 2000):
    curve[count] = kl(VampPrior(guide.q, (1, 28, 28), count, images=x[:count], trainable=False))
    print(f"{count:4d}   {curve[count][0]:8.2f}{curve[count][1]:8.2f}")

# %% [markdown]
# The prior that is optimal for the training images is not optimal for other images: at $K = N$ every training image
# has its own component, and a test image has none.
#
# ## Pseudo-inputs
#
# The VampPrior keeps $K$ small and *learns* the inputs of the encoder by gradient ascent on the same objective,
#
# $$\max_{u_1 \dots u_K}\; \mathbb E_{q(z)} \Bigl[\log \frac1K \sum_k q(z \mid u_k)\Bigr].$$
#
# These inputs need not be real images. A pseudo-input can have a broader posterior that covers many codes.

# %%
prior = VampPrior(guide.q, (1, 28, 28), 50, images=x[:50])
optimizer = torch.optim.Adam(prior.parameters(), lr=0.1)  # only the pseudo-inputs: the prior does not own the guide
with torch.no_grad():
    posteriors = guide.q(x)
for step in range(200):
    z = posteriors.sample()[torch.randint(len(x), (500,))]
    loss = -prior().log_prob(z).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
learned = kl(prior)
with torch.no_grad():
    widths = [guide.q(u).scale.mean().item() for u in (x, prior.pseudo_inputs())]
print(f"50 pseudo-inputs: training {learned[0]:.2f}, test {learned[1]:.2f}")
print(f"mean scale of a posterior: images {widths[0]:.3f}, pseudo-inputs {widths[1]:.3f}")
assert widths[1] > widths[0]

figure = Figure(figsize=(6, 3.8), dpi=100, layout="constrained")
axes = figure.subplots()
for column, name in enumerate(("training images", "test images")):
    values, color = [pair[column] for pair in curve.values()], f"C{column}"
    axes.plot(list(curve), values, "o-", color=color, label=f"K images: {name}")
    axes.plot(50, learned[column], "*", ms=12, color=color, label=f"50 pseudo-inputs: {name}")
axes.axhline(standard.kl.mean, color="0.5", label="standard prior")
axes.axhline(standard.mutual_information.mean, color="black", linestyle="--", label="I, the minimum")
axes.set(xscale="log", yscale="log", xlabel="components K", ylabel="KL term, nats per image")
axes.legend(fontsize=8)
figure.savefig(FIGURES / "03_components.png")
figure

# %% [markdown]
# Fifty pseudo-inputs are better than a thousand images, and on test images better than two thousand. In ordinary
# training all of this happens at the same time, and the encoder changes too: its posteriors become easy to cover with
# few components.

# %%
assert learned[1] < curve[2000][1] and learned[0] < curve[1000][0]
print(f"expected 9.5 ± 0.7, got {learned[1]:.2f} (KL of test images under 50 pseudo-inputs, nats per image)")
assert abs(learned[1] - 9.5) < 0.7

# %% [markdown]
# ## Exercises
#
# 1. Show that $I \le \log N$, with equality if no two posteriors overlap. Which latent dimension reaches it?
# 2. Learn the weights too (`weighted=True`). How much does the KL decrease at $K = 50$, and at $K = 5$?
# 3. Plot the 50 pseudo-inputs before and after training (`plots.image_grid`). Do they still look like digits? Do they
#    have to?
# 4. Continue to train model and guide with the new prior for five epochs. Which of the two parts of the KL changes?
