"""A training step that is Pyro's, without what Pyro waits for."""

import pyro
import torch

from vampyro.objectives import ScaleLatents
from vampyro.programs.checks import check_trained, foreign_sites, watched
from vampyro.training.engines.codebook_update import Learning
from vampyro.training.engines.optimizers import OPTIMIZERS


def trained(model, guide, objective):
    """All that a step trains: the programs, and an objective that is a module (it learns a baseline, for example).

    An empty module stands for a program that is a function.
    """
    parts = [part if isinstance(part, torch.nn.Module) else torch.nn.Module() for part in (model, guide)]
    return torch.nn.ModuleList(parts + [objective] * isinstance(objective, torch.nn.Module))


def learnt(program):
    """Of what is `trained`, that which is no part of the programs, under one name."""
    state = program[2:].state_dict()
    return {"objective": state} if state else {}


class EagerStep:
    """A step of an objective with one fused optimiser and no wait for the device.

    The first call runs under Pyro's validation, so that a mistake in a program is named; the others without.
    """

    def __init__(self, model, guide, weight, optimizer, lr, objective, reduce=None):
        self.pair, self.program = (model, guide), trained(model, guide, objective)
        self.parameters = dict(self.program.named_parameters())
        self.optimizer = OPTIMIZERS[optimizer]([{"params": list(self.parameters.values())}], lr=lr, fused=True)
        self.weight, self.reduce, self.checked = weight, reduce, False
        self.learn = Learning(guide, reduce)

        def loss(x, weight, model=model, guide=guide):
            weighted = ScaleLatents(weight)
            return objective.differentiable_loss(weighted(model), weighted(guide), x) / len(x)

        self.loss = loss

    def __call__(self, x):
        loss = self.backward(x) if len(x) else self.weight.new_zeros(())  # one process of many may have no image
        metrics = {"loss": loss}
        if self.reduce is not None:
            metrics = self.reduce(loss, list(self.parameters.values()), len(x))
        self.optimizer.step()
        self.learn(x)
        return metrics

    def __repr__(self):
        return f"{type(self).__name__}({sum(p.numel() for p in self.parameters.values()):,} parameters)"

    def backward(self, x):
        """The loss, its gradients left with the parameters."""
        loss = self.evaluated(x)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    def evaluated(self, x):
        """The loss with its graph."""
        if not self.checked:
            return self.validated(x)
        with pyro.validation_enabled(False):
            return self.loss(x, self.weight)

    def validated(self, x):
        """The loss, and an error that names the mistake where a program has one."""
        model, guide = self.pair
        with pyro.validation_enabled(True), pyro.poutine.trace(param_only=True) as params:
            loss = watched(lambda *pair: self.loss(x, self.weight, *pair), model, guide)
        if found := foreign_sites(params.trace, self.program):
            names = ", ".join(map(repr, found[:3])) + ", …" * (len(found) > 3)
            raise ValueError(
                f"this engine trains the parameters of modules, not the param sites {names}: use engine='svi', which "
                "trains what Pyro's store holds"
            )
        self.add_new_parameters()
        check_trained(loss, self.parameters.values())
        self.checked = True
        return loss

    def add_new_parameters(self):
        """Train also the parameters that a program made in its first call, as Pyro's autoguides do."""
        new = {n: p for n, p in self.program.named_parameters() if n not in self.parameters}
        if new:
            self.parameters |= new
            group = {key: value for key, value in self.optimizer.param_groups[0].items() if key != "params"}
            self.optimizer.add_param_group(group | {"params": list(new.values())})

    def frozen(self):
        """Whether each parameter is, by `requires_grad_`: what is compiled or recorded holds for the present answer."""
        return [not parameter.requires_grad for parameter in self.parameters.values()]

    def set_lr(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def state_dict(self):
        """What the optimiser remembers, by the parameters' names, and what the objective learnt; for every engine."""
        state = self.optimizer.state_dict()["state"]
        memory = {name: state[number] for number, name in enumerate(self.parameters) if number in state}
        return memory | learnt(self.program)

    def load_state_dict(self, state):
        self.program[2:].load_state_dict(state.get("objective", {}))
        numbered = {number: state[name] for number, name in enumerate(self.parameters) if name in state}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": numbered})
