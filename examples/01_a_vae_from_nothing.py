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
# A latent-variable model says how an image $x$ comes about: draw a code $z$, then draw the pixels given the code,
#
# $$p(x, z) = p(z)\,p_\theta(x \mid z), \qquad p(z) = \mathcal N(0, I), \qquad
#   p_\theta(x \mid z) = \prod_i \mathrm{Ber}\bigl(x_i; \sigma(f_\theta(z)_i)\bigr).$$
#
# Pyro's idea is to write that down as a *program that draws*: an ordinary function whose random choices are
# `pyro.sample("name", distribution)`. Given data, `obs=x` fixes a choice to what was seen. The plate says that the
# images are independent of one another. Shapes follow: on the left of a draw stand the plate's dimensions, on the right
# those of one event, and `to_event(1)` says that the last one, here the coordinates of $z$, belongs to the event.

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
images = data.load("mnist5k")  # 4,000 training digits, their pixels drawn anew as 0 or 1 in every epoch
LATENT, HIDDEN = 10, 200

decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 784))


def model(x):
    pyro.module("decoder", decoder)  # "these parameters are to be learned"
    with pyro.plate("images", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
        logits = decoder(z).unflatten(-1, (1, 28, 28))
        pyro.sample("x", dist.Bernoulli(logits=logits).to_event(3), obs=x)


# %% [markdown]
# To run a program and look at every choice it made is a *trace*. Its log-probability is $\log p(x, z)$ for the $z$
# that was drawn:

# %%
x = images.images("test")[:5]
trace = poutine.trace(model).get_trace(x)
trace.compute_log_prob()
for name in ("z", "x"):
    print(f"log p of {name}, five images:", trace.nodes[name]["log_prob"].detach().numpy().round(1))

# %% [markdown]
# We want parameters that make $\log p(x) = \log \int p(x, z)\,dz$ large, and cannot do the integral. For any density
# $q(z \mid x)$ Jensen's inequality gives a bound that we can estimate with one draw,
#
# $$\log p(x) \;\ge\; \mathcal L(x) = \mathbb E_{q(z \mid x)}\bigl[\log p(x, z) - \log q(z \mid x)\bigr]
#   = \log p(x) - \mathrm{KL}\bigl(q(z \mid x) \,\|\, p(z \mid x)\bigr).$$
#
# So raising the bound both fits the model and pulls $q$ to the posterior. The second program, the *guide*, draws the
# same sites from $q$; one network computes its mean and scale for whichever image it is shown.

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
# `Trace_ELBO` ran the guide, ran the model with the guide's $z$ in place of its own, subtracted the two
# log-probabilities and differentiated: $z = \mathrm{loc} + \mathrm{scale} \cdot \epsilon$ lets the gradient through.
# That is all there is. Below, means of $p(x \mid z)$ for codes drawn from the prior.

# %%
with torch.no_grad():
    means = decoder(torch.randn(40, LATENT)).sigmoid().unflatten(-1, (1, 28, 28))
figure = plots.image_grid(means, columns=10, title="means of p(x | z), z ~ p(z)")
figure.savefig(FIGURES / "01_samples.png")
figure

# %% [markdown]
# ## The same by parts
#
# In this project the prior, the decoder and the posterior are modules whose call returns a *distribution*, so that
# each can be swapped. `VAE` and `Guide` are the two programs above, and nothing else. To show it, we hand our trained
# weights over, and compare the bounds under the same random numbers.

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
# Nothing in `inference` needs our parts, though: it takes the two functions by hand as they are.

# %%
few = x[:20]
scores = [score(*pair, few, samples=50) for pair in ((model, guide), (their_model, their_guide))]
print(*scores, sep="\n")
assert abs(scores[0].elbo.mean() - scores[1].elbo.mean()) < 0.01

# %% [markdown]
# The KL term is what the code costs, the reconstruction what is left to say once the code is known; a model with the
# smaller sum compresses the images better. And with names instead of objects, the same pair is
# `assemble(hidden=(200,), latent=10, activation="tanh")`, or from the shell `python run.py --hidden 200 --latent 10
# --activation tanh --epochs 30`.

# %%
print(f"expected -127 ± 3, got {by_hand:.2f} (test ELBO, nats per image)")
assert abs(by_hand + 127) < 3

# %% [markdown]
# ## Exercises
#
# 1. Leave out the two `pyro.module` lines. What does `svi.step` do now? (`vampyro.training.registered` helps.)
# 2. Draw $z$ from the guide with 5 instead of 1 particles (`Trace_ELBO(num_particles=5, vectorize_particles=True)`).
#    Which changes: the expected loss, its variance, or both?
# 3. Make the decoder's last layer return the mean of a Normal with scale 1 instead of logits. Why is that ELBO not
#    comparable with this one?
