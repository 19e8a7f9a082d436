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
# # 10 · The guide compared with NUTS
#
# A guide is one of several methods to approximate $p(z \mid x)$, and the model is the same for all of them. The error
# of a guide,
#
# $$\mathrm{KL}\bigl(q(z \mid x) \,\|\, p(z \mid x)\bigr) = \log p(x) - \mathcal L(x),$$
#
# has two causes. A diagonal Normal may be a poor fit, and one network for all images may not find the best Normal for
# this image. Here we take a single image and compare three other methods on the same program `model`:
#
# - **A grid**: with two latents we can sum $p(z \mid x) = p(z)\,p(x \mid z) / p(x)$ numerically. This is the truth.
# - **NUTS** (Hoffman & Gelman 2011, arXiv:1111.4246): a Markov chain, which needs no guide. Pyro implements it.
# - **An autoguide** of Pyro: a Normal with a full covariance matrix, fitted to this one image by `SVI`.

# %%
# %matplotlib inline
import math
from pathlib import Path

import pyro
import torch
from matplotlib.figure import Figure
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal

from vampyro import assemble, data
from vampyro.likelihood import posterior_draws, score
from vampyro.training import fit, make_update

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
pyro.set_rng_seed(0)
images = data.load("mnist5k")
model, guide = assemble(prior="mog:10", hidden=(200,), latent=2)
for _ in fit(make_update(model, guide, lr=2e-3), images, epochs=15):
    pass
model.requires_grad_(False)  # from here on only z is inferred
x = images.images("test")[6:7]

# %% [markdown]
# ## The truth, on a grid
#
# `poutine.condition` gives the site `z` a value. The log-probability of the trace is then $\log p(x, z)$, here for
# many values of $z$ in one batch, each with the same image. A coarse grid finds where the posterior is, and a fine
# grid sums it: the sum of $p(x, z)$ times the area of a cell is $p(x)$.


# %%
def log_joint(z):
    """Return log p(x, z) for points z of shape (N, 2)."""
    trace = poutine.trace(poutine.condition(model, data={"z": z})).get_trace(x.expand(len(z), -1, -1, -1))
    trace.compute_log_prob()
    return trace.nodes["z"]["log_prob"] + trace.nodes["x"]["log_prob"]


coarse = torch.cartesian_prod(*2 * [torch.linspace(-10, 10, 200)])
peak = coarse[log_joint(coarse).argmax()]
steps = torch.linspace(-1, 1, 150)
grid = peak + torch.cartesian_prod(steps, steps)
with torch.no_grad():
    joint = log_joint(grid).double()
log_p = joint.logsumexp(0) + 2 * math.log(2 / 149)
posterior = (joint - joint.logsumexp(0)).exp()
mean = posterior @ grid.double()
spread = (posterior @ (grid.double() - mean).square()).sqrt()
estimate = score(model, guide, x, samples=5000).log_likelihood.item()
print(f"log p(x): grid {log_p:.2f}, 5,000 importance samples {estimate:.2f}")
assert abs(log_p - estimate) < 0.1

# %% [markdown]
# ## Three approximations
#
# NUTS takes `model` as it is. It conditions on the image, computes gradients of the log joint density, and tunes its
# step size during warm-up. The autoguide is fitted with 1,000 steps of Pyro's `SVI`. The guide needs no fitting for
# this image: it was trained on 4,000 other images.

# %%
chain = MCMC(NUTS(model), num_samples=500, warmup_steps=200, disable_progbar=True)
chain.run(x)
nuts = chain.get_samples()["z"].squeeze(1)

autoguide = AutoMultivariateNormal(model, init_scale=0.1)
svi = SVI(model, autoguide, pyro.optim.ClippedAdam({"lr": 0.03, "lrd": 0.995}), Trace_ELBO())
for _ in range(1000):
    svi.step(x)
fitted = autoguide.get_posterior()
q = guide.q(x)


def gap(q):
    """Estimate KL(q ‖ p(z | x)) in nats from 20,000 samples."""
    with torch.no_grad():
        z = q.sample((20_000,)).reshape(-1, 2)
        return (q.log_prob(z.unsqueeze(1)).squeeze() - log_joint(z) + log_p).mean().item()


gaps = {"guide": gap(q), "autoguide": gap(fitted)}
print("mean                grid", mean.numpy().round(2), "NUTS", nuts.mean(0).numpy().round(2))
print("standard deviation  grid", spread.numpy().round(2), "NUTS", nuts.std(0).numpy().round(2))
print(f"KL from the true posterior: guide {gaps['guide']:.2f}, autoguide {gaps['autoguide']:.2f} nats")
assert ((nuts.mean(0) - mean).abs() < 0.3 * spread).all()  # 500 samples of a chain ≈ 150 independent ones
assert -0.02 < gaps["autoguide"] < gaps["guide"]

# %%
clouds = {"NUTS": nuts, "autoguide": fitted.sample((500,)).reshape(-1, 2), "guide": q.sample((500,)).reshape(-1, 2)}
low, high = (bound(torch.cat(list(clouds.values())), 0).values for bound in (torch.min, torch.max))
figure = Figure(figsize=(7, 3.2), dpi=100, layout="constrained")
for axes, (name, z) in zip(figure.subplots(1, 3, sharex=True, sharey=True), clouds.items()):
    density = posterior.reshape(150, 150).T
    levels = (density.max() * torch.tensor([0.01, 0.1, 0.5])).tolist()
    axes.contour(peak[0] + steps, peak[1] + steps, density, levels=levels, colors="0.4")
    axes.plot(*z.T, ".", ms=2, color="C1")
    axes.set(title=name, xlabel="z₁", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
figure.axes[0].set_ylabel("z₂")
figure.savefig(FIGURES / "10_posterior.png")
figure

# %% [markdown]
# The contours show the truth at 50 %, 10 % and 1 % of its maximum. The samples of NUTS fill them, and so do those of
# the fitted Normal, so this posterior is nearly Normal. The error of the guide therefore has the second cause: the
# network predicts a location that is good on average, and for this image it is wrong by about one standard deviation.
# `gaps` in `vampyro.diagnostics` measures both causes for any model and image.
#
# ## From the guide to the posterior
#
# Importance weights can correct a guide that is wide enough. Draw samples from $q$ and resample them with the weights
# $p(x, z) / q(z \mid x)$; the results are samples from $p(z \mid x)$. A chain takes seconds for one image and hours
# for 10,000. Resampling processes a whole batch at once.

# %%
draws = posterior_draws(model, guide, x, samples=2000, proposals=20_000).values["z"].squeeze(1)
print("resampled: mean", draws.mean(0).numpy().round(2), "standard deviation", draws.std(0).numpy().round(2))
assert ((draws.mean(0) - mean).abs() < 0.3 * spread).all()

print(f"expected 0.0 ± 0.1, got {gaps['autoguide']:.2f} (KL between the fitted Normal and the posterior, nats)")
assert abs(gaps["autoguide"]) < 0.1

# %% [markdown]
# ## Exercises
#
# 1. For which images is the KL of the guide large? Compare the twenty images with the largest and the smallest KL
#    (`gaps`).
# 2. Replace the autoguide by `AutoDiagonalNormal`. It belongs to the same family as the guide. How much of the KL of
#    the guide remains?
# 3. Run 4 chains (`num_chains=4`) for an image whose posterior has two peaks on the grid. What r̂ does
#    `chain.summary()` print?
# 4. NUTS with `prior="vamp:20"` takes several times as long. Why, and what could be computed only once?
