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
# # 5 · A flow meets a VampPrior, exactly
#
# A VampPrior is a mixture of the guide's posteriors. If those are flows, so are its components,
#
# $$p(z) = \frac1K \sum_{k=1}^K q(z \mid u_k), \qquad
#   \log q(z \mid u_k) = \log \mathcal N\bigl(T_k^{-1}(z);\ \mathrm{loc}_k, \mathrm{scale}_k^2\bigr)
#   - \log \Bigl|\det T_k'\bigl(T_k^{-1}(z)\bigr)\Bigr| .$$
#
# A code $z \sim q(z \mid x)$ was made by the flow of $x$, and remembers where it came from: $T_x^{-1}(z)$ is free. But
# here every $z$ is asked about under the flows of all $u_k$, and each needs **its own inverse**. The planar layer is
# often said to have none. It has: $w \cdot T(y) = r + (w \cdot \hat u) \tanh(r + b)$, $r = w \cdot y$, grows with $r$,
# so $r$ is the root of one scalar equation, and then $y = T(y) - \hat u \tanh(r + b)$.

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
    y, _ = q.transform.pull(z)  # computed; `transform.inv(z)` would remember
    print("there and back again, largest error:", (q.transform.push(y)[0] - z).abs().max().item())

# %% [markdown]
# ## By hand, and by the mixture
#
# Equation above, component by component: a loop of $K$ inversions. The project's `Mixture` computes the same without a
# tensor of points × components × dimensions (`Planar.pairwise_log_prob`).

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
# A wrong inverse or determinant would show here. In the plane the integral is a sum over a grid:


# %%
low, high = codes.min(0).values - 6, codes.max(0).values + 6
axes_of_grid = [torch.linspace(a, b, 300, dtype=torch.float64) for a, b in zip(low, high)]
grid = torch.cartesian_prod(*axes_of_grid)
cell = (axes_of_grid[0][1] - axes_of_grid[0][0]) * (axes_of_grid[1][1] - axes_of_grid[1][0])


def density(q):
    """1/K Σ_k of what q gives for each pseudo-input, on the grid, and its integral."""
    prior = VampPrior(q, (1, 28, 28), 20, images=model.prior.pseudo_inputs().detach(), trainable=False)
    with torch.no_grad():
        values = prior().log_prob(grid).exp()
    return values.reshape(300, 300), (values.sum() * cell).item()


exact, integral = density(guide.q)
print(f"∫ p(z) dz = {integral:.6f}")

# %% [markdown]
# ## The cheat, and what it costs
#
# One can avoid the inverses with a mixture of the Normals that the flows *start* from, `vamp-base`:
#
# $$p_0(z) = \frac1K \sum_k \mathcal N\bigl(z;\ \mathrm{loc}(u_k), \mathrm{scale}(u_k)^2\bigr).$$
#
# That is a density too, its integral says nothing against it. But it is another prior: its components lie where codes
# are *before* the flow.

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
# How much? Lesson 3 gives the measure. For the mixture over *all* images $\mathrm{KL}(q(z) \,\|\, p(z))$ must be zero,
# and with flows it is, if components are what the lesson says. With their bases it is not:

# %%
everything = VAE(ex_post("aggregate", model, guide, x), model.decoder)
cheated = VAE(VampPrior(guide.base, (1, 28, 28), len(x), images=x, trainable=False), model.decoder)
wrong = {name: surgery(m, guide, x, samples=2).marginal_kl.mean for name, m in (("q", everything), ("base", cheated))}
print(f"KL(q(z) ‖ p(z)) over all images: {wrong['q']:.5f} with flows, {wrong['base']:.2f} with their bases")
assert abs(wrong["q"]) < 1e-4 and wrong["base"] > 3

# %% [markdown]
# Trained with the cheat from the start, pseudo-inputs learn their way around it: their *bases* come to lie where codes
# are, and the ELBO of so small a model is the same (exercise 1). What is lost is the meaning. A component is then no
# posterior, its pseudo-input is no image in the sense of the encoder, and neither `from-data`, nor `fixed`, nor the
# aggregated posterior is what its name says.

# %%
print(f"expected 1 ± 0.005, got {integral:.6f} (integral of the VampPrior over planar posteriors)")
assert abs(integral - 1) < 0.005

# %% [markdown]
# ## Exercises
#
# 1. Train `vamp-base:20` for as long and compare the ELBO; then both with `:fixed`. Who finds the way around now?
# 2. Write the inverse of one layer by bisection and compare it with `flows.root.solve`.
# 3. With `planar:4:shared` one inverse serves all components. Why? (`FlowDistribution.pairwise_log_prob`)
# 4. Put a deliberate error into the determinant in `Planar.pull`. Which of the checks in this lesson notices?
