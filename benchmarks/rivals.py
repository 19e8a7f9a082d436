"""Other libraries' VampPrior, where they are installed: the same sizes, each the way its users would write it."""

import math

import torch

from vampyro import nets


def pythae_step(components=500, latent=40):
    """x → one step of pythae's VAMP."""
    from pythae.models import VAMP, VAMPConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.body, self.head = nets.MLP((1, 28, 28), (300, 300)), torch.nn.Linear(300, 2 * latent)

        def forward(self, x):
            loc, log_variance = self.head(self.body(x.reshape(-1, 1, 28, 28))).chunk(2, -1)
            return ModelOutput(embedding=loc, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.body, self.head = nets.MLP((latent,), (300, 300)), torch.nn.Linear(300, 784)

        def forward(self, z):
            return ModelOutput(reconstruction=self.head(self.body(z)).sigmoid().reshape(-1, 1, 28, 28))

    config = VAMPConfig(
        input_dim=(1, 28, 28),
        latent_dim=latent,
        number_components=components,
        reconstruction_loss="bce",
        linear_scheduling_steps=0,
    )
    model = VAMP(config, encoder=Encoder(), decoder=Decoder())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step(x):
        optimizer.zero_grad(set_to_none=True)
        loss = model({"data": x}, epoch=1).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def numpyro_step(components=500, latent=40, tuned=False):
    """x (numpy) → one jitted SVI update, its prior a MixtureSameFamily, or `tuned` one that is scored by a GEMM."""
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO

    class GemmMixture(dist.Distribution):
        support = dist.constraints.real_vector
        pytree_data_fields = ("loc", "precision", "offset")

        def __init__(self, loc, log_variance):
            self.precision = jnp.exp(-log_variance)
            self.loc = loc
            self.offset = 0.5 * (log_variance + loc**2 * self.precision + math.log(2 * math.pi)).sum(-1)
            super().__init__(batch_shape=(), event_shape=(latent,))

        def log_prob(self, z):
            weight = jnp.concatenate([-0.5 * self.precision, self.loc * self.precision], -1)
            scores = jnp.concatenate([z**2, z], -1) @ weight.T - self.offset
            return jax.nn.logsumexp(scores, -1) - math.log(len(self.loc))

    def weights(name, inputs, outputs, key):
        return {
            "w": numpyro.param(f"{name}_w", jax.random.normal(key, (inputs, outputs)) / inputs**0.5),
            "b": numpyro.param(f"{name}_b", jnp.zeros(outputs)),
        }

    def linear(layer, h):
        return h @ layer["w"] + layer["b"]

    def gated(layer, h):
        a, b = jnp.split(linear(layer, h), 2, -1)
        return a * jax.nn.sigmoid(b)

    keys = jax.random.split(jax.random.PRNGKey(0), 7)

    def encoder():
        return [
            weights("e1", 784, 600, keys[0]),
            weights("e2", 300, 600, keys[1]),
            weights("e3", 300, 2 * latent, keys[2]),
        ]

    def encode(layers, x):
        h = gated(layers[1], gated(layers[0], x))
        loc, log_variance = jnp.split(linear(layers[2], h), 2, -1)
        return loc, jnp.clip(log_variance, -6, 2)

    def model(x):
        if components:
            pseudo = numpyro.param("pseudo", 2 * jax.random.normal(keys[3], (components, 784)) - 3)
            loc, log_variance = encode(encoder(), jax.nn.sigmoid(pseudo))
            if tuned:
                prior = GemmMixture(loc, log_variance)
            else:
                normal = dist.Normal(loc, jnp.exp(0.5 * log_variance)).to_event(1)
                prior = dist.MixtureSameFamily(dist.Categorical(logits=jnp.zeros(components)), normal)
        else:
            prior = dist.Normal(jnp.zeros(latent), 1.0).to_event(1)
        d1, d2 = weights("d1", latent, 600, keys[4]), weights("d2", 300, 600, keys[5])
        d3 = weights("d3", 300, 784, keys[6])
        with numpyro.plate("images", len(x)):
            z = numpyro.sample("z", prior)
            logits = linear(d3, gated(d2, gated(d1, z)))
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x):
        loc, log_variance = encode(encoder(), x)
        with numpyro.plate("images", len(x)):
            numpyro.sample("z", dist.Normal(loc, jnp.exp(0.5 * log_variance)).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), Trace_ELBO())
    state = [None]
    update = jax.jit(svi.update)

    def step(x):
        if state[0] is None:
            state[0] = svi.init(jax.random.PRNGKey(1), x)
        state[0], loss = update(state[0], x)
        return float(loss)

    return step
