"""Pairs of Pyro programs as users write them: small versions of Pyro's examples, one for each feature of Pyro."""

from functools import partial
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.transforms import affine_autoregressive
from pyro.infer import config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
from torch.distributions import constraints

PIXELS, LATENT = 6, 2


class Case(NamedTuple):
    """A model, a guide and images for them."""

    model: object
    guide: object
    images: torch.Tensor


def net(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


def binary(count=12, pixels=PIXELS):
    return (torch.rand(count, pixels) < 0.4).float()


class ExampleVAE(nn.Module):
    """As Pyro's vae.py: one class with methods `model` and `guide`, and `pyro.module` in each."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = net(PIXELS, 2 * LATENT), net(LATENT, PIXELS)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            loc = x.new_zeros(torch.Size((x.shape[0], LATENT)))
            z = pyro.sample("latent", dist.Normal(loc, torch.ones_like(loc)).to_event(1))
            pyro.sample("obs", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))


def vae():
    """vae.py"""
    both = ExampleVAE()
    return Case(both.model, both.guide, binary())


class ExampleSSVAE(nn.Module):
    """As Pyro's ss_vae_M2.py, images and labels in one tensor; without labels y is a latent too."""

    classes = 3

    def __init__(self, labelled):
        super().__init__()
        self.labelled = labelled
        self.classifier = net(PIXELS, self.classes)
        self.encoder, self.decoder = net(PIXELS + self.classes, 2 * LATENT), net(LATENT + self.classes, PIXELS)

    def model(self, xy):
        pyro.module("ss_vae", self)
        x, y = xy[:, :PIXELS], xy[:, PIXELS:]
        with pyro.plate("data", len(xy)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            prior = dist.OneHotCategorical(torch.ones(self.classes) / self.classes)
            y = pyro.sample("y", prior, obs=y if self.labelled else None)
            y = y.expand(*torch.broadcast_shapes(y.shape[:-1], z.shape[:-1]), -1)
            logits = self.decoder(torch.cat([z.expand(*y.shape[:-1], -1), y], -1))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, xy):
        x, y = xy[:, :PIXELS], xy[:, PIXELS:]
        with pyro.plate("data", len(xy)):
            if not self.labelled:
                y = pyro.sample("y", dist.OneHotCategorical(logits=self.classifier(x)))
            shape = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
            inputs = torch.cat([x.expand(*shape, -1), y.expand(*shape, -1)], -1)
            loc, log_scale = self.encoder(inputs).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def ss_vae_labelled():
    """ss_vae_M2.py, labels observed"""
    both = ExampleSSVAE(labelled=True)
    labels = torch.eye(3)[torch.arange(12) % 3]
    return Case(both.model, both.guide, torch.cat([binary(), labels], 1))


def ss_vae_unlabelled():
    """ss_vae_M2.py, labels latent"""
    both = ExampleSSVAE(labelled=False)
    return Case(both.model, both.guide, binary())


def cvae():
    """cvae: p(z given x) p(y given x, z), x and y in one tensor"""
    prior, posterior, decoder = net(3, 2 * LATENT), net(PIXELS, 2 * LATENT), net(3 + LATENT, 3)

    def model(xy):
        pyro.module("prior_net", prior)
        pyro.module("generation_net", decoder)
        x, y = xy[:, :3], xy[:, 3:]
        with pyro.plate("data", len(xy)):
            loc, log_scale = prior(x).chunk(2, -1)
            z = pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
            inputs = torch.cat([x.expand(*z.shape[:-1], -1), z], -1)
            pyro.sample("y", dist.Bernoulli(logits=decoder(inputs)).to_event(1), obs=y)

    def guide(xy):
        pyro.module("recognition_net", posterior)
        with pyro.plate("data", len(xy)):
            loc, log_scale = posterior(xy).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    return Case(model, guide, binary())


class ExampleDMM(nn.Module):
    """As Pyro's dmm.py: a Markov chain of latents, masked where a sequence ends, and a guide that reads it back."""

    steps = 4

    def __init__(self):
        super().__init__()
        self.transition, self.emitter = net(LATENT, 2 * LATENT), net(LATENT, 3)
        self.rnn, self.combiner = nn.RNN(3, 5, batch_first=True), net(LATENT + 5, 2 * LATENT)
        self.first = nn.Parameter(torch.zeros(LATENT))

    def model(self, sequences):
        pyro.module("dmm", self)
        x, mask = sequences[..., :3], sequences[..., 3]
        z = self.first
        with pyro.plate("z_minibatch", len(x)):
            for t in pyro.markov(range(self.steps)):
                loc, log_scale = self.transition(z).chunk(2, -1)
                with poutine.mask(mask=mask[:, t] > 0):
                    z = pyro.sample(f"z_{t}", dist.Normal(loc, log_scale.exp()).to_event(1))
                    p = dist.Bernoulli(logits=self.emitter(z)).to_event(1)
                    pyro.sample(f"obs_x_{t}", p, obs=x[:, t])

    def guide(self, sequences):
        pyro.module("dmm", self)
        x, mask = sequences[..., :3], sequences[..., 3]
        h, _ = self.rnn(x.flip(1))
        h, z = h.flip(1), torch.zeros(LATENT)
        with pyro.plate("z_minibatch", len(x)):
            for t in pyro.markov(range(self.steps)):
                shape = torch.broadcast_shapes(z.shape[:-1], h[:, t].shape[:-1])
                inputs = torch.cat([z.expand(*shape, -1), h[:, t].expand(*shape, -1)], -1)
                loc, log_scale = self.combiner(inputs).chunk(2, -1)
                with poutine.mask(mask=mask[:, t] > 0):
                    z = pyro.sample(f"z_{t}", dist.Normal(loc, log_scale.exp()).to_event(1))


def dmm():
    """dmm.py, sequences and their mask in one tensor"""
    both = ExampleDMM()
    lengths = torch.arange(12) % 4 + 1
    mask = (torch.arange(4) < lengths[:, None]).float()
    return Case(both.model, both.guide, torch.cat([(torch.rand(12, 4, 3) < 0.5).float(), mask[..., None]], -1))


def regression():
    """Bayesian regression under AutoNormal: weights shared by all data"""

    def model(xy):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(xy)):
            pyro.sample("y", dist.Normal(xy[:, :3] @ w, 1.0), obs=xy[:, 3])

    return Case(model, AutoNormal(model), torch.randn(12, 4))


