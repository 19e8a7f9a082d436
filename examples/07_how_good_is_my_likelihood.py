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
# # 7 · How good is my likelihood?
#
# A paper reports $\log p(x) = -87.3$ nats, estimated by importance sampling:
#
# $$\log \hat p(x) = \log \frac1S \sum_{s=1}^S w_s, \qquad w_s = \frac{p(x, z_s)}{q(z_s \mid x)}, \qquad
#   z_s \sim q(z \mid x) .$$
#
# $\mathbb E[w] = p(x)$, so Jensen's inequality gives $\mathbb E \log \hat p(x) \le \log p(x)$. For $S = 1$ the left
# side is the ELBO, and it increases with $S$. How far is the estimate from the truth? We measure this on a model
# whose likelihood is known, a linear decoder with Normal noise:
#
# $$p(z) = \mathcal N(0, I_2), \quad p(x \mid z) = \mathcal N(Wz, s^2 I) \quad\Rightarrow\quad
#   p(x) = \mathcal N(0, W W^\top + s^2 I) .$$
#
# If the columns of $W$ are orthogonal, the posterior is a diagonal Normal with $\sigma_d^{-2} = 1 + \|W_d\|^2 / s^2$.
# Our guide has the mean of the posterior, and its scale multiplied by $c$. With $c = 1$ the guide is the exact
# posterior. Guides that are trained on the ELBO tend to have $c < 1$.

# %%
# %matplotlib inline
import math
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure

from vampyro import assemble, data
from vampyro.likelihood import ais, bdmc, score
from vampyro.likelihood.scores import sizes
from vampyro.training import fit, make_update

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
pyro.set_rng_seed(0)
s = 0.7
w = torch.linalg.qr(torch.randn(12, 2))[0] * torch.tensor([1.5, 0.6])
sigma = (1 + w.square().sum(0) / s**2) ** -0.5


def model(x=None, *, batch=1):
    with pyro.plate("images", batch if x is None else len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z @ w.T, s).to_event(1), obs=x)


def guide(x, c):
    with pyro.plate("images", len(x)):
        pyro.sample("z", dist.Normal(x @ w * sigma**2 / s**2, c * sigma).to_event(1))


def truth(x):
    """Return the exact log p(x)."""
    return torch.distributions.MultivariateNormal(torch.zeros(12), w @ w.T + s**2 * torch.eye(12)).log_prob(x)


x = model(batch=50)
exact = truth(x).mean().item()
print(f"log p(x) = {exact:.3f} nats, mean over 50 images")

# %% [markdown]
# ## The tail of the weights
#
# With $z = \mathrm{loc} + c\,\sigma \epsilon$ the weights are $w = p(x)\,c^2 \exp\bigl(\frac{1 - c^2}2
# \|\epsilon\|^2\bigr)$. In two dimensions $\|\epsilon\|^2$ has an exponential distribution, so the weights have
# exactly a Pareto distribution:
#
# $$P(w > t) \propto t^{-1/k}, \qquad k = 1 - c^2 .$$
#
# Their variance is finite only for $k < \frac12$. The effective sample size is then $\mathrm{ESS} = (\sum w)^2 / \sum
# w^2 \approx S\,(1 - 2k) / (1 - k)^2$. `score` estimates $k$ from the largest weights of every image
# (arXiv:1507.02646). If $k$ is above 0.7, no affordable $S$ is sufficient. The gap of the ELBO, $\log p(x)$ minus the
# ELBO, is $c^2 - 1 - 2 \log c$.

# %%
print("   c    log p̂ - log p, ± stated   ELBO - log p (theory)   k̂ (theory)   ESS (theory)")
curves = {}
for c in (1.0, 0.8, 0.5, 0.3):
    result = score(model, partial(guide, c=c), x, samples=2000)
    curves[c] = result.curve.mean(-1) - exact
    k, gap = 1 - c**2, c**2 - 1 - 2 * math.log(c)
    share = f"{2000 * (1 - 2 * k) / (1 - k) ** 2:.0f}" if k < 0.5 else "none"
    found, elbo = result.log_likelihood.mean() - exact, result.elbo.mean() - exact
    print(f"{c:4.1f} {found:12.3f} ± {result.monte_carlo_error.mean():.3f} {elbo:15.3f} ({-gap:.3f})", end=" ")
    print(f"{result.pareto_k.mean():12.2f} ({k:.2f}) {result.ess.mean():9.0f} ({share})")
    assert abs(result.pareto_k.mean() - k) < 0.1 and abs(elbo + gap) < 0.1
    print("     ", result.verdict)

