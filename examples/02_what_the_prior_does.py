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
# # 2 · What the prior does
#
# Some samples of lesson 1 were blots: the prior has mass where no image's code lies, and nobody told the decoder what
# to do there. In two dimensions one can see that. The bound of lesson 1, averaged over the data, is
#
# $$\mathbb E_x\,\mathcal L(x) = \mathbb E_x\,\mathbb E_{q(z \mid x)}[\log p(x \mid z)]
#   - \mathbb E_x\,\mathrm{KL}\bigl(q(z \mid x) \,\|\, p(z)\bigr)$$
#
# and the second term is made of two. With the **aggregated posterior** $q(z) = \frac1N \sum_n q(z \mid x_n)$, the
# codes of all images together,
#
# $$\frac1N \sum_n \mathrm{KL}\bigl(q(z \mid x_n) \,\|\, p(z)\bigr)
#   = \underbrace{\frac1N \sum_n \mathrm{KL}\bigl(q(z \mid x_n) \,\|\, q(z)\bigr)}
#     _{I,\ \text{what a code says of its image}}
#   + \underbrace{\mathrm{KL}\bigl(q(z) \,\|\, p(z)\bigr)}_{\text{what the prior got wrong}}.$$
#
# The first part is what we pay the code for. The second buys nothing: it is mass in the wrong place.

# %%
# %matplotlib inline
from pathlib import Path

import pyro
import torch

from vampyro import assemble, data, plots
from vampyro.diagnostics import surgery
from vampyro.training import elbo_parts, fit, make_update

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
images = data.load("mnist5k")
x, labels = images.images("train"), images.labels_of("train")


def learn(prior):
    """Trains a VAE with that prior in the plane: a picture of codes and prior, its ELBO, and the KL's two parts."""
    pyro.set_rng_seed(0)
    model, guide = assemble(prior=prior, hidden=(200,), latent=2)
    for _ in fit(make_update(model, guide, lr=2e-3), images, epochs=20):
        pass
    parts = surgery(model, guide, x, samples=2)
    with torch.no_grad():
        codes = guide.q(x[:2000]).sample()
        figure = plots.latent_plane(codes, labels[:2000], model.prior().log_prob, title=f"{model.prior}")
    figure.savefig(FIGURES / f"02_{prior.split(':')[0]}.png")
    elbo = elbo_parts(model, guide, images.images("valid"))["elbo"]
    information, wrong = parts.mutual_information.mean, parts.marginal_kl.mean
    print(f"{prior}: validation ELBO {elbo:.1f}; KL = {information:.2f} + {wrong:.2f} nats per image")
    return figure, wrong


# %% [markdown]
# ## A standard Normal
#
# $$p(z) = \mathcal N(z; 0, I)$$
#
# Every image pulls its code outwards, to be told apart; the prior pulls all of them to one place. The codes (dots, in
# the colours of their digits) settle between; look for contours without dots, and dots without contours.

# %%
figure, standard = learn("standard")
figure

# %% [markdown]
# ## A mixture of Gaussians
#
# $$p(z) = \frac1K \sum_{k=1}^K \mathcal N\bigl(z; \mathrm{loc}_k, \mathrm{diag}(\mathrm{scale}_k^2)\bigr)$$
#
# The prior is learned too: it goes where the codes are. The gradient does it by itself, as $-\log p(z)$ stands in the
# loss for each code $z$.

# %%
figure, mog = learn("mog:20")
figure

# %% [markdown]
# ## A VampPrior
#
# $$p(z) = \frac1K \sum_{k=1}^K q(z \mid u_k)$$
#
# The mixture's components are the guide's own posteriors, of $K$ learned *pseudo-inputs* $u_k$, images that nobody
# drew (arXiv:1705.07120). Lesson 3 says why. A component needs no scale of its own to be found: it moves as the
# encoder moves, and looks as posteriors look there.

# %%
figure, vamp = learn("vamp:50")
figure

# %% [markdown]
# In this order the priors are less and less wrong; the information in a code even rises, as codes need no longer
# huddle around zero. Both raise the ELBO, and samples come from where codes are. The mixture of Gaussians is a step on
# the way only: its components begin side by side and have far to go, and their scales have to be learned by each.

# %%
assert vamp < mog < standard
print(f"expected 0.09 ± 0.06, got {vamp:.3f} (KL(q(z) ‖ p(z)) of the VampPrior, nats)")
assert abs(vamp - 0.09) < 0.06

# %% [markdown]
# ## Exercises
#
# 1. `vamp:5`, `vamp:500`: which of the two parts of the KL changes with $K$, and which hardly does?
# 2. Decode a sample from each prior: `model(batch=16)`. Which one has blots, and where in the plane do they come from?
# 3. Start the pseudo-inputs from images, `vamp:50:from-data`. Is the ELBO better, is the second part?
# 4. A flow can be the prior as well: `coupling:4`. What does it do where the codes have a gap?
