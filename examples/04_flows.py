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
# # 4 · What a planar layer does, and what a shared flow is equivalent to
#
# The contours of a Normal posterior are ellipses. A flow applies an invertible map $T$ to it and keeps its density
# known: with $z = T(y)$,
#
# $$\log q(z) = \log q_0(y) - \log \Bigl|\det \frac{\partial T}{\partial y}\Bigr| .$$
#
# The planar layer (arXiv:1505.05770) moves every point along one direction $\hat u$, by an amount that depends only
# on $w \cdot y$:
#
# $$T(y) = y + \hat u \tanh(w \cdot y + b), \qquad
#   \det \frac{\partial T}{\partial y} = 1 + (w \cdot \hat u)\,\bigl(1 - \tanh^2(w \cdot y + b)\bigr).$$
#
# The Jacobian is the identity plus an outer product, so its determinant takes $D$ multiplications, not $D^3$. The
# determinant is positive and $T$ is invertible if $w \cdot \hat u > -1$. The layer computes $\hat u$ from an
# unconstrained $u$ so that this condition always holds.

# %%
# %matplotlib inline
import math
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from pyro.infer import Trace_ELBO
from torch import nn
from vampyro.guides import Guide
from vampyro.models import VAE
from vampyro.priors import StandardNormal

from vampyro import data, nets
from vampyro.distributions import DiagonalNormal, FlowDistribution
from vampyro.flows import PlanarFlow
from vampyro.flows.planar import Planar
from vampyro.programs.randomness import seeded
from vampyro.training import fit, make_update

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
pyro.set_rng_seed(0)

one = Planar(u=torch.tensor([[0.0, 2.0]]), w=torch.tensor([[2.0, 0.0]]), b=torch.zeros(1))
against = Planar(u=torch.tensor([[-3.0, 0.0]]), w=torch.tensor([[1.0, 0.0]]), b=torch.zeros(1))
y = torch.randn(2)
jacobian = torch.autograd.functional.jacobian(lambda point: against.push(point)[0], y)
print("log-determinant by the formula and by autograd:", against.push(y)[1].item(), jacobian.det().log().item())

# %% [markdown]
# A grid shows the effect of a layer. If $\hat u$ is orthogonal to $w$, the layer shears the grid and the determinant
# equals one. If $u$ has the opposite direction to $w$, the layer compresses the grid at the line $w \cdot y + b = 0$,
# as strongly as invertibility allows. Far from that line tanh is constant, so the layer only shifts one side relative
# to the other. Eight random layers give more complicated folds.

# %%
eight = Planar(torch.randn(8, 2), 1.5 * torch.randn(8, 2), torch.randn(8))
lines = torch.linspace(-3, 3, 25), torch.linspace(-3, 3, 200)
rows = torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], -1)  # (25 lines, 200 points, 2)
figure = Figure(figsize=(9, 3.2), dpi=100, layout="constrained")
for axes, flow, title in zip(figure.subplots(1, 3), (one, against, eight), ("û ⊥ w", "u = -3 w", "eight layers")):
    for grid in (rows, rows.flip(-1)):
        axes.plot(*flow(grid).permute(2, 1, 0), color="C0", linewidth=0.5)
    axes.set(title=title, aspect="equal")
figure.savefig(FIGURES / "04_layers.png")
figure

# %% [markdown]
# ## Length
#
# The shape of a posterior determines how many layers it needs. Take a density with two moons, $p(z) = e^{-U(z)} / Z$,
# and maximise the bound $\mathbb E_q[-U(z) - \log q(z)] = \log Z - \mathrm{KL}(q \,\|\, p)$. In the plane we can
# compute $Z$ as a sum over a grid, so the KL is known.


# %%
def energy(z):
    """Return U(z): low on the left and right sides of a ring of radius 2."""
    sides = torch.logaddexp(-0.5 * ((z[..., 0] - 2) / 0.6) ** 2, -0.5 * ((z[..., 0] + 2) / 0.6) ** 2)
    return 0.5 * ((z.norm(dim=-1) - 2) / 0.4) ** 2 - sides


