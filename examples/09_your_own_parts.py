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
# # 9 · Your own prior and your own flow
#
# A part is a module that returns a distribution or a transform when you call it. It works with all other parts. This
# lesson has two examples of about twenty lines each.
#
# ## A prior with heavy tails
#
# $$p(z) = \prod_d t_{\nu_d}(z_d;\ 0, \mathrm{scale}_d)$$
#
# This is Student's $t$ distribution. For codes far from zero, the negative log-density of a Normal prior grows with
# the square of the distance; here it grows with the logarithm of the distance. The degrees of freedom $\nu_d$, which
# determine how heavy the tails are, are learned.
#
# A prior is called without arguments and returns a distribution over one $z$ with batch shape `()` and event shape
# `(latent,)`. `to_event(1)` turns the coordinates into one event, so that `log_prob` sums over them.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import softplus

from vampyro import Part, assemble, data, fit, load, make_update, plots, save, score
from vampyro.distributions import DiagonalNormal, FlowDistribution
from vampyro.errors import SpecError
from vampyro.flows import Bijection, Flow
from vampyro.nets.context import Conditioner


class StudentT(nn.Module):
    """Prior p(z) = Π_d t(z_d; ν_d, 0, scale_d) with ν_d > 1."""

    def __init__(self, latent):
        super().__init__()
        self.freedom, self.log_scale = nn.Parameter(3 * torch.ones(latent)), nn.Parameter(torch.zeros(latent))

    def forward(self):
        return dist.StudentT(1 + softplus(self.freedom), 0.0, self.log_scale.exp()).to_event(1)

    def extra_repr(self):  # a run prints StudentT(10) instead of StudentT()
        return str(len(self.freedom))


# %% [markdown]
# A mixture is not more work: `distributions.Mixture(components, logits)` accepts any components of batch shape
# `(K,)`. Here these would be `dist.StudentT` with parameters of shape `(K, latent)`; `priors/mog.py` does the same
# with Normals.
#
# ## A flow that skews and stretches
#
# $$T(y)_d = \sinh\bigl(e^{a_d} \operatorname{arsinh} y_d + b_d\bigr), \qquad
#   \log \frac{\partial T_d}{\partial y_d} = a_d + \log \cosh\bigl(e^{a_d} \operatorname{arsinh} y_d + b_d\bigr)
#   - \tfrac12 \log(1 + y_d^2)$$
#
# $b$ skews a Normal, and $a$ makes its tails heavier or lighter. With $a = b = 0$ the map is the identity. The
# inverse is the same map with $e^{-a}$, after subtracting $b$. A `Bijection` has the methods `push` and `pull`, and
# both also return the log-determinant of $T$. The `Flow` computes $a$ and $b$ from the features $h$ of an image, or
# learns one set for all images (`shared`).
#
# A flow that follows three rules also works inside a VampPrior:
#
# - The log-determinant is one number per point: sum over the coordinates. (For a rotation, return 0.0.)
# - Parameters may have batch dimensions on the left: one set for each image or for each pseudo-input. A shared flow
#    has none. This is why the code indexes `a[..., layer, :]`. `batch_shape` returns these dimensions.
# - The tensors of the `Bijection` are attributes with these batch dimensions first. Members of the batch are selected
#    by indexing the tensors.
#
# `Conditioner(features, shapes, scales)` is the linear layer from $h$ to tensors of these shapes. `scales` sets how
# far from zero they start. Start near the identity.