def mixture_with_global_latents():
    """gmm: weights and means are latents under AutoDelta, assignments enumerated"""

    @config_enumerate
    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 3.0))
        with pyro.plate("data", len(x)):
            k = pyro.sample("assignment", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    return Case(model, AutoDelta(poutine.block(model, expose=["weights", "locs"])), torch.randn(12))


def mixture():
    """gmm with parameters for weights and means: assignments are the latents of the data"""
    classifier = net(1, 2)

    def model(x):
        logits, locs = pyro.param("logits", torch.zeros(2)), pyro.param("locs", torch.tensor([-1.0, 1.0]))
        with pyro.plate("data", len(x)):
            k = pyro.sample("assignment", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    def guide(x):
        pyro.module("classifier", classifier)
        with pyro.plate("data", len(x)):
            pyro.sample("assignment", dist.Categorical(logits=classifier(x[:, None])))

    return Case(model, guide, torch.randn(12))


def local_autonormal():
    """AutoNormal over latents of each image, one of them positive"""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            s = pyro.sample("s", dist.LogNormal(0.0, 0.5))
            pyro.sample("x", dist.Normal(z.sum(-1), s), obs=x)

    return Case(model, AutoNormal(model), torch.randn(12))


def joint_autoguide():
    """AutoMultivariateNormal: one auxiliary latent for the latents of all images"""
    model, _, x = local_autonormal()
    return Case(model, AutoMultivariateNormal(model), x)


def params_only():
    """functions with `pyro.param`, without modules"""

    def model(x):
        w = pyro.param("w", 0.3 * torch.ones(LATENT, PIXELS))
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z @ w).to_event(1), obs=x)

    def guide(x):
        v = pyro.param("v", 0.1 * torch.ones(PIXELS, LATENT))
        scale = pyro.param("scale", torch.ones(LATENT), constraint=constraints.positive)
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(x @ v, scale).to_event(1))

    return Case(model, guide, binary())


def closure():
    """programs that close over data of every image"""
    y, decoder, encoder = torch.randn(12, 2), net(LATENT + 2, PIXELS), net(PIXELS + 2, LATENT)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            logits = decoder(torch.cat([z, y.expand(*z.shape[:-1], -1)], -1))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(encoder(torch.cat([x, y], -1)), 0.7).to_event(1))

    return Case(model, guide, binary())


def extra_arguments():
    """programs with more arguments, bound by `functools.partial`"""
    base = vae()

    def model(x, scale, *, flip=False):
        return base.model(1 - x if flip else x)

    return Case(partial(model, scale=1.0, flip=True), lambda x, *, temperature=1.0: base.guide(x), base.images)


