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
# # 5 · A VampPrior over flow posteriors, exactly
#
# A VampPrior is a mixture of posteriors of the guide. If these posteriors have flows, so do its components:
#
# $$p(z) = \frac1K \sum_{k=1}^K q(z \mid u_k), \qquad
#   \log q(z \mid u_k) = \log \mathcal N\bigl(T_k^{-1}(z);\ \mathrm{loc}_k, \mathrm{scale}_k^2\bigr)
#   - \log \Bigl|\det T_k'\bigl(T_k^{-1}(z)\bigr)\Bigr| .$$
#
# A code $z \sim q(z \mid x)$ is computed by the flow of $x$, so $T_x^{-1}(z)$ is already known. The mixture, however,
# needs the density of every $z$ under the flow of every $u_k$, and each of these flows needs **its own inverse**. The
# planar layer is often said to have no inverse, but it has one. Let $r = w \cdot y$. Then $w \cdot T(y) = r + (w
# \cdot \hat u) \tanh(r + b)$ increases with $r$, so $r$ is the root of one scalar equation, and $y = T(y) - \hat u
# \tanh(r + b)$.

# %%
# %matplotlib inline
from pathlib import Path

import pyro
import torch
from matplotlib.figure import Figure
from vampyro.models import VAE
from vampyro.priors import VampPrior

from vampyro import data
from vampyro.catalogue.assemble import assemble, ex_post
from vampyro.diagnostics import surgery
from vampyro.training import fit, make_update

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
pyro.set_rng_seed(0)
images = data.load("mnist5k")
x = images.images("train")[:1000]

model, guide = assemble(prior="vamp:20", flow="planar:4", hidden=(150,), latent=2)
for metrics in fit(make_update(model, guide, lr=2e-3), images, epochs=8):
    pass
print(model.prior().components, "-ELBO", round(metrics["loss"], 1))

with torch.no_grad():
    q = guide.q(x[:3])
    z = q.sample()
    y, _ = q.transform.pull(z)  # computes the inverse; `transform.inv(z)` would return the cached y
    print("largest error of the inverse:", (q.transform.push(y)[0] - z).abs().max().item())

# %% [markdown]
# ## By hand, and with the mixture
#
# We evaluate the equation above component by component, in a loop of $K$ inversions. The class `Mixture` of this
# project computes the same without a tensor of points × components × dimensions (`Planar.pairwise_log_prob`).

# %%
with torch.no_grad():
    codes = guide.q(x).sample()
    each = [guide.q(u.unsqueeze(0)).log_prob(codes) for u in model.prior.pseudo_inputs()]
    by_hand = torch.stack(each).logsumexp(0) - torch.tensor(20.0).log()
    by_mixture = model.prior().log_prob(codes)
print("log p(z) of 1,000 codes, largest difference:", (by_hand - by_mixture).abs().max().item())
assert (by_hand - by_mixture).abs().max() < 1e-2

# %% [markdown]
# ## Is it a density?
#
# $$\int p(z)\,dz = 1$$
#
# A wrong inverse or determinant would change this integral. In the plane the integral is a sum over a grid:


# %%
low, high = codes.min(0).values - 6, codes.max(0).values + 6
axes_of_grid = [torch.linspace(a, b, 300, dtype=torch.float64) for a, b in zip(low, high)]
grid = torch.cartesian_prod(*axes_of_grid)
cell = (axes_of_grid[0][1] - axes_of_grid[0][0]) * (axes_of_grid[1][1] - axes_of_grid[1][0])


def density(q):
    """Return the mixture 1/K Σ_k q(u_k) on the grid, and its integral."""
    prior = VampPrior(q, (1, 28, 28), 20, images=model.prior.pseudo_inputs().detach(), trainable=False)
    with torch.no_grad():
        values = prior().log_prob(grid).exp()
    return values.reshape(300, 300), (values.sum() * cell).item()


exact, integral = density(guide.q)
print(f"∫ p(z) dz = {integral:.6f}")

# %% [markdown]
# ## A shortcut, and what it costs
#
# A mixture of the Normals *before* the flows needs no inverses. This prior is called `vamp-base`:
#
# $$p_0(z) = \frac1K \sum_k \mathcal N\bigl(z;\ \mathrm{loc}(u_k), \mathrm{scale}(u_k)^2\bigr).$$
#
# It is a density too, and its integral is also 1. But it is a different prior: its components are where codes are
# *before* the flow.

# %%
base, integral_of_base = density(guide.base)
print(f"∫ p₀(z) dz = {integral_of_base:.6f}")
figure = Figure(figsize=(9, 4.2), dpi=100, layout="constrained")
titles = "1/K Σ q(z | u_k)", "1/K Σ N(z; loc(u_k), scale²(u_k))"
for axes, values, title in zip(figure.subplots(1, 2), (exact, base), titles):
    levels = (values.max() * torch.tensor([0.003, 0.01, 0.03, 0.1, 0.3, 0.9])).tolist()
    axes.contour(*axes_of_grid, values.T, levels, colors="C1", linewidths=0.8)
    axes.plot(*codes.T, ".", markersize=1.5)
    axes.set_title(title)
figure.savefig(FIGURES / "05_exact_and_base.png")
figure

# %% [markdown]
# How different are the two priors? Lesson 3 gives a measure. For the mixture over *all* images, $\mathrm{KL}(q(z)
# \,\|\, p(z))$ must be zero. It is zero if the components include the flows. It is not zero for the Normals before
# the flows:

# %%
everything = VAE(ex_post("aggregate", model, guide, x), model.decoder)
cheated = VAE(VampPrior(guide.base, (1, 28, 28), len(x), images=x, trainable=False), model.decoder)
wrong = {name: surgery(m, guide, x, samples=2).marginal_kl.mean for name, m in (("q", everything), ("base", cheated))}
print(f"KL(q(z) ‖ p(z)) over all images: {wrong['q']:.5f} with flows, {wrong['base']:.2f} without")
assert abs(wrong["q"]) < 1e-4 and wrong["base"] > 3

# %% [markdown]
# If a model is trained with the shortcut from the start, the pseudo-inputs adapt to it: the *Normals before the
# flows* move to where the codes are. For a model as small as this one the ELBO is then the same (exercise 1). But the
# components lose their meaning. A component is no longer a posterior, and its pseudo-input is no longer an image that
# the encoder would map to this component. `from-data`, `fixed` and the aggregated posterior no longer do what their
# names say.

# %%
print(f"expected 1 ± 0.005, got {integral:.6f} (integral of the VampPrior over planar posteriors)")
assert abs(integral - 1) < 0.005

# %% [markdown]
# ## Exercises
#
# 1. Train `vamp-base:20` for the same number of epochs and compare the ELBO. Then train both priors with `:fixed`.
#    Can the model still adapt to the shortcut?
# 2. Write the inverse of one layer by bisection and compare it with `flows.root.solve`.
# 3. With `planar:4:shared` one inverse serves all components. Why? (See `FlowDistribution.pairwise_log_prob`.)
# 4. Put a deliberate error into the determinant in `Planar.pull`. Which of the checks in this lesson detect it?
