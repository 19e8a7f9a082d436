"""One training step, `update(x) -> {"loss": …}`, by two engines that compute the same."""

import pyro
import pyro.infer
import pyro.optim
import torch

from inference.anneal import ScaleLatents
from inference.elbo import Trace_ELBO
from inference.optimizers import OPTIMIZERS
from inference.registered import registered


class EagerStep:
    """A step of an objective with one fused optimiser and no wait for the device.

    The first call runs under Pyro's validation, so that a mistake in a program is named; the others without.
    """

    def __init__(self, model, guide, weight, optimizer, lr, objective):
        self.model, self.guide = ScaleLatents(weight)(model), ScaleLatents(weight)(guide)
        parameters = torch.nn.ModuleList([model, guide]).parameters()
        self.optimizer = OPTIMIZERS[optimizer](parameters, lr=lr, fused=True)
        self.loss = objective.differentiable_loss
        self.checked = False

    def __call__(self, x):
        if self.checked:
            with pyro.validation_enabled(False):
                loss = self.loss(self.model, self.guide, x) / len(x)
        else:
            with pyro.validation_enabled(True), pyro.poutine.trace(param_only=True) as params:
                loss = self.loss(self.model, self.guide, x) / len(x)
            if params.trace.nodes:
                names = ", ".join(map(repr, params.trace.nodes))
                raise ValueError(f"this engine trains the modules' parameters, not the param sites {names}: use SVI")
            self.checked = True
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def set_lr(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)


class SVIStep:
    """A step of stock Pyro, `SVI(…, Trace_ELBO()).step` say: the reference for every other engine."""

    def __init__(self, model, guide, weight, optimizer, lr, objective):
        self.constructor, self.lr = OPTIMIZERS[optimizer], lr
        self.optimizer = pyro.optim.PyroOptim(self.constructor, {"lr": lr})
        self.parameters = dict(torch.nn.ModuleList([model, guide]).named_parameters())
        reference = objective.reference()

        def loss(model, guide, x):
            # The mean over the batch, not its sum: Adam's epsilon, at least, can tell the two apart.
            return reference.differentiable_loss(model, guide, x) / len(x)

        self.svi = pyro.infer.SVI(
            ScaleLatents(weight)(registered(model)), ScaleLatents(weight)(registered(guide)), self.optimizer, loss
        )

    def __call__(self, x):
        return {"loss": torch.tensor(self.svi.step(x), dtype=torch.float64)}

    def set_lr(self, lr):
        self.optimizer.pt_optim_args["lr"] = lr  # for parameters that it has not met
        for optimizer in self.optimizer.optim_objs.values():
            optimizer.param_groups[0]["lr"] = lr

    def state_dict(self):
        # Under our own parameters' names: those in Pyro's store differ in every process.
        return {
            name: self.optimizer.optim_objs[parameter].state_dict()
            for name, parameter in self.parameters.items()
            if parameter in self.optimizer.optim_objs
        }

    def load_state_dict(self, state):
        for name, optimizer_state in state.items():
            parameter = self.parameters[name]
            self.optimizer.grad_clip[parameter] = None
            self.optimizer.optim_objs[parameter] = self.constructor([parameter], lr=self.lr)
            self.optimizer.optim_objs[parameter].load_state_dict(optimizer_state)


ENGINES = {"eager": EagerStep, "svi": SVIStep}


def make_update(model, guide, *, weight=None, optimizer="adam", lr=1e-3, engine="eager", objective=None):
    """The function that `fit` calls for each batch: one gradient step on -ELBO per image, or another objective.

    Args:
        model, guide: Pyro programs that are `nn.Module`s.
        weight: scalar tensor that multiplies the KL term (`KLWeight(...).value`), 1 if None.
        optimizer: `adam`, or `adam-normgrad` (gradients of unit length for each tensor).
        lr: its learning rate.
        engine: `eager`, or `svi` for stock Pyro.
        objective: one of `inference.elbo`'s: Trace_ELBO() unless given, TraceMeanField_ELBO() or IWAE(K).

    Returns:
        update: x (batch, channels, height, width) → {"loss": scalar tensor, nats per image}, with
        `set_lr(lr)`, and `state_dict()` and `load_state_dict(state)` for the optimiser's memory.

    Raises:
        ValueError: for an unknown optimizer or engine.
        TypeError: where model or guide is no `nn.Module`: its parameters could not be found.

    >>> from assemble import assemble
    >>> update = make_update(*assemble(hidden=(8,), latent=2, shape=(1, 4, 4)))
    >>> update(torch.zeros(5, 1, 4, 4))["loss"] > 0
    tensor(True)
    """
    for kind, name, known in [("engine", engine, ENGINES), ("optimizer", optimizer, OPTIMIZERS)]:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}: choose from {', '.join(known)}")
    if not all(isinstance(program, torch.nn.Module) for program in (model, guide)):
        raise TypeError(
            "make_update trains nn.Modules; a program with pyro.param statements trains under pyro.infer.SVI"
        )
    if weight is None:
        parameter = next(torch.nn.ModuleList([model, guide]).parameters(), torch.ones(()))
        weight = torch.ones((), device=parameter.device)
    return ENGINES[engine](model, guide, weight, optimizer, lr, objective or Trace_ELBO())
