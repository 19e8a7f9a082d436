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
# # 8 · Discrete latents
#
# Let a code consist of $D$ bits, $z \in \{0, 1\}^D$, with $p(z) = \prod_d \mathrm{Ber}(z_d; \frac12)$ and $q(z \mid
# x) = \prod_d \mathrm{Ber}(z_d; \sigma(l_d(x)))$. The bound is the same, but its gradient is not. A bit is not a
# smooth function of $l$ and some noise, so no gradient passes through a sample. The bound is, however, a finite sum,
#
# $$\mathcal L(x) = \sum_{z \in \{0, 1\}^D} q(z \mid x)\,f(z), \qquad
#   f(z) = \log p(z) + \log p(x \mid z) - \log q(z \mid x).$$
#
# With $D = 5$ it has 32 terms. This is small enough to compute everything exactly.

# %%
# %matplotlib inline
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate
from torch import nn
from torch.nn.functional import avg_pool2d

from vampyro import data, plots

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
pyro.set_rng_seed(0)
images = data.load("mnist5k", binarize="none")
x = (avg_pool2d(images.images("train"), 2) > 0.3).float()  # 14×14, black and white
D = 5
decoder = nn.Sequential(nn.Linear(D, 100), nn.Tanh(), nn.Linear(100, 196))
encoder = nn.Sequential(nn.Flatten(), nn.Linear(196, 100), nn.Tanh(), nn.Linear(100, D))
codes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * D)  # all 32 codes


def log_joint(x, z):
    """Return log p(x, z), shape (..., N), for images of shape (N, 1, 14, 14) and z of shape (..., N, D)."""
    pixels = dist.Bernoulli(logits=decoder(z).unflatten(-1, (1, 14, 14))).to_event(3)
    return pixels.log_prob(x) - D * torch.tensor(2.0).log()


def log_q(x, z):
    """Return log q(z | x)."""
    return dist.Bernoulli(logits=encoder(x)).to_event(1).log_prob(z)


def exact_elbo(x):
    """Return the sum above for each image, shape (N,)."""
    log_w = log_joint(x, codes.unsqueeze(1)) - (q := log_q(x, codes.unsqueeze(1)))
    return (q.exp() * log_w).sum(0)


# %% [markdown]
# ## Enumeration in Pyro
#
# Pyro can compute the sum for us. Each bit is a separate site. `config_enumerate` marks the sites, and
# `TraceEnum_ELBO` adds one tensor dimension per site, which holds both values. The programs are written as if one
# value were sampled.

# %%


def model(x):
    pyro.module("decoder", decoder)
    with pyro.plate("images", len(x)):
        bits = [pyro.sample(f"z{d}", dist.Bernoulli(0.5)) for d in range(D)]
        z = torch.stack(torch.broadcast_tensors(*bits), -1)
        pyro.sample("x", dist.Bernoulli(logits=decoder(z).unflatten(-1, (1, 14, 14))).to_event(3), obs=x)


def guide(x):
    pyro.module("encoder", encoder)
    with pyro.plate("images", len(x)):
        for d, logit in enumerate(encoder(x).unbind(-1)):
            pyro.sample(f"z{d}", dist.Bernoulli(logits=logit))


enumerated = TraceEnum_ELBO(max_plate_nesting=1)
by_pyro, by_hand = -enumerated.loss(model, config_enumerate(guide), x[:100]), exact_elbo(x[:100]).sum().item()
print(f"ELBO of 100 images: TraceEnum_ELBO {by_pyro:.3f}, our sum {by_hand:.3f}")
assert abs(by_pyro - by_hand) < 0.1

svi = SVI(model, config_enumerate(guide), pyro.optim.Adam({"lr": 5e-3}), enumerated)
for epoch in range(1, 7):
    loss = sum(svi.step(x[batch]) for batch in torch.randperm(len(x)).split(100)) / len(x)
    print(f"epoch {epoch}   -ELBO {loss:.2f}")

# %% [markdown]
# Now plot the mean image of every code. The exact likelihood is $\log p(x) = \log \sum_z p(x, z)$:

# %%
with torch.no_grad():
    means = decoder(codes).sigmoid().unflatten(-1, (1, 14, 14))
    elbo, log_likelihood = exact_elbo(x).mean(), log_joint(x, codes.unsqueeze(1)).logsumexp(0).mean()
print(f"ELBO {elbo:.2f} ≤ log p(x) {log_likelihood:.2f} nats per image")
figure = plots.image_grid(means, columns=16, title="E[x | z] for every z")
figure.savefig(FIGURES / "08_codes.png")
figure