# %%
class SinhArcsinh(Bijection):
    """Flow of L layers y → sinh(exp(a_l) arsinh(y) + b_l); a and b have shape (*batch, length, latent)."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    @property
    def batch_shape(self):
        return self.a.shape[:-2]

    @property
    def length(self):
        return self.a.shape[-2]

    def log_derivative(self, y, bent, layer):
        return (self.a[..., layer, :] + bent.cosh().log() - 0.5 * (1 + y * y).log()).sum(-1)

    def push(self, y):
        log_det = 0.0
        for layer in range(self.length):
            bent = self.a[..., layer, :].exp() * y.asinh() + self.b[..., layer, :]
            log_det, y = log_det + self.log_derivative(y, bent, layer), bent.sinh()
        return y, log_det

    def pull(self, z):
        log_det = 0.0
        for layer in reversed(range(self.length)):
            bent = z.asinh()
            z = ((bent - self.b[..., layer, :]) * (-self.a[..., layer, :]).exp()).sinh()
            log_det = log_det + self.log_derivative(z, bent, layer)
        return z, log_det


class SinhArcsinhFlow(Flow):
    """Map from features h to SinhArcsinh(a(h), b(h)); with `shared`, one map for all h."""

    def __init__(self, features, latent, length=1, shared=False):
        super().__init__(length, shared)
        self.conditioner = Conditioner(features, [(length, latent)] * 2, scales=[0.01, 0.01], shared=shared)

    def forward(self, h):
        return SinhArcsinh(*self.conditioner(h))


# %% [markdown]
# Check three things before training. Does the formula agree with autograd? Does the inverse recover the point? Is
# $\int q(z)\,dz = 1$? The plot shows the density of a Normal after the flow.

# %%
pyro.set_rng_seed(0)
flow = SinhArcsinh(torch.tensor([[0.3, -0.3]]), torch.tensor([[0.8, 0.0]]))
y = torch.randn(2)
z, log_det = flow.push(y)
jacobian = torch.autograd.functional.jacobian(lambda point: flow.push(point)[0], y)
print("log-determinant by the formula and by autograd:", log_det.item(), jacobian.det().log().item())
print("largest error of the inverse:", (flow.pull(z)[0] - y).abs().max().item())
axis = torch.linspace(-40, 40, 1600, dtype=torch.float64)
q = FlowDistribution(DiagonalNormal(torch.zeros(2), torch.ones(2)), flow)
density = q.log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(1600, 1600)
integral = (density.sum() * (axis[1] - axis[0]) ** 2).item()
print(f"∫ q(z) dz = {integral:.5f}")
assert abs(log_det - jacobian.det().log()) < 1e-4 and abs(integral - 1) < 1e-3
figure = Figure(figsize=(4, 4), dpi=100, layout="constrained")
axes = figure.subplots()
axes.contour(axis, axis, density.T, 8, linewidths=0.8)
axes.set(xlim=(-4, 10), ylim=(-4, 4), xlabel="b = 0.8, a = 0.3", ylabel="a = -0.3", title="Normal after the flow")
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/09_flow.png")
figure

# %% [markdown]
# ## By name
#
# To use a part by name, add a row for it to the catalogue: its family, its name, and a function that builds it. `n=2`
# means that a number may follow the name and that its default is 2. `options` are words that may follow. The function
# reads them as `spec.n` and `spec.options`. Pass the rows to `assemble`:

# %%
PARTS = [
    Part("prior", "student", lambda spec, guide, latent, shape, images: StudentT(latent)),
    Part(
        "flow",
        "sinh",
        lambda spec, features, latent: SinhArcsinhFlow(features, latent, spec.n, "shared" in spec.options),
        n=2,
        options=("shared",),
    ),
]

print(assemble(prior="student", flow="sinh:1:shared", hidden=(8,), latent=3, parts=PARTS)[1])
print(assemble(prior="vamp:10", flow="sinh", hidden=(8,), latent=3, parts=PARTS)[0].prior())  # VampPrior
try:
    assemble(prior="studnet", parts=PARTS)
except SpecError as error:
    print("SpecError:", error)

# %% [markdown]
# To use the parts on the command line, write the classes and the list `PARTS` into a file `my_parts.py` and name the
# file:
#
#     python run.py --parts my_parts.py --prior student --flow sinh:3
#
# `--resume`, `score`, `sample` and `sweep` accept `--parts` too, and so does `load(folder, parts="my_parts.py")`. A
# run records the path and the digest of the file. The file is never executed unless you name it.
#
# A likelihood, a posterior, a net, an objective and a data set are rows as well. The docstrings of `Part` and
# `DataSet` list the arguments of their functions. A flow is also available as a prior: `--prior sinh`.

# %%
images = data.load("mnist5k")
pyro.set_rng_seed(0)
model, guide = assemble(prior="student", flow="sinh", hidden=(200,), latent=10, parts=PARTS)
for metrics in fit(make_update(model, guide, lr=2e-3), images, epochs=12):
    pass
x = images.images("test")
result = score(model, guide, x, samples=100)
print(result)
print("learned degrees of freedom:", (1 + softplus(model.prior.freedom)).tolist())

# %%
folder = tempfile.mkdtemp()
save(folder, model, guide)
model, guide = load(folder, parts=PARTS)
with torch.no_grad():
    figure = plots.reconstructions(x[:20], model.decoder(guide.q(x[:20]).sample()).mean)
figure

# %%
got = result.log_likelihood.mean().item()
print(f"expected -122 ± 4, got {got:.2f} (test log-likelihood, nats per image, 100 samples)")
assert abs(got + 122) < 4

# %% [markdown]
# ## Exercises
#
# 1. Write both parts into `my_parts.py` and run `python run.py sweep --parts my_parts.py --vary
#    prior=standard,student --vary flow=none,sinh`.
# 2. Write a prior that is uniform on a ring of radius $r$, with Normal noise. Which normalising constant do you need?
# 3. The map transforms each coordinate separately. Compose it with a rotation (its log-determinant is 0). What can it
#    represent now that it could not represent before?
# 4. Use `--prior vamp:50 --flow sinh`. How expensive is a mixture over this flow, and how much time would a
#    `pairwise_log_prob` method save? (`Planar` has one.)