figure = Figure(figsize=(6, 3.6), dpi=100, layout="constrained")
axes = figure.subplots()
for c, curve in curves.items():
    axes.plot(sizes(2000), curve, "o-", ms=3, label=f"c = {c}, k = {1 - c**2:.2f}")
axes.set(xscale="log", xlabel="importance samples S", ylabel="mean log p̂(x) - log p(x)")
axes.legend()
figure.savefig(FIGURES / "07_convergence.png")
figure

# %% [markdown]
# In the last row the estimate of an image is too low by more than twice its stated error. The errors of all images
# have the same sign, because the samples with the largest weights were never drawn. Only $\hat k$ shows this.
#
# ## An estimate without a guide
#
# Annealed importance sampling starts at the prior and moves by Hamiltonian steps through the densities
#
# $$p_\beta(z) \propto p(z)\,p(x \mid z)^\beta, \qquad 0 = \beta_0 < \dots < \beta_T = 1, \qquad
#   w = \prod_t p(x \mid z_{t-1})^{\beta_t - \beta_{t-1}} .$$
#
# Again $\mathbb E[w] = p(x)$, and again the estimate is a lower bound, but it does not depend on a guide. For images
# that were sampled from the model, an exact posterior sample is known: the $z$ from which the image was sampled.
# Annealing from this $z$ back to the prior gives an unbiased estimate of $1 / p(x)$, and therefore an *upper* bound
# on $\log p(x)$. Except for the noise of the chains, the truth is between the two bounds (bidirectional Monte Carlo,
# arXiv:1511.02543).

# %%
for temperatures in (3, 10, 100):
    print(f"AIS - log p, {temperatures:3d} temperatures:", end=" ")
    print(f"{ais(model, x, chains=16, temperatures=temperatures).log_likelihood.mean() - exact:.3f}")
bounds = bdmc(model, images=50, chains=16, temperatures=3)
middle = truth(bounds.images).mean().item()
print(f"on images sampled from the model: {bounds.lower.mean():.3f} ≤ {middle:.3f} ≤ {bounds.upper.mean():.3f}")
assert bounds.lower.mean() - 0.02 < middle < bounds.upper.mean() + 0.02

# %% [markdown]
# ## A real model
#
# Now we ask the same question for a model whose likelihood is not known.

# %%
images = data.load("mnist5k")
vae, encoder = assemble(hidden=(200,), latent=10)
for _ in fit(make_update(vae, encoder, lr=2e-3), images, epochs=8):
    pass
digits = images.images("test")[:100]
result = score(vae, encoder, digits, samples=1000)
annealed = ais(vae, digits[:10], chains=8, temperatures=100)
print(result, result.verdict, sep="\n")
means = result[:10].log_likelihood.mean(), annealed.log_likelihood.mean()
print("ten images: importance sampling {:.2f}, AIS {:.2f}".format(*means))

# %% [markdown]
# Both are lower bounds in expectation, so the larger one is better. With so few temperatures this is importance
# sampling.
#
# Report $S$, compare results only at equal $S$, and look at $\hat k$ before you trust the third digit. For a run,
# `python run.py score FOLDER --measures likelihood,ais` computes all of this.

# %%
got = score(model, partial(guide, c=0.8), x, samples=2000).log_likelihood.mean().item() - exact
print(f"expected 0 ± 0.01, got {got:.4f} (log p̂ - log p at c = 0.8, S = 2000, nats per image)")
assert abs(got) < 0.01

# %% [markdown]
# ## Exercises
#
# 1. Derive $k = 1 - c^2$ in one dimension, where the tail is a power times a logarithm. Does $\hat k$ show the
#    difference?
# 2. Take $c = 1.5$. What is the upper limit of the weights now, and what is the largest possible error?
# 3. Move the mean of the guide by one $\sigma$ at $c = 1$. What tail does $w$ have, and what is $\hat k$?
# 4. How many temperatures does the VAE need until the gap between the bounds of `bdmc` is below 0.1 nats?