def plates_at_minus_two():
    """images at dim -2, pixels at dim -1"""
    decoder, encoder = net(LATENT, PIXELS), net(PIXELS, LATENT)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("images", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            with pyro.plate("pixels", PIXELS, dim=-1):
                pyro.sample("x", dist.Bernoulli(logits=decoder(z).squeeze(-2)), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("images", len(x), dim=-2):
            pyro.sample("z", dist.Normal(encoder(x).unsqueeze(-2), 0.7).to_event(1))

    return Case(model, guide, binary())


def nested_plates():
    """one latent per patch of each image, patches at dim -2"""
    decoder, encoder = net(1, 3), net(3, 1)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("images", len(x), dim=-1), pyro.plate("patches", 2, dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            patches = x.unflatten(-1, (2, 3)).transpose(0, 1)
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=patches)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("images", len(x), dim=-1), pyro.plate("patches", 2, dim=-2):
            pyro.sample("z", dist.Normal(encoder(x.unflatten(-1, (2, 3)).transpose(0, 1)), 0.7).to_event(1))

    return Case(model, guide, binary())


def batch_of_more():
    """a plate that is given a batch: size 1000, subsample="""
    base = vae()

    def in_plate(program):
        def batched(x):
            with pyro.plate("all", 1000, subsample=torch.arange(len(x)), dim=-1):
                return program(x)

        return batched

    decoder, encoder = net(LATENT, PIXELS), net(PIXELS, LATENT)

    def model(x):
        pyro.module("decoder", decoder)
        z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        pyro.sample("z", dist.Normal(encoder(x), 0.7).to_event(1))

    return Case(in_plate(model), in_plate(guide), base.images)


def random_subsample():
    """a plate that selects 5 random images: subsample_size=5"""
    decoder, encoder = net(LATENT, PIXELS), net(PIXELS, LATENT)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("images", len(x), subsample_size=5) as index:
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x[index])

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("images", len(x), subsample_size=5) as index:
            pyro.sample("z", dist.Normal(encoder(x[index]), 0.7).to_event(1))

    return Case(model, guide, binary())


def sequential():
    """a loop over a plate: `for i in pyro.plate(…)`"""
    decoder, encoder = net(LATENT, PIXELS), net(PIXELS, LATENT)

    def model(x):
        pyro.module("decoder", decoder)
        for i in pyro.plate("images", len(x)):
            z = pyro.sample(f"z_{i}", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            pyro.sample(f"x_{i}", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x[i])

    def guide(x):
        pyro.module("encoder", encoder)
        for i in pyro.plate("images", len(x)):
            pyro.sample(f"z_{i}", dist.Normal(encoder(x[i]), 0.7).to_event(1))

    return Case(model, guide, binary())


def masked_and_scaled():
    """poutine.mask over missing images, poutine.scale, pyro.factor, pyro.deterministic"""
    decoder, encoder = net(LATENT, PIXELS), net(PIXELS, LATENT)

    def observe(mean, x):
        pyro.deterministic("mean", mean, event_dim=1)
        with poutine.mask(mask=x.sum(-1) > 1), poutine.scale(scale=0.5):
            pyro.sample("x", dist.Bernoulli(logits=mean).to_event(1), obs=x)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            pyro.factor("preference", -0.1 * z.square().sum(-1))
            observe(decoder(z), x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("images", len(x)):
            loc = pyro.deterministic("loc", encoder(x), event_dim=1)
            pyro.sample("z", dist.Normal(loc, 0.7).to_event(1))

    return Case(model, guide, binary())


def blocked():
    """poutine.block hides a latent that only the model draws"""
    base = vae()

    def model(x):
        with poutine.block(hide=["nuisance"]), pyro.plate("noise", len(x)):
            pyro.sample("nuisance", dist.Normal(0.0, 1.0))
        return base.model(x)

    return Case(model, base.guide, base.images)


class PyroDecoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.net = PyroModule[nn.Linear](LATENT, PIXELS)
        self.scale = PyroParam(torch.tensor(2.0), constraints.positive)

    @PyroSample
    def z(self):
        return dist.Normal(torch.zeros(LATENT), 1.0).to_event(1)

    def forward(self, x):
        with pyro.plate("images", len(x)):
            pyro.sample("x", dist.Normal(self.net(self.z), self.scale).to_event(1), obs=x)


class FlowEncoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.net, self.flow = net(PIXELS, LATENT), affine_autoregressive(LATENT, hidden_dims=[4])

    def forward(self, x):
        with pyro.plate("images", len(x)):
            base = dist.Normal(self.net(x), 0.7).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


def pyro_modules():
    """PyroModule, PyroParam, PyroSample; a TransformModule in the guide"""
    with pyro.settings.context(module_local_params=True):
        return Case(PyroDecoder(), FlowEncoder(), torch.randn(12, PIXELS))


def float64():
    """programs in float64"""
    base = ExampleVAE().double()

    def model(x):
        pyro.module("decoder", base.decoder)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT, dtype=x.dtype), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=base.decoder(z)).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", base.encoder)
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(base.encoder(x)[..., :LATENT], 0.7).to_event(1))

    return Case(model, guide, binary().double())


PROGRAMS = [
    vae, ss_vae_labelled, ss_vae_unlabelled, cvae, dmm, regression, mixture_with_global_latents, mixture,
    local_autonormal, joint_autoguide, params_only, closure, extra_arguments, plates_at_minus_two, nested_plates,
    batch_of_more, random_subsample, sequential, masked_and_scaled, blocked, pyro_modules, float64,
]  # fmt: skip
