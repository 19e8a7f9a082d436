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
# A part is a module whose call returns a distribution, or a transform. It works with all other parts. Two examples,
# each of some twenty lines.
#
# ## A prior with heavy tails
#
# $$p(z) = \prod_d t_{\nu_d}(z_d;\ 0, \mathrm{scale}_d)$$
#
# Student's $t$: where codes lie far out, a Normal prior charges by the square of the distance and this one by its
# logarithm. How heavy the tails are, $\nu_d$, is learned.
#
# The call of a prior takes nothing and returns a distribution over one $z$: batch shape `()`, event shape `(latent,)`.
# `to_event(1)` makes one event of the coordinates, so that `log_prob` sums over them.

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
    """p(z) = Π_d t(z_d; ν_d, 0, scale_d), ν_d > 1."""

    def __init__(self, latent):
        super().__init__()
        self.freedom, self.log_scale = nn.Parameter(3 * torch.ones(latent)), nn.Parameter(torch.zeros(latent))

    def forward(self):
        return dist.StudentT(1 + softplus(self.freedom), 0.0, self.log_scale.exp()).to_event(1)

    def extra_repr(self):  # StudentT(10) in the first line that a run prints, instead of StudentT()
        return str(len(self.freedom))


# %% [markdown]
# A mixture is no more work: `distributions.Mixture(components, logits)` takes any components of batch shape `(K,)`,
# here `dist.StudentT` of parameters `(K, latent)`, as `priors/mog.py` does it with Normals.
#
# ## A flow that skews and stretches
#
# $$T(y)_d = \sinh\bigl(e^{a_d} \operatorname{arsinh} y_d + b_d\bigr), \qquad
#   \log \frac{\partial T_d}{\partial y_d} = a_d + \log \cosh\bigl(e^{a_d} \operatorname{arsinh} y_d + b_d\bigr)
#   - \tfrac12 \log(1 + y_d^2)$$
#
# $b$ skews a Normal, $a$ makes its tails heavier or lighter, $a = b = 0$ is the identity. Backwards is the same map
# with $e^{-a}$, and $b$ taken off first. A `Bijection` has `push` and `pull`, each with the log-determinant of $T$;
# the `Flow` computes $a$ and $b$ from the features $h$ of an image, or learns one set for all (`shared`).
#
# Three rules, and then a VampPrior can score with it too:
#
# - The log-determinant has one number for each point: sum over the coordinates. (0.0 will do for a rotation.)
# - Parameters may have a batch on the left, one set for each image or for each pseudo-input, or none if shared: hence
#   the dots in `a[..., layer, :]`. `batch_shape` says which.
# - Tensors of the `Bijection` are attributes with that batch first: some of its members are picked by indexing them.
#
# `Conditioner(features, shapes, scales)` is the linear layer from $h$ to tensors of those shapes; `scales` says how far
# from zero they start. Start near the identity.


# %%
class SinhArcsinh(Bijection):
    """y → sinh(exp(a_l) arsinh(y) + b_l), l = 1…L; a, b: (*batch, length, latent)."""

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
    """h → SinhArcsinh(a(h), b(h)), or with `shared` one map for all h."""

    def __init__(self, features, latent, length=1, shared=False):
        super().__init__(length, shared)
        self.conditioner = Conditioner(features, [(length, latent)] * 2, scales=[0.01, 0.01], shared=shared)

    def forward(self, h):
        return SinhArcsinh(*self.conditioner(h))


# %% [markdown]
# Before anything is trained: does the formula agree with autograd, does the way back lead back, and is
# $\int q(z)\,dz = 1$? A picture of what it does to a Normal.

# %%
pyro.set_rng_seed(0)
flow = SinhArcsinh(torch.tensor([[0.3, -0.3]]), torch.tensor([[0.8, 0.0]]))
y = torch.randn(2)
z, log_det = flow.push(y)
jacobian = torch.autograd.functional.jacobian(lambda point: flow.push(point)[0], y)
print("log det by the formula, by autograd:", log_det.item(), jacobian.det().log().item())
print("there and back again, largest error:", (flow.pull(z)[0] - y).abs().max().item())
axis = torch.linspace(-40, 40, 1600, dtype=torch.float64)
q = FlowDistribution(DiagonalNormal(torch.zeros(2), torch.ones(2)), flow)
density = q.log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(1600, 1600)
integral = (density.sum() * (axis[1] - axis[0]) ** 2).item()
print(f"∫ q(z) dz = {integral:.5f}")
assert abs(log_det - jacobian.det().log()) < 1e-4 and abs(integral - 1) < 1e-3
figure = Figure(figsize=(4, 4), dpi=100, layout="constrained")
axes = figure.subplots()
axes.contour(axis, axis, density.T, 8, linewidths=0.8)
axes.set(xlim=(-4, 10), ylim=(-4, 4), xlabel="b = 0.8, a = 0.3", ylabel="a = -0.3", title="a Normal after T")
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/09_flow.png")
figure

# %% [markdown]
# ## By name
#
# A part is known by a name once it has a row in the catalogue: its family, its name, and a function that builds it.
# `n=2` says that a number may follow the name, by default 2; `options` are words that may follow. The function reads
# them as `spec.n` and `spec.options`. Pass the rows to `assemble`:

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
print(assemble(prior="vamp:10", flow="sinh", hidden=(8,), latent=3, parts=PARTS)[0].prior())  # a VampPrior over it
try:
    assemble(prior="studnet", parts=PARTS)
except SpecError as error:
    print("SpecError:", error)

# %% [markdown]
# On the command line, write the classes and the list `PARTS` into a file, `my_parts.py`, and name it:
#
#     python run.py --parts my_parts.py --prior student --flow sinh:3
#
# `--resume`, `score`, `sample` and `sweep` take `--parts` too, and so does `load(folder, parts="my_parts.py")`. A run
# records the file and its digest. Nothing executes the file unless you name it.
#
# A likelihood, a posterior, a net, an objective and a data set are rows as well: the docstrings of `Part` and `DataSet`
# say what their functions are given. A flow is also known as a prior: `--prior sinh`.

# %%
images = data.load("mnist5k")
pyro.set_rng_seed(0)
model, guide = assemble(prior="student", flow="sinh", hidden=(200,), latent=10, parts=PARTS)
for metrics in fit(make_update(model, guide, lr=2e-3), images, epochs=12):
    pass
x = images.images("test")
result = score(model, guide, x, samples=100)
print(result)
print("degrees of freedom, learned:", (1 + softplus(model.prior.freedom)).tolist())

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
# 1. Write both parts into `my_parts.py` and run `python run.py sweep --parts my_parts.py --vary prior=standard,student
#    --vary flow=none,sinh`.
# 2. Write the prior that is uniform on a ring of radius $r$ with Normal noise. Which normaliser has to be known?
# 3. The map moves each coordinate by itself. Compose it with a rotation (its log-determinant is 0): what can it do now
#    that it could not before?
# 4. `--prior vamp:50 --flow sinh`: what does scoring a mixture over this flow cost, and what would a
#    `pairwise_log_prob` of your own save? (`Planar` has one.)
