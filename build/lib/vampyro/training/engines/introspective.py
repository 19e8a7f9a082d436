"""A training step in which guide and model follow losses of their own."""

import torch
from torch import nn
from torch.func import functional_call

from vampyro.objectives import ScaleLatents
from vampyro.training.engines.eager import EagerStep


class IntrospectiveStep(EagerStep):
    """EagerStep in which guide and model each follow the gradient of a loss of their own, taken at the same point.

    Adam remembers every parameter by itself, so one optimiser over all of them is two, one for each player.

    Raises:
        ValueError: where guide and model share a parameter, which would be on both sides.
    """

    def __init__(self, model, guide, weight, optimizer, lr, objective, reduce=None):
        super().__init__(model, guide, weight, optimizer, lr, objective, reduce)
        self.players = list(guide.parameters()), list(model.parameters())
        if both := {*self.players[0]} & {*self.players[1]}:
            names = ", ".join(name for name, p in self.parameters.items() if p in both)
            raise ValueError(f"guide and model play against each other, and both have {names}: give each its own")
        self.parts = {}
        still = Still(model, guide)

        def losses(x, weight, model=model, guide=guide):
            weighted = ScaleLatents(weight)
            return objective.losses(weighted(model), weighted(guide), still.draw, x, weight)

        self.loss = losses

    def __call__(self, x):
        return super().__call__(x) | self.parts

    def backward(self, x):
        """-ELBO of the images, each player's gradients left with its parameters."""
        of_guide, of_model, loss, self.parts = self.evaluated(x)
        for loss_of_player, parameters in zip((of_guide, of_model), self.players):
            gradients = torch.autograd.grad(loss_of_player, parameters, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient
        return loss.detach()


class Still(nn.Module):
    """The model with its parameters as constants, and the guide's, which its prior may borrow."""

    def __init__(self, model, guide):
        super().__init__()
        self.model, self.guide = model, guide

    def forward(self, batch):
        return self.model(batch=batch)

    def draw(self, batch):
        # Not by switching gradients off meanwhile: a mixture of Normals hands its parameters on, to be used later.
        return functional_call(self, {name: p.detach() for name, p in self.named_parameters()}, batch)