axis = torch.linspace(-6, 6, 400)
plane = torch.cartesian_prod(axis, axis)
log_z = (-energy(plane)).logsumexp(0) + 2 * math.log(axis[1] - axis[0])
figure = Figure(figsize=(11, 3), dpi=100, layout="constrained")
pictures = iter(figure.subplots(1, 4))
densities, kl = {"p": -energy(plane) - log_z}, {}
for length in (1, 2, 8):
    pyro.set_rng_seed(0)
    flow = PlanarFlow(0, 2, length, shared=True)
    loc, log_scale = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([*flow.parameters(), loc, log_scale], lr=0.02)
    cooling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 700)
    for step in range(700):
        q = FlowDistribution(DiagonalNormal(loc, log_scale.exp()), flow(None))
        z = q.rsample((256,))
        loss = (energy(z) + q.log_prob(z)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cooling.step()
    with torch.no_grad():
        q = FlowDistribution(DiagonalNormal(loc, log_scale.exp()), flow(None))
        densities[f"q, length {length}"] = log_q = q.log_prob(plane)  # uses T's inverse: not samples of q
        kl[length] = (log_q.exp() * (log_q - densities["p"])).sum().item() * (axis[1] - axis[0]).item() ** 2
    print(f"length {length}: KL(q ‖ p) = {kl[length]:.3f} nats")
for axes, (title, density) in zip(pictures, densities.items()):
    axes.imshow(density.exp().reshape(400, 400).T, origin="lower", extent=(-6, 6, -6, 6), cmap="magma")
    axes.set(title=title, xlim=(-4, 4), ylim=(-4, 4))
figure.savefig(FIGURES / "04_length.png")
figure

# %% [markdown]
# ## One flow for all images
#
# In a VAE the parameters of the layers can be computed from $x$, or all images can share one set of parameters,
# `planar:5:shared`. What is the benefit of a shared flow? Substitute $z = T(y)$ in the bound, with $q(z \mid x) =
# q_0(y \mid x)\,/\,|\det T'(y)|$:
#
# $$\mathbb E_{q(z \mid x)}\Bigl[\log \frac{p(z)\,p(x \mid z)}{q(z \mid x)}\Bigr]
#   = \mathbb E_{q_0(y \mid x)}\Bigl[\log \frac{\tilde p(y)\,p(x \mid T(y))}{q_0(y \mid x)}\Bigr],
#   \qquad \tilde p(y) = p(T(y))\,|\det T'(y)| .$$
#
# The posterior on the right has no flow. $T$ has moved into the decoder, and its inverse into the prior: $\tilde p$
# is the density of $T^{-1}(z)$ for $z \sim p$. Both sides are equal for every single sample. We train the left side
# and evaluate both.

# %%
images = data.load("mnist5k")
guide = Guide(nets.MLP((1, 28, 28), (200,)), nets.NormalHead(200, 8), PlanarFlow(200, 8, length=5, shared=True))
model = VAE(StandardNormal(8), nn.Sequential(nets.MLP((8,), (200,)), nets.BernoulliHead(200, (1, 28, 28))))
for _ in fit(make_update(model, guide, lr=2e-3), images, epochs=8):
    pass
flow = guide.flow(None)  # T; a shared flow ignores the features


def pulled_back():
    """Return the prior p̃(y)."""
    return dist.TransformedDistribution(model.prior(), [flow.inv])


plain = Guide(guide.body, guide.head)
moved = VAE(pulled_back, lambda y: model.decoder(flow(y)))
x = images.images("test")
bounds = {}
for name, programs in {"flow in the posterior": (model, guide), "flow in prior and decoder": (moved, plain)}.items():
    with seeded(1), torch.no_grad():
        bounds[name] = -Trace_ELBO().loss(*programs, x) / len(x)
    print(f"ELBO, {name}: {bounds[name]:.5f}")

# %% [markdown]
# So a shared flow cannot make the shape of the posterior depend on the image. It is equivalent to a learned flow
# prior and a few additional layers in a decoder that already has layers. Only a flow whose parameters are computed
# from $x$ adds something that the prior and the decoder cannot express.

# %%
left, right = bounds.values()
assert kl[8] < kl[2] < kl[1] and kl[8] < 0.15
print(f"expected 0 ± 0.001, got {left - right:.6f} (left side minus right side, nats per image)")
assert abs(left - right) < 0.001

# %% [markdown]
# ## Exercises
#
# 1. Let $\hat u \parallel w$ and plot $w \cdot T(y)$ against $w \cdot y$. Why is $w \cdot \hat u > -1$ exactly the
#    condition for invertibility?
# 2. Which target cannot be fitted by a planar flow of 8 layers? Try a full ring, without the two sides. (An
#    invertible map cannot make a hole.)
# 3. Repeat the identity with `coupling` or `iaf` instead of `planar`. Which of the two sides trains faster, and why?
# 4. Train `planar:5` and `planar:5:shared` for 20 epochs. Does the difference in ELBO agree with the identity?
