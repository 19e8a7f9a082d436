"""Gradient-informed Metropolis moves on discrete latents, for all images and chains at once."""

import math
from collections.abc import Callable

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Categorical

from vampyro.likelihood.finite import Finite
from vampyro.likelihood.hmc import BaseTarget, Point, metropolis
from vampyro.programs.layout import Layout, trace_samples

UNIFORM = 0.5  # share of proposals that ignore the gradient, which is a poor guide if the model is far from linear


class DiscreteTarget(BaseTarget):
    """log p(z) and log p(x | z) of a model whose latents have the finite supports {site: Finite}.

    A move changes one position of z to another of its values. Half of the moves choose both uniformly, the others
    with probability ∝ exp(½ ∇_z log p(z) p(x | z)^β · (z' - z)), the locally balanced proposal of Zanella 2020
    (arXiv:1711.07286) with differences estimated from the gradient (Grathwohl et al. 2021, arXiv:2102.04509).
    Metropolis' rule corrects for the proposal, so models without a gradient with respect to z are sampled correctly.

    forward: rows, (chains, batch, positions) → `Point`.

    Raises:
        ValueError: if a latent is shared between images.
    """

    def __init__(self, model: Callable, x: Tensor, supports: dict[str, Finite], layout: Layout = Layout()):
        super().__init__(model, x, layout)
        self.latents()
        self.shapes = supports
        rows = [len(s.table) for s in supports.values() for _ in range(s.positions)]
        counts = torch.tensor(rows)
        # Move i sets position `position[i]` to row `row[i]`; the moves of position p start at `first[p]`.
        self.position = torch.repeat_interleave(torch.arange(len(rows)), counts).to(x.device)
        self.row = torch.cat([torch.arange(count) for count in rows]).to(x.device)
        self.first = (counts.cumsum(0) - counts).to(x.device)

    def coordinates(self, name: str, site: dict) -> Tensor:
        return self.shapes[name].index_of(self.layout.images_first(site["value"]))

    def __call__(self, index: Tensor) -> Point:
        parts = index.split([s.positions for s in self.shapes.values()], -1)
        values = {name: s.at(part) for (name, s), part in zip(self.shapes.items(), parts)}
        with torch.enable_grad():
            leaves = {n: z.detach().requires_grad_() if z.is_floating_point() else z for n, z in values.items()}
            fixed = poutine.condition(self.model, data={n: self.layout.images_back(z) for n, z in leaves.items()})
            prior, likelihood = self.log_probs(trace_samples(fixed, len(index), self.x, layout=self.layout))
            changes = [self._changes(log_prob, leaves) for log_prob in (prior, likelihood)]
        return Point(index, prior.detach(), likelihood.detach(), *changes)

    def _changes(self, log_prob, leaves):
        """Return ∇ log_prob · (z' - z) for every move, (chains, batch, moves)."""
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
        """Return log q(move), (chains, batch, moves); -∞ for a move that changes nothing."""
        still = self.row == point.z[..., self.position]
        informed = (0.5 * point.gradient(beta).double()).masked_fill(still, -math.inf).log_softmax(-1)
        others = len(self.row) - point.z.shape[-1]
        uniform = torch.full_like(informed, math.log(UNIFORM / others))
        return torch.logaddexp(informed + math.log(1 - UNIFORM), uniform).masked_fill(still, -math.inf)

    def transition(self, point: Point, beta: float, step: Tensor | None, moves: int) -> tuple[Point, Tensor]:
        """Make `moves` Metropolis moves that leave p(z) p(x | z)^β invariant; return also their acceptance rate."""
        rate = torch.zeros_like(point.prior)
        if len(self.row) == point.z.shape[-1]:  # every position has one value, so there are no moves
            return point, rate
        for _ in range(moves):
            forward = self._proposal(point, beta)
            move = Categorical(logits=forward, validate_args=False).sample().unsqueeze(-1)
            position = self.position[move]
            back = self.first[position] + point.z.gather(-1, position)
            end = self(point.z.scatter(-1, position, self.row[move]))
            proposals = self._proposal(end, beta).gather(-1, back) - forward.gather(-1, move)
            ratio = end.log_density(beta) - point.log_density(beta) + proposals.squeeze(-1)
            point, acceptance = metropolis(end, point, ratio)
            rate += acceptance / moves
        return point, rate
