"""What one would write without Pyro: the same networks, the same estimator, plain torch."""

import math

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import nets


class HandmadeVAE(nn.Module):
    """A VAE with a standard or a VampPrior, K = 0 or more pseudo-inputs; `forward` is the loss per image.

    Args:
        components: K; 0 for the standard prior.
        broadcast: score the mixture by the formula of the paper's own code, a tensor of B × K × D; otherwise by a GEMM.
    """

    def __init__(self, components=0, latent=40, hidden=(300, 300), broadcast=False):
        super().__init__()
        self.encoder, self.decoder = nets.MLP((1, 28, 28), hidden), nets.MLP((latent,), hidden)
        self.head, self.logits = nn.Linear(hidden[-1], 2 * latent), nn.Linear(hidden[-1], 784)
        self.pseudo = nn.Parameter(torch.randn(components, 1, 28, 28).mul(2).sub(3)) if components else None
        self.broadcast = broadcast

    def encode(self, x):
        loc, log_variance = self.head(self.encoder(x)).chunk(2, -1)
        return loc, log_variance.clamp(-6, 2)

    def log_prior(self, z):
        if self.pseudo is None:
            return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
        loc, log_variance = self.encode(self.pseudo.sigmoid())
        constant = 0.5 * (log_variance + math.log(2 * math.pi)).sum(-1) + math.log(len(loc))
        precision = (-log_variance).exp()
        if self.broadcast:
            each = -0.5 * (log_variance + (z.unsqueeze(1) - loc).square() * precision + math.log(2 * math.pi))
            return (each.sum(-1) - math.log(len(loc))).logsumexp(-1)
        centre = loc.detach().mean(0)
        z, loc = z - centre, loc - centre
        weight = torch.cat([-0.5 * precision, loc * precision], -1)
        offset = constant + 0.5 * (loc.square() * precision).sum(-1)
        return torch.addmm(-offset, torch.cat([z.square(), z], -1), weight.T).logsumexp(-1)

    def log_weights(self, x):
        """log p(x, z) - log q(z | x) of one z for each x."""
        loc, log_variance = self.encode(x)
        noise = torch.randn_like(loc)
        z = loc + (0.5 * log_variance).exp() * noise
        log_q = -0.5 * (log_variance + noise.square() + math.log(2 * math.pi)).sum(-1)
        logits = self.logits(self.decoder(z))
        log_likelihood = -binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(-1)
        return log_likelihood + self.log_prior(z) - log_q

    def forward(self, x):
        return -self.log_weights(x).mean()


def handmade_step(components=0, broadcast=False, compiled=False, lr=1e-3):
    """x → one step of Adam; `compiled` puts torch.compile round the loss."""
    model = HandmadeVAE(components, broadcast=broadcast)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    loss_of = torch.compile(model, dynamic=False) if compiled else model

    def step(x):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def products(components=0, batch=100, latent=40, hidden=300):
    """() → the matrix products of a step and nothing else, each into memory that is there already."""
    encoder = [(784, 2 * hidden), (hidden, 2 * hidden), (hidden, 2 * latent)]
    decoder = [(latent, 2 * hidden), (hidden, 2 * hidden), (hidden, 784)]
    shapes = []
    for rows, layers, first in [(batch, encoder, False), (components, encoder, True), (batch, decoder, True)]:
        for number, (inputs, outputs) in enumerate(layers):
            if rows:
                shapes += [(rows, inputs, outputs), (inputs, rows, outputs)]  # forward, and the weight's gradient
                shapes += [(rows, outputs, inputs)] * bool(number or first)  # the input's, where anyone asks
    if components:
        shapes += [(batch, 2 * latent, components), (2 * latent, batch, components), (batch, components, 2 * latent)]
    factors = [(torch.randn(n, k), torch.randn(k, m), torch.empty(n, m)) for n, k, m in shapes]

    def step():
        for a, b, out in factors:
            torch.mm(a, b, out=out)

    return step
