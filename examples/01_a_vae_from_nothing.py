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
# # 1 · A VAE from nothing
#
# A latent-variable model describes how an image $x$ is generated: sample a code $z$, then sample the pixels given the
# code,
#
# $$p(x, z) = p(z)\,p_\theta(x \mid z), \qquad p(z) = \mathcal N(0, I), \qquad
#   p_\theta(x \mid z) = \prod_i \mathrm{Ber}\bigl(x_i; \sigma(f_\theta(z)_i)\bigr).$$
#
# In Pyro this model is a *program*: an ordinary function whose random choices are `pyro.sample("name",
# distribution)`. The argument `obs=x` fixes a choice to observed data. `pyro.plate` declares that the images are
# independent of one another. The shape of a sample has two parts: the dimensions of the plate on the left, and the
# dimensions of one event on the right. `to_event(1)` declares that the last dimension, here the coordinates of $z$,
# belongs to the event.

# %%
# %matplotlib inline
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from vampyro import data, plots

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
pyro.set_rng_seed(0)
images = data.load("mnist5k")  # 4,000 training digits; pixels are sampled as 0 or 1 in every epoch
LATENT, HIDDEN = 10, 200

decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 784))


def model(x):
    pyro.module("decoder", decoder)  # train these parameters
    with pyro.plate("images", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
        logits = decoder(z).unflatten(-1, (1, 28, 28))
        pyro.sample("x", dist.Bernoulli(logits=logits).to_event(3), obs=x)


# %% [markdown]
# A *trace* runs a program and records every random choice. Its log-probability is $\log p(x, z)$ for the sampled $z$:

# %%
x = images.images("test")[:5]
trace = poutine.trace(model).get_trace(x)
trace.compute_log_prob()
for name in ("z", "x"):
    print(f"log p of {name}, five images:", trace.nodes[name]["log_prob"].detach().numpy().round(1))

# %% [markdown]
# We want parameters with a large $\log p(x) = \log \int p(x, z)\,dz$, but we cannot compute the integral. For any
# density $q(z \mid x)$, Jensen's inequality gives a lower bound that we can estimate with one sample:
#
# $$\log p(x) \;\ge\; \mathcal L(x) = \mathbb E_{q(z \mid x)}\bigl[\log p(x, z) - \log q(z \mid x)\bigr]
#   = \log p(x) - \mathrm{KL}\bigl(q(z \mid x) \,\|\, p(z \mid x)\bigr).$$
#
# Maximising this bound fits the model and moves $q$ towards the posterior. The second program, the *guide*, samples
# the same sites from $q$. One network computes the mean and scale of $q$ for every image.

# %%
encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * LATENT))


def guide(x):
    pyro.module("encoder", encoder)
    with pyro.plate("images", len(x)):
        loc, log_variance = encoder(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, (log_variance / 2).exp()).to_event(1))


svi = SVI(model, guide, pyro.optim.Adam({"lr": 2e-3}), Trace_ELBO())
for epoch in range(1, 31):
    loss = sum(svi.step(batch) for batch in images.batches(100)) / len(images.train)
    if epoch in (1, 2, 5, 10, 30):
        print(f"epoch {epoch:2d}   -ELBO {loss:.1f} nats per image")

# %% [markdown]
# `Trace_ELBO` does three things. It runs the guide. It runs the model with the $z$ of the guide. It subtracts the two
# log-probabilities and differentiates; because $z = \mathrm{loc} + \mathrm{scale} \cdot \epsilon$, the gradient
# passes through the sample. This is the whole method. The plot shows means of $p(x \mid z)$ for codes sampled from
# the prior.

# %%
with torch.no_grad():
    means = decoder(torch.randn(40, LATENT)).sigmoid().unflatten(-1, (1, 28, 28))
figure = plots.image_grid(means, columns=10, title="means of p(x | z), z ~ p(z)")
figure.savefig(FIGURES / "01_samples.png")
figure

# %% [markdown]
# ## The same from parts
#
# In this project the prior, the decoder and the posterior are modules that return a *distribution* when they are
# called, so each of them can be replaced. `VAE` and `Guide` are exactly the two programs above. To check this, we
# copy our trained weights into them and compare the bounds with the same random seed.

# %%
from vampyro.guides import Guide
from vampyro.models import VAE
from vampyro.priors import StandardNormal

from vampyro import nets
from vampyro.likelihood import score
from vampyro.programs.randomness import seeded
from vampyro.training import elbo_parts

their_model = VAE(
    StandardNormal(LATENT),
    nn.Sequential(nets.MLP((LATENT,), (HIDDEN,), "tanh"), nets.BernoulliHead(HIDDEN, (1, 28, 28))),
)
their_guide = Guide(nets.MLP((1, 28, 28), (HIDDEN,), "tanh"), nets.NormalHead(HIDDEN, LATENT))
with torch.no_grad():
    for ours, theirs in ((decoder, their_model.decoder), (encoder, their_guide)):
        for source, target in zip(ours.parameters(), theirs.parameters(), strict=True):
            target.copy_(source)

x = images.images("test")
with seeded(1), torch.no_grad():
    by_hand = -Trace_ELBO().loss(model, guide, x) / len(x)
with seeded(1), torch.no_grad():
    by_parts = -Trace_ELBO().loss(their_model, their_guide, x) / len(x)
print(f"test ELBO by hand {by_hand:.4f}, by parts {by_parts:.4f}")
print(elbo_parts(their_model, their_guide, x))
assert abs(by_hand - by_parts) < 0.01

# %% [markdown]
# The functions for training and scoring do not need these parts. They accept the two functions above as they are.

# %%
few = x[:20]
scores = [score(*pair, few, samples=50) for pair in ((model, guide), (their_model, their_guide))]
print(*scores, sep="\n")
assert abs(scores[0].elbo.mean() - scores[1].elbo.mean()) < 0.01

# %% [markdown]
# The KL term is the cost of the code, and the reconstruction is the cost of the image once the code is known. A model
# with a smaller sum compresses the images better. By name, the same pair of programs is `assemble(hidden=(200,),
# latent=10, activation="tanh")`, or in a shell `python run.py --hidden 200 --latent 10 --activation tanh --epochs
# 30`.

# %%
print(f"expected -127 ± 3, got {by_hand:.2f} (test ELBO, nats per image)")
assert abs(by_hand + 127) < 3

# %% [markdown]
# ## Exercises
#
# 1. Remove the two `pyro.module` lines. What does `svi.step` do now? (`vampyro.training.register` helps.)
# 2. Sample $z$ from the guide with 5 particles instead of 1 (`Trace_ELBO(num_particles=5,
#    vectorize_particles=True)`). Which changes: the expected loss, its variance, or both?
# 3. Let the last layer of the decoder return the mean of a Normal with scale 1 instead of logits. Why can that ELBO
#    not be compared with this one?
