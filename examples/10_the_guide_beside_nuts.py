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
# # 10 · The guide beside NUTS
#
# A guide is one way to get at $p(z \mid x)$, and the model does not know which way is taken. How far it is off,
#
# $$\mathrm{KL}\bigl(q(z \mid x) \,\|\, p(z \mid x)\bigr) = \log p(x) - \mathcal L(x),$$
#
# has two reasons: a diagonal Normal may fit badly, and one network for all images need not find the best one for this
# image. Here we take a single image and ask three others, all of them Pyro's own, on the same program `model`:
#
# - **a grid**: with two latents $p(z \mid x) = p(z)\,p(x \mid z) / p(x)$ can be summed up, and that is the truth;
# - **NUTS** (Hoffman & Gelman 2011, arXiv:1111.4246), a Markov chain that needs no guide at all;
# - **an autoguide**: a Normal with any covariance, fitted to this one image by `SVI`.

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
model.requires_grad_(False)  # from here on only z is unknown
x = images.images("test")[6:7]

# %% [markdown]
# ## The truth, on a grid
#
# `poutine.condition` gives the site `z` a value, and the trace's log-probability is $\log p(x, z)$: of many values at
# once, each with the same image. A coarse grid finds where the posterior lies, a fine one sums it up: the sum of
# $p(x, z)$ times the cells' area is $p(x)$.


# %%
def log_joint(z):
    """log p(x, z) of points z (N, 2)."""
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
print(f"log p(x): the grid {log_p:.2f}, 5,000 importance samples {estimate:.2f}")
assert abs(log_p - estimate) < 0.1

# %% [markdown]
# ## Three approximations
#
# NUTS takes `model` as it is: it conditions on the image, asks for gradients of the log joint, and adapts itself. The
# autoguide is fitted with 1,000 steps of stock `SVI`. The guide answers at once; it was trained on 4,000 other images.

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
    """KL(q ‖ p(z | x)), nats: of 20,000 draws."""
    with torch.no_grad():
        z = q.sample((20_000,)).reshape(-1, 2)
        return (q.log_prob(z.unsqueeze(1)).squeeze() - log_joint(z) + log_p).mean().item()


gaps = {"guide": gap(q), "autoguide": gap(fitted)}
print("mean     grid", mean.numpy().round(2), "NUTS", nuts.mean(0).numpy().round(2))
print("spread   grid", spread.numpy().round(2), "NUTS", nuts.std(0).numpy().round(2))
print(f"KL to the truth: guide {gaps['guide']:.2f}, autoguide {gaps['autoguide']:.2f} nats")
assert ((nuts.mean(0) - mean).abs() < 0.3 * spread).all()  # 500 draws of a chain are some 150 independent ones
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
# Lines: the truth at 50 %, 10 % and 1 % of its height. NUTS fills it, and so does the fitted Normal: this posterior is
# nearly one. So of the two reasons it is the second. The guide knows where such images lie, on average; where this one
# does it missed by about a spread, and pays for it. `gaps` of `vampyro.diagnostics` measures both reasons, for any
# model and image.
#
# ## Back from the guide to the truth
#
# Importance weights repair a guide that is wide enough: draws from $q$, drawn again by their weights
# $p(x, z) / q(z \mid x)$, are draws from $p(z \mid x)$. A chain takes seconds for one image and hours for 10,000; this
# takes a batch.

# %%
draws = posterior_draws(model, guide, x, samples=2000, proposals=20_000).values["z"].squeeze(1)
print("resampled: mean", draws.mean(0).numpy().round(2), "spread", draws.std(0).numpy().round(2))
assert ((draws.mean(0) - mean).abs() < 0.3 * spread).all()

print(f"expected 0.0 ± 0.1, got {gaps['autoguide']:.2f} (KL of the fitted Normal from the posterior, nats)")
assert abs(gaps["autoguide"]) < 0.1

# %% [markdown]
# ## Exercises
#
# 1. Of which images is the guide's KL large? Compare the twenty with the largest and the smallest (`gaps`).
# 2. Put `AutoDiagonalNormal` in the autoguide's place. It is the guide's own family: what is left of the guide's KL?
# 3. Let 4 chains run (`num_chains=4`) for an image whose grid has two peaks. What does `chain.summary()` say of r̂?
# 4. NUTS under `prior="vamp:20"` takes several times as long. Why, and what could be computed once?
