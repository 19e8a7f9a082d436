"""A training step of stock Pyro."""

import logging

import pyro.infer
import pyro.optim
import torch

from inference.anneal import ScaleLatents
from inference.eager import learnt, trained
from inference.learning import Learning
from inference.optimizers import OPTIMIZERS
from inference.pair import check_trained, foreign_sites, watched
from inference.registered import registered


def stored(program):
    """The program with its parameters in Pyro's store; a function puts its own there."""
    return registered(program) if isinstance(program, torch.nn.Module) else program


class SVIStep:
    """A step of stock Pyro, `SVI(…, Trace_ELBO()).step` for example: the reference for every other engine.

    What a function trains is in Pyro's store alone: save it with `pyro.get_param_store().save(FILE)`.
    """

    def __init__(self, model, guide, weight, optimizer, lr, objective, reduce=None):
        if reduce is not None:
            raise ValueError("engine svi is stock Pyro, which trains in one process: choose eager or compiled")
        self.constructor, self.lr = OPTIMIZERS[optimizer], lr
        self.optimizer = pyro.optim.PyroOptim(self.constructor, {"lr": lr})
        self.program, self.learn = trained(model, guide, objective), Learning(guide)
        self.checked = False
        reference = objective.reference()
        differentiable = registered(reference) if len(self.program) > 2 else reference.differentiable_loss

        modules = all(isinstance(program, torch.nn.Module) for program in (model, guide))

        def loss(model, guide, x):
            # The mean over the batch, not its sum: Adam's epsilon, at least, can tell the two apart.
            if self.checked:
                return differentiable(model, guide, x) / len(x)
            with pyro.poutine.trace(param_only=True) as params:
                value = watched(lambda *pair: differentiable(*pair, x) / len(x), model, guide)
            if local := [n for n, site in params.trace.nodes.items() if not hasattr(site["value"], "unconstrained")]:
                raise ValueError(
                    f"engine 'svi' is stock SVI, which does not train {local[0]!r} under the setting "
                    "module_local_params=True: choose engine='eager', or make the PyroModules with the setting False"
                )
            # As stock Pyro finds what it trains: a program's own param sites too.
            check_trained(value, [site["value"].unconstrained() for site in params.trace.nodes.values()])
            if modules and (own := foreign_sites(params.trace, self.program)):
                logging.getLogger(__name__).warning("only Pyro's store keeps param sites %s, no checkpoint", own)
            self.checked = True
            return value

        self.svi = pyro.infer.SVI(
            *(ScaleLatents(weight)(stored(program)) for program in (model, guide)), self.optimizer, loss
        )

    def __call__(self, x):
        loss = self.svi.step(x)
        self.learn(x)
        return {"loss": torch.tensor(loss, dtype=torch.float64)}

    def set_lr(self, lr):
        self.optimizer.pt_optim_args["lr"] = lr  # for parameters that it has not met
        for optimizer in self.optimizer.optim_objs.values():
            optimizer.param_groups[0]["lr"] = lr

    def state_dict(self):
        # Under our own parameters' names, as in every engine: a run may go on with another.
        return {
            name: self.optimizer.optim_objs[parameter].state_dict()["state"][0]
            for name, parameter in self.parameters.items()
            if parameter in self.optimizer.optim_objs
        } | learnt(self.program)

    @property
    def parameters(self):
        """{name: parameter}: modules' parameters under their own names, those of functions as Pyro's store has them."""
        parameters = dict(self.program.named_parameters())
        known = {id(parameter) for parameter in parameters.values()}
        stored = pyro.get_param_store().named_parameters()
        return parameters | {name: p for name, p in stored if id(p) not in known and p in self.optimizer.optim_objs}

    def load_state_dict(self, state):
        self.program[2:].load_state_dict(state.get("objective", {}))
        parameters = dict(pyro.get_param_store().named_parameters()) | dict(self.program.named_parameters())
        for name, parameter in parameters.items():
            if name not in state:
                continue
            optimizer = self.constructor([parameter], lr=self.lr)
            optimizer.load_state_dict(optimizer.state_dict() | {"state": {0: state[name]}})
            self.optimizer.grad_clip[parameter], self.optimizer.optim_objs[parameter] = None, optimizer
