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
# # 6 · Two levels, and inactive units
#
# The prior can itself be a small generative model. It samples an abstract code $z_2$, then a concrete code $z_1$
# given $z_2$, and the image depends on both:
#
# $$p(x, z_1, z_2) = p(z_2)\,p(z_1 \mid z_2)\,p(x \mid z_1, z_2), \qquad
#   q(z_1, z_2 \mid x) = q(z_2 \mid x)\,q(z_1 \mid x, z_2) .$$
#
# In Pyro this is one more `pyro.sample` line in each program (`models/two_level.py`, `guides/two_level.py`). The
# bound has one KL for each level. The KL of the lower level is averaged over samples of the upper level:
#
# $$\mathcal L(x) = \mathbb E_q[\log p(x \mid z_1, z_2)] - \mathrm{KL}\bigl(q(z_2 \mid x) \,\|\, p(z_2)\bigr)
#   - \mathbb E_{q(z_2 \mid x)} \mathrm{KL}\bigl(q(z_1 \mid x, z_2) \,\|\, p(z_1 \mid z_2)\bigr) .$$

# %%
# %matplotlib inline
from pathlib import Path

import pyro
import torch
from matplotlib.figure import Figure
from pyro import poutine

from vampyro import assemble, data
from vampyro.diagnostics import active_units, decompose
from vampyro.objectives import KLWeight
from vampyro.training import fit, make_update

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
images = data.load("mnist5k")
x, latent = images.images("test"), 20


def learn(warmup):
    """Train a two-level VAE with a warm-up of that many epochs, and return it with the parts of its ELBO."""
    pyro.set_rng_seed(0)
    model, guide = assemble(model="two-level", hidden=(150,), latent=latent)
    weight = KLWeight(1.0, warmup)
    update = make_update(model, guide, lr=3e-3, weight=weight.value)
    for _ in fit(update, images, epochs=18, before_epoch=[weight]):
        pass
    return model, guide, decompose(model, guide, x, samples=5)


model, guide, parts = learn(warmup=0)
print(parts)
total = parts.reconstruction.mean - parts.kl["z2"].mean - parts.kl["z1"].mean
print(f"ELBO {parts.elbo.mean:.2f}, sum of its three parts {total:.2f}")
assert abs(parts.elbo.mean - total) < 1e-6

# %% [markdown]
# ## Inactive units
#
# Both densities of a level are products over dimensions, so each KL is a sum with one term per unit:
#
# $$\mathrm{KL}\bigl(q(z_2 \mid x) \,\|\, p(z_2)\bigr)
#   = \sum_{d=1}^{20} \mathrm{KL}\bigl(q(z_{2d} \mid x) \,\|\, p(z_{2d})\bigr) .$$
#
# If $q(z_d \mid x)$ equals the prior for every $x$, the KL of the unit is zero and the unit contains no information
# about the image. Such a unit is *inactive*. At the start of training the decoder does not use a unit yet, so only
# the KL acts on it, and some units become inactive before the decoder has learned to use them. Another measure is the
# variance over images of the mean of the posterior, $\mathrm{Var}_x\,\mathbb E_q[z_d]$. (arXiv:1509.00519 calls a
# unit active if this variance is above 0.01, in runs much longer than ours.)

# %%
kl = parts.kl_per_dimension["z2"].mean
variance = active_units(model, guide, x, samples=20)["z2"].variance
order = kl.argsort(descending=True)
print("z2, KL of each unit:     ", " ".join(f"{value:.2f}" for value in kl[order]))
print("variance of the mean:    ", " ".join(f"{value:.2f}" for value in variance[order]))
awake = kl > 0.2

# %% [markdown]
# To check that an inactive unit contains no information, replace it by noise from the prior, keep everything else,
# and decode:

# %%


def reconstruction(noisy):
    """Return the mean log p(x | z1, z2) if the `noisy` units of z2 are replaced by samples from N(0, 1)."""
    trace = poutine.trace(guide).get_trace(x)
    z2 = trace.nodes["z2"]["value"]
    trace.nodes["z2"]["value"] = torch.where(noisy, torch.randn_like(z2), z2)
    seen = poutine.trace(poutine.replay(model, trace=trace)).get_trace(x)
    seen.compute_log_prob()
    return seen.nodes["x"]["log_prob"].mean().item()


with torch.no_grad():
    pyro.set_rng_seed(1)
    asleep = int((~awake).sum())
    intact, without_asleep = reconstruction(torch.zeros(latent, dtype=bool)), reconstruction(~awake)
    without_best = reconstruction(torch.isin(torch.arange(latent), order[:asleep]))
print(f"reconstruction {intact:.1f}; noise in the {asleep} inactive units: {without_asleep:.1f}; ", end="")
print(f"noise in the {asleep} units with the largest KL: {without_best:.1f}")
assert intact - without_asleep < 0.1 * (intact - without_best)

# %% [markdown]
# ## Warm-up
#
# One remedy is to give the KL a small weight at first. The weight $\beta$ increases from $1/N$ to 1 over $N$ epochs:
#
# $$\mathcal L_\beta = \mathbb E_q[\log p(x \mid z_1, z_2)] - \beta\,\mathrm{KL} .$$
#
# The programs do not change: `KLWeight` is an effect handler that scales the KL terms. (On the command line:
# `--warmup 10`.)

# %%
_, _, warm = learn(warmup=9)
print(warm)
figure = Figure(figsize=(8, 3.2), dpi=100, layout="constrained")
for axes, site in zip(figure.subplots(1, 2, sharey=True), ("z2", "z1")):
    for run, name in ((parts, "β = 1 from the start"), (warm, "warm-up of nine epochs")):
        nats = run.kl_per_dimension[site].mean.sort(descending=True).values
        axes.plot(range(1, latent + 1), nats, "o-", ms=4, label=name)
    axes.set(title=f"KL of each unit of {site}, sorted", xlabel="unit", ylim=(0, None))
figure.axes[0].set_ylabel("nats per image")
axes.legend()
figure.savefig(FIGURES / "06_units.png")
figure

# %% [markdown]
# With warm-up more units of $z_2$ stay active and reconstructions are better. The ELBO, measured with $\beta = 1$,
# does not decrease, so the units that became inactive early are useful.

# %%
kept = int((warm.kl_per_dimension["z2"].mean > 0.2).sum())
print(f"ELBO without warm-up {parts.elbo.mean:.1f}, with warm-up {warm.elbo.mean:.1f}")
print(f"active units of z2 without warm-up {int(awake.sum())}, with warm-up {kept}")
assert kept > awake.sum() and warm.reconstruction.mean > parts.reconstruction.mean
print(f"expected 19 ± 2, got {kept} (units of z2 with a KL above 0.2 nats, with warm-up)")
assert abs(kept - 19) <= 2

# %% [markdown]
# ## Exercises
#
# 1. Use a VampPrior over $z_2$, `prior="vamp:50"`. Are more units active? (The KL of this prior has no closed form
#    per unit, so look at the variance of the means.)
# 2. The mean of $q(z_1 \mid x, z_2)$ varies with $x$ even where its KL is zero. Why? Is the variance a good measure
#    for $z_1$?
# 3. Use $\beta = 2$ for the whole run (`KLWeight(2.0, 0)`). How many units stay active?
# 4. Let the decoder depend on $z_1$ only. Which level becomes inactive now?