# %% [markdown]
# ## Gradients from samples
#
# With 40 bits the sum has $10^{12}$ terms, so we have to sample. We compare three estimators of $\nabla_l \mathcal
# L$, the gradient with respect to the logits of the encoder:
#
# - **Score function**: $\nabla \mathcal L = \mathbb E_q\bigl[f(z)\,\nabla \log q(z \mid x)\bigr]$. It is unbiased.
#    But $f$ is about a hundred nats for every $z$, so one sample is mostly noise. `Trace_ELBO` uses this estimator
#    for such a guide.
# - **Baseline**: because $\mathbb E_q[\nabla \log q] = 0$, we may subtract any $b$ that does not depend on $z$,
#    $(f(z) - b)\,\nabla \log q$. Here $b$ is the value of $f$ at a second, independent sample.
# - **Straight-through**: use the sample in the forward pass, and in the backward pass treat it as if it were
#    $\sigma(l)$. This estimator has little noise, but it estimates a different gradient. Its bias does not vanish
#    with more samples.
#
# Each estimator gets 1,000 samples for one batch. The truth is the gradient of the sum.

# %%
batch, draws = x[:50], 1000
logits = encoder(batch).detach()
z, other = torch.bernoulli(logits.sigmoid().expand(2, draws, -1, -1))


def f(z, logit):
    """Return f(z) and log q(z | x) for every image."""
    log_q = dist.Bernoulli(logits=logit).to_event(1).log_prob(z)
    return log_joint(batch, z) - log_q, log_q


def total(logit):
    value, log_q = f(codes.unsqueeze(1), logit)
    return log_q.exp() * value


def score_function(logit):
    value, log_q = f(z, logit)
    return value.detach() * log_q


def with_a_baseline(logit):
    value, log_q = f(z, logit)
    return (value - f(other, logit)[0]).detach() * log_q


def straight_through(logit):
    p = logit.sigmoid()
    soft = z + p - p.detach()  # has the value of z and the gradient of p
    return log_joint(batch, soft) + dist.Bernoulli(logits=logit).entropy().sum(-1)  # exact entropy


def gradient(surrogate, count):
    """Return the gradient of the surrogate for each sample separately, by giving every sample a copy of the logits."""
    logit = logits.expand(count, -1, -1).clone().requires_grad_()
    return torch.autograd.grad(surrogate(logit).sum(), logit)[0]


truth = gradient(total, len(codes)).sum(0)
estimates = {
    "score function": gradient(score_function, draws),
    "with a baseline": gradient(with_a_baseline, draws),
    "straight-through": gradient(straight_through, draws),
}
size = truth.square().sum().sqrt()
noise, bias = {}, {}
for name, estimate in estimates.items():
    noise[name] = (estimate.var(0).sum().sqrt() / size).item()
    error = noise[name] / draws**0.5  # standard error of the mean
    bias[name] = ((estimate.mean(0) - truth).square().sum().sqrt() / size).item()
    print(f"{name:17s} noise of one sample {noise[name]:6.2f}, bias {bias[name]:.3f} (standard error {error:.3f})")

figure = Figure(figsize=(9, 3), dpi=100, layout="constrained")
for axes, (name, estimate) in zip(figure.subplots(1, 3, sharey=True, sharex=True), estimates.items()):
    axes.plot(truth.flatten(), estimate.mean(0).flatten(), ".", markersize=3)
    axes.axline((0, 0), slope=1, color="0.5", linewidth=0.8)
    axes.set(title=name, xlabel="exact gradient")
figure.axes[0].set_ylabel(f"mean of {draws} samples")
figure.savefig(FIGURES / "08_gradients.png")
figure

# %% [markdown]
# The score function is unbiased but of little use: it needs thousands of samples for one direction. The baseline
# removes most of its noise. It costs one more sample and adds no bias. Straight-through has as little noise, but its
# bias is larger than the length of the gradient, for any number of samples. It often trains well nevertheless; this
# is an empirical observation without a proof.
#
# With the parts of this project, train binary codes of any length by
#
#     python run.py --posterior bernoulli --objective elbo:score

# %%
assert noise["score function"] > 5 * noise["with a baseline"] and bias["straight-through"] > 0.5
assert bias["with a baseline"] < 1.5 * noise["with a baseline"] / draws**0.5
got = noise["with a baseline"]
print(f"expected 4 ± 2, got {got:.2f} (noise of one sample with a baseline, relative to the length of the gradient)")
assert abs(got - 4) < 2

# %% [markdown]
# ## Exercises
#
# 1. Use $m$ samples, each with the mean of $f$ over the other samples as its baseline. How does the noise decrease
#    with $m$?
# 2. Relax the bits: $z = \sigma((l + \mathrm{logit}\,u) / \tau)$ with uniform $u$. Plot noise and bias against
#    $\tau$.
# 3. Train with each estimator from the start (`exact_elbo` for the gradient of the decoder). Which ELBO does each
#    reach?
# 4. At which $D$ does enumeration become more expensive than a hundred samples with a baseline?
