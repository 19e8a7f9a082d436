"""Metropolis moves on discrete latents, guided by gradients, for all images and chains at once."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.distributions import Categorical

from inference.evaluation import check_support, precise, unscaled
from inference.finite import Finite
from inference.hmc import fixed_latents
from inference.joint import traced
from inference.sites import Layout, check_own, sample_sites

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


class DiscreteTarget:
    """Codes z → log p(z) and log p(x | z) of a model with finitely many values of its latents.

    A move changes one position of z to another of its values. Half of the moves choose both uniformly; the others
    with probability ∝ exp(½ ∇_z log p(z) p(x | z)^β · (z' - z)), the locally balanced proposal of Zanella 2020
    (arXiv:1711.07286) with the differences estimated from the gradient (Grathwohl et al. 2021, arXiv:2102.04509).
    Metropolis' rule corrects for the proposal, so a model without a gradient by z is sampled correctly too.

    Args:
        model: a Pyro program over a batch of images.
        x: (batch, …).
        supports: {site: Finite} of every latent (`inference.finite.finite_latents`).
        layout: where the images lie in the model.

    forward: (chains, batch, positions) → `CodePoint`.

    Raises:
        ValueError: where a latent is shared between images.
    """

    adapts = False  # there is no step size

    def __init__(self, model, x: Tensor, supports: dict[str, Finite], layout: Layout = Layout()):
        self.model, self.x, self.shapes, self.layout = model, x, supports, layout
        sites = sample_sites(traced(model, 1, x, layout=layout))
        check_own(sites, len(x), layout, 1)
        check_support(sites)
        rows = [len(s.table) for s in supports.values() for _ in range(s.positions)]
        device = x.device
        # Move number i puts row `row[i]` at position `position[i]`; the moves of position p start at `first[p]`.
        self.position = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(rows)).to(device)
        self.row = torch.cat([torch.arange(count) for count in rows]).to(device)
        self.first = torch.tensor(rows).cumsum(0).sub(torch.tensor(rows)).to(device)

    def draw(self, chains: int, values: dict[str, Tensor] | None = None) -> Tensor:
        """Codes (chains, batch, positions): from the prior, or all chains at `values`, {site: (*batch, *event)}."""
        values = {name: value.expand(chains, *value.shape) for name, value in (values or {}).items()}
        with torch.no_grad(), fixed_latents(values):
            sites = sample_sites(traced(self.model, chains, self.x, layout=self.layout))
        drawn = {
            name: self.layout.images_first(sites[name]["value"], sites[name]["fn"].event_dim) for name in self.shapes
        }
        return torch.cat([support.index_of(drawn[name]) for name, support in self.shapes.items()], -1)

    def __call__(self, index: Tensor) -> CodePoint:
        parts = index.split([s.positions for s in self.shapes.values()], -1)
        values = {name: s.at(part) for (name, s), part in zip(self.shapes.items(), parts)}
        with torch.enable_grad():
            leaves = {n: z.detach().requires_grad_() if z.is_floating_point() else z for n, z in values.items()}
            layout = self.layout
            with fixed_latents({n: layout.images_back(z, z.ndim - 1 - layout.rank) for n, z in leaves.items()}):
                trace = traced(self.model, len(index), self.x, layout=layout)
            for name in leaves:
                trace.nodes[name]["value"] = precise(trace.nodes[name]["fn"], trace.nodes[name]["value"])
            trace.compute_log_prob()
            sites = sample_sites(trace)
            log_probs = {
                name: layout.per_image(unscaled(site, name not in leaves)).double() for name, site in sites.items()
            }
            prior = sum(log_probs.pop(name) for name in leaves)
            likelihood = sum(log_probs.values(), torch.zeros_like(prior))
            changes = [self._changes(log_prob, leaves) for log_prob in (prior, likelihood)]
        return CodePoint(index, prior.detach(), likelihood.detach(), *changes)

    def _changes(self, log_prob, leaves):
        """∇ log_prob · (z' - z) for every move: (chains, batch, moves)."""
        found = []
        free = [leaf for leaf in leaves.values() if leaf.requires_grad]
        gradients = iter(())
        if free and log_prob.requires_grad:
            gradients = iter(torch.autograd.grad(log_prob.sum(), free, materialize_grads=True, retain_graph=True))
        else:
            free = []
        for name, support in self.shapes.items():
            z = leaves[name].detach()
            parts = z.reshape(*z.shape[:2], support.positions, -1)
            if any(leaves[name] is leaf for leaf in free):
                g = next(gradients).reshape(parts.shape)
                change = g @ support.table.T - (g * parts).sum(-1, keepdim=True)
            else:
                change = torch.zeros(*parts.shape[:-1], len(support.table), device=z.device)
            found.append(change.flatten(2))
        return torch.cat(found, -1).nan_to_num(0.0)

    def _proposal(self, point, beta):
        """log q(move), (chains, batch, moves); -∞ where a move changes nothing."""
        still = self.row == point.rows[..., self.position]
        informed = (0.5 * point.change(beta).double()).masked_fill(still, -math.inf).log_softmax(-1)
        others = len(self.row) - point.rows.shape[-1]
        uniform = torch.full_like(informed, math.log(UNIFORM / others))
        return torch.logaddexp(informed + math.log(1 - UNIFORM), uniform).masked_fill(still, -math.inf)

    def transition(self, point: CodePoint, beta: float, step, moves: int) -> tuple[CodePoint, Tensor]:
        """So many Metropolis moves that leave p(z) p(x | z)^β invariant; `step` is not used.

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
            ratio = end.log_density(beta) - point.log_density(beta)
            ratio = ratio + (self._proposal(end, beta).gather(-1, back) - forward.gather(-1, move)).squeeze(-1)
            acceptance = ratio.exp().clamp(max=1).nan_to_num(0.0)
            accepted = torch.rand_like(acceptance) < acceptance
            point = CodePoint(
                *(torch.where(accepted if a.ndim == 2 else accepted.unsqueeze(-1), a, b) for a, b in zip(end, point))
            )
            rate += acceptance / moves
        return point, rate
