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
# Some samples in lesson 1 were not digits. The prior has mass in regions without any code, and the decoder was never
# trained there. With two latents we can plot this. The bound of lesson 1, averaged over the data, is
#
# $$\mathbb E_x\,\mathcal L(x) = \mathbb E_x\,\mathbb E_{q(z \mid x)}[\log p(x \mid z)]
#   - \mathbb E_x\,\mathrm{KL}\bigl(q(z \mid x) \,\|\, p(z)\bigr).$$
#
# Its second term is a sum of two. Let $q(z) = \frac1N \sum_n q(z \mid x_n)$ be the **aggregated posterior**, the
# distribution of the codes of all images. Then
#
# $$\frac1N \sum_n \mathrm{KL}\bigl(q(z \mid x_n) \,\|\, p(z)\bigr)
#   = \underbrace{\frac1N \sum_n \mathrm{KL}\bigl(q(z \mid x_n) \,\|\, q(z)\bigr)}
#     _{\text{mutual information } I}
#   + \underbrace{\mathrm{KL}\bigl(q(z) \,\|\, p(z)\bigr)}_{\text{mismatch of the prior}}.$$
#
# The first part is the information that a code contains about its image. The second part has no benefit: it measures
# mass of the prior in the wrong place.

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
    """Train a VAE with two latents; plot its codes and prior, and print its ELBO and the two parts of its KL."""
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
# The reconstruction term pushes the codes of different images apart, and the prior pulls all of them to the origin.
# The codes (dots, coloured by digit) settle in between. Look for contours without dots, and for dots without
# contours.

# %%
figure, standard = learn("standard")
figure

# %% [markdown]
# ## A mixture of Gaussians
#
# $$p(z) = \frac1K \sum_{k=1}^K \mathcal N\bigl(z; \mathrm{loc}_k, \mathrm{diag}(\mathrm{scale}_k^2)\bigr)$$
#
# Now the prior is learned too. The loss contains $-\log p(z)$ for each code $z$, so its gradient moves the components
# towards the codes.

# %%
figure, mog = learn("mog:20")
figure

# %% [markdown]
# ## A VampPrior
#
# $$p(z) = \frac1K \sum_{k=1}^K q(z \mid u_k)$$
#
# The components of this mixture are posteriors of the guide. They belong to $K$ learned *pseudo-inputs* $u_k$, which
# are parameters with the shape of an image (arXiv:1705.07120). Lesson 3 derives this prior. A component does not need
# to learn a scale: it moves with the encoder and has the shape of the posteriors in its region.

# %%
figure, vamp = learn("vamp:50")
figure

# %% [markdown]
# The mismatch decreases from one prior to the next. The information in a code even increases, because codes no longer
# have to stay near zero. Both raise the ELBO, and samples now come from regions with codes. The mixture of Gaussians
# is only halfway: its components start close together, have a long way to move, and must learn their scales.

# %%
assert vamp < mog < standard
print(f"expected 0.09 ± 0.06, got {vamp:.3f} (KL(q(z) ‖ p(z)) of the VampPrior, nats)")
assert abs(vamp - 0.09) < 0.06

# %% [markdown]
# ## Exercises
#
# 1. Try `vamp:5` and `vamp:500`. Which of the two parts of the KL changes with $K$, and which hardly does?
# 2. Decode samples from each prior: `model(batch=16)`. Which prior gives images that are not digits, and where in the
#    plane are their codes?
# 3. Start the pseudo-inputs at training images, `vamp:50:from-data`. Does this improve the ELBO? Does it reduce the
#    mismatch?
# 4. A flow can be the prior too: `coupling:4`. What does it do where there are no codes?
