"""A training step of a Pyro objective that does not wait for the device."""

from collections.abc import Callable
from typing import Any

import pyro
from torch import Tensor, nn

from vampyro.objectives import ScaleLatents
from vampyro.programs.checks import check_pair, check_trained, foreign_sites
from vampyro.training.engines.codebook_update import UpdateLearners
from vampyro.training.engines.optimizers import OPTIMIZERS


def join_modules(model: Any, guide: Any, objective: Any) -> nn.ModuleList:
    """Return `ModuleList([model, guide])`, followed by the objective if it is a module, for example with a baseline.

    An empty module replaces a program that is a function.
    """
    parts = [part if isinstance(part, nn.Module) else nn.Module() for part in (model, guide)]
    return nn.ModuleList(parts + [objective] * isinstance(objective, nn.Module))


def objective_state(program: nn.ModuleList) -> dict[str, Any]:
    """Return the state of the objective among `join_modules`, as an entry of a checkpoint."""
    state = program[2:].state_dict()
    return {"objective": state} if state else {}


class EagerStep:
    """A gradient step on an objective, with one fused optimiser and without waiting for the device.

    The first call runs under Pyro's validation, which names mistakes in a program. Later calls skip it.
    """

    def __init__(
        self,
        model: Any,
        guide: Any,
        weight: Tensor,
        optimizer: str,
        lr: float,
        objective: Any,
        reduce: Callable[..., dict[str, Tensor]] | None = None,
    ) -> None:
        self.pair, self.program = (model, guide), join_modules(model, guide, objective)
        self.parameters = dict(self.program.named_parameters())
        self.optimizer = OPTIMIZERS[optimizer]([{"params": list(self.parameters.values())}], lr=lr, fused=True)
        self.weight, self.reduce, self.checked = weight, reduce, False
        self.learn = UpdateLearners(guide, reduce)

        def loss(x, weight, model=model, guide=guide):
            weighted = ScaleLatents(weight)
            return objective.differentiable_loss(weighted(model), weighted(guide), x) / len(x)

        self.loss = loss

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        loss = self.backward(x) if len(x) else self.weight.new_zeros(())  # one of several processes may have no image
        metrics = {"loss": loss}
        if self.reduce is not None:
            metrics = self.reduce(loss, list(self.parameters.values()), len(x))
        self.optimizer.step()
        self.learn(x)
        return metrics

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sum(p.numel() for p in self.parameters.values()):,} parameters)"

    def backward(self, x: Tensor) -> Tensor:
        """Return the loss, and store its gradients in the parameters."""
        loss = self.compute_loss(x)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    def compute_loss(self, x: Tensor) -> Any:
        """Return the loss with its autograd graph."""
        if not self.checked:
            return self.check_loss(x)
        with pyro.validation_enabled(False):
            return self.loss(x, self.weight)

    def check_loss(self, x: Tensor) -> Any:
        """Return the loss, or raise an error that names a mistake in the programs."""
        model, guide = self.pair
        with pyro.validation_enabled(True), pyro.poutine.trace(param_only=True) as params:
            loss = check_pair(lambda *pair: self.loss(x, self.weight, *pair), model, guide)
        if found := foreign_sites(params.trace, self.program):
            names = ", ".join(map(repr, found[:3])) + ", …" * (len(found) > 3)
            raise ValueError(
                f"this engine trains the parameters of modules, not the param sites {names}: use engine='svi', which "
                "trains the parameters in Pyro's store"
            )
        self.add_new_parameters()
        check_trained(loss, self.parameters.values())
        self.checked = True
        return loss

    def add_new_parameters(self) -> None:
        """Add parameters that a program created in its first call, as Pyro's autoguides do, to the optimiser."""
        new = {n: p for n, p in self.program.named_parameters() if n not in self.parameters}
        if new:
            self.parameters |= new
            group = {key: value for key, value in self.optimizer.param_groups[0].items() if key != "params"}
            self.optimizer.add_param_group(group | {"params": list(new.values())})

    def frozen(self) -> list[bool]:
        """Return whether each parameter is frozen. A compiled or recorded step is valid only for this answer."""
        return [not parameter.requires_grad for parameter in self.parameters.values()]

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimiser by the names of parameters, and the state of the objective.

        The form is the same for every engine, so that a run can be resumed with another engine.
        """
        state = self.optimizer.state_dict()["state"]
        memory = {name: state[number] for number, name in enumerate(self.parameters) if number in state}
        return memory | objective_state(self.program)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.program[2:].load_state_dict(state.get("objective", {}))
        numbered = {number: state[name] for number, name in enumerate(self.parameters) if name in state}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": numbered})
