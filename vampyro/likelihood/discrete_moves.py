"""Metropolis moves on discrete latents, guided by gradients, for all images and chains at once."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from pyro import poutine
from torch import Tensor
from torch.distributions import Categorical

from vampyro.likelihood.finite import Finite
from vampyro.likelihood.hmc import BaseTarget, metropolis
from vampyro.programs.layout import Layout, traced

UNIFORM = 0.5  # share of the proposals that ignore the gradient, which may mislead where the model is far from linear


class CodePoint(NamedTuple):
    """The codes that chains are at, with log p(z) and log p(x | z), and how both would change with one position.

    `rows` (chains, batch, positions) are the rows of every position; the densities are (chains, batch) float64, nats.
    The changes, (chains, batch, moves), are first-order approximations, one for each position and row.
    """

    rows: Int[Tensor, "chains batch positions"]
    prior: Float64[Tensor, "chains batch"]
    likelihood: Float64[Tensor, "chains batch"]
    prior_change: Float[Tensor, "chains batch moves"]
    likelihood_change: Float[Tensor, "chains batch moves"]

    def log_density(self, beta: float) -> Tensor:
        """log p(z) p(x | z)^β."""
        return self.prior + beta * self.likelihood

    def change(self, beta: float) -> Tensor:
        return self.prior_change + beta * self.likelihood_change


class DiscreteTarget(BaseTarget):
    """Codes z → log p(z) and log p(x | z) of a model with finitely many values of its latents.

    A move changes one position of z to another of its values. Half of the moves choose both uniformly; the others
    with probability ∝ exp(½ ∇_z log p(z) p(x | z)^β · (z' - z)), the locally balanced proposal of Zanella 2020
    (arXiv:1711.07286) with the differences estimated from the gradient (Grathwohl et al. 2021, arXiv:2102.04509).
    Metropolis' rule corrects for the proposal, so a model without a gradient by z is sampled correctly too.

    Args:
        model: a Pyro program over a batch of images.
        x: (batch, …).
        supports: {site: Finite} of every latent (`vampyro.likelihood.finite.finite_latents`).
        layout: where the images lie in the model.

    forward: (chains, batch, positions) → `CodePoint`.

    Raises:
        ValueError: where a latent is shared between images.
    """

    def __init__(self, model: Callable, x: Tensor, supports: dict[str, Finite], layout: Layout = Layout()):
        super().__init__(model, x, layout)
        self.latents()
        self.shapes = supports
        rows = [len(s.table) for s in supports.values() for _ in range(s.positions)]
        device = x.device
        # Move number i puts row `row[i]` at position `position[i]`; the moves of position p start at `first[p]`.
        self.position = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(rows)).to(device)
        self.row = torch.cat([torch.arange(count) for count in rows]).to(device)
        self.first = torch.tensor(rows).cumsum(0).sub(torch.tensor(rows)).to(device)

    def coordinates(self, name: str, site: dict) -> Tensor:
        return self.shapes[name].index_of(self.layout.images_first(site["value"]))

    def __call__(self, index: Tensor) -> CodePoint:
        parts = index.split([s.positions for s in self.shapes.values()], -1)
        values = {name: s.at(part) for (name, s), part in zip(self.shapes.items(), parts)}
        with torch.enable_grad():
            leaves = {n: z.detach().requires_grad_() if z.is_floating_point() else z for n, z in values.items()}
            fixed = poutine.condition(self.model, data={n: self.layout.images_back(z) for n, z in leaves.items()})
            prior, likelihood = self.log_probs(traced(fixed, len(index), self.x, layout=self.layout))
            changes = [self._changes(log_prob, leaves) for log_prob in (prior, likelihood)]
        return CodePoint(index, prior.detach(), likelihood.detach(), *changes)

    def _changes(self, log_prob, leaves):
        """∇ log_prob · (z' - z) for every move: (chains, batch, moves)."""
        changes = []
        for name, support in self.shapes.items():
            z = leaves[name]
            g = torch.zeros(z.shape, device=z.device)
            if z.requires_grad and log_prob.requires_grad:
                [g] = torch.autograd.grad(log_prob.sum(), [z], materialize_grads=True, retain_graph=True)
            parts = z.detach().reshape(*z.shape[:2], support.positions, -1)
            g = g.reshape(parts.shape)
            changes.append((g @ support.table.to(g).T - (g * parts).sum(-1, keepdim=True)).flatten(2))
        return torch.cat(changes, -1).nan_to_num(0.0)

    def _proposal(self, point, beta):
        """log q(move), (chains, batch, moves); -∞ where a move changes nothing."""
        still = self.row == point.rows[..., self.position]
        informed = (0.5 * point.change(beta).double()).masked_fill(still, -math.inf).log_softmax(-1)
        others = len(self.row) - point.rows.shape[-1]
        uniform = torch.full_like(informed, math.log(UNIFORM / others))
        return torch.logaddexp(informed + math.log(1 - UNIFORM), uniform).masked_fill(still, -math.inf)

    def transition(self, point: CodePoint, beta: float, step, moves: int) -> tuple[CodePoint, Tensor]:
        """Make `moves` Metropolis moves, which leave p(z) p(x | z)^β invariant; `step` is not used.

        Returns:
            the next `CodePoint`, and the mean probability with which a move was accepted, (chains, batch).
        """
        rate = torch.zeros_like(point.prior)
        if len(self.row) == point.rows.shape[-1]:  # one value each: there is nowhere to go
            return point, rate
        for _ in range(moves):
            forward = self._proposal(point, beta)
            move = Categorical(logits=forward, validate_args=False).sample().unsqueeze(-1)
            position = self.position[move]
            back = self.first[position] + point.rows.gather(-1, position)
            end = self(point.rows.scatter(-1, position, self.row[move]))
            proposals = self._proposal(end, beta).gather(-1, back) - forward.gather(-1, move)
            ratio = end.log_density(beta) - point.log_density(beta) + proposals.squeeze(-1)
            point, acceptance = metropolis(end, point, ratio)
            rate += acceptance / moves
        return point, rate
