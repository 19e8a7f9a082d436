"""What one would write without Pyro: the same networks, the same estimator, plain torch."""

import math

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vampyro import nets


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


def handmade_step(components=0, broadcast=False, mode=None, lr=1e-3, device="cpu"):
    """x → one step of Adam; with a `mode`, torch.compile(…, mode=mode) computes the loss."""
    model = HandmadeVAE(components, broadcast=broadcast).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    loss_of = torch.compile(model, dynamic=False, mode=mode) if mode else model

    def step(x):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def captured_step(images, components=0, batch=100, lr=1e-3):
    """indices (batch,) → one step of Adam on those of the `images`, uint8 on a GPU: a CUDA graph captured by hand.

    The gather, the gradient and the optimiser are in the graph; one copy and one replay are left for each step.
    """
    model = HandmadeVAE(components).to(images.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True, capturable=True)
    indices = torch.zeros(batch, dtype=torch.int64, device=images.device)

    def body():
        optimizer.zero_grad(set_to_none=True)
        loss = model(images[indices].float() / 255)
        loss.backward()
        optimizer.step()
        return loss.detach()

    replay = recorded(body)

    def step(chosen):
        indices.copy_(chosen)
        return replay()

    return step


def recorded(body):
    """() → what `body` returns, replayed from a CUDA graph that is captured after three calls."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            body()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = body()

    def replay():
        graph.replay()
        return result

    return replay


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
