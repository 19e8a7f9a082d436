"""A training step in which guide and model follow different losses."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vampyro.objectives import Introspective, ScaleLatents
from vampyro.training.engines.eager import EagerStep


class IntrospectiveStep(EagerStep):
    """EagerStep in which the guide and the model follow the gradients of two losses, taken at the same point.

    Adam treats every parameter separately, so one optimiser over all parameters is equivalent to two.

    Raises:
        ValueError: guide and model share a parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        weight: Tensor,
        optimizer: str,
        lr: float,
        objective: Introspective,
        reduce: Callable | None = None,
    ):
        super().__init__(model, guide, weight, optimizer, lr, objective, reduce)
        self.players = list(guide.parameters()), list(model.parameters())
        if both := {*self.players[0]} & {*self.players[1]}:
            names = ", ".join(name for name, p in self.parameters.items() if p in both)
            raise ValueError(
                f"guide and model follow different losses, but share the parameters {names}: use separate parameters"
            )
        self.parts: dict[str, Tensor] = {}
        still = Still(model, guide)

        def losses(x, weight, model=model, guide=guide):
            weighted = ScaleLatents(weight)
            return objective.losses(weighted(model), weighted(guide), still.draw, x, weight)

        self.loss = losses

    def __call__(self, x: Tensor) -> dict:
        return super().__call__(x) | self.parts

    def backward(self, x: Tensor) -> Tensor:
        """Return -ELBO of the images, and store the gradient of each loss in the parameters that follow it."""
        of_guide, of_model, loss, self.parts = self.compute_loss(x)
        for loss_of_player, parameters in zip((of_guide, of_model), self.players):
            gradients = torch.autograd.grad(loss_of_player, parameters, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient
        return loss.detach()


class Still(nn.Module):
    """The model with constant parameters; those of the guide too, because the prior may depend on them."""

    def __init__(self, model: nn.Module, guide: nn.Module):
        super().__init__()
        self.model, self.guide = model, guide

    def forward(self, batch: int) -> Any:
        return self.model(batch=batch)

    def draw(self, batch: int) -> Any:
        """Run the model on a batch, with every parameter detached."""
        # torch.no_grad would not suffice: the samples of a mixture refer to its parameters later.
        return functional_call(self, {name: p.detach() for name, p in self.named_parameters()}, batch)
