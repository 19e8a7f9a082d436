"""Find the first number that is not finite, by repeating the failed epoch with every site checked."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import nn

from vampyro.programs.modes import replace_forwards
from vampyro.training.fit import fit

PARTS = ("model", "guide", "objective")  # of `update.program`, in this order


def diagnose(
    update: Any,
    *,
    first: int,
    evaluate: Callable[[], dict] | None = None,
    agree: Callable[[str | None], str | None] = lambda found: found,
    **how: Any,
) -> str | None:
    """Repeat epoch `first` and describe the first number in it that is not finite; None if all are finite this time.

    An epoch is a function of (seed, epoch) and of the state before it, so training does not check any number. Only a
    failed epoch is repeated, eagerly. Each step then checks, in the order of computation, the values and
    log-probabilities of the guide's sites and of the model's, the loss, the gradients and the parameters.

    Args:
        update: `make_update(..., engine="eager")`, with programs and optimiser state as before the epoch.
        first, evaluate, how: as in `fit`, for this one epoch.
        agree: combines the results of several processes (strings or None) into one.

    >>> from vampyro import assemble, data; from vampyro.training import make_update
    >>> model, guide = assemble(hidden=(8,), latent=2)
    >>> with torch.no_grad(): _ = guide.head.linear.bias[:2].fill_(1e20)
    >>> diagnose(make_update(model, guide), data=data.load("mnist5k"), first=1, batch_size=500)
    "the log-probability of the model's site 'z' is not finite (500 of 500 numbers, -inf), in step 1 of epoch 1"
    """

    def report(finding: str | None, when: str) -> None:
        if finding := agree(finding):
            raise FloatingPointError(f"{finding}, in {when} of epoch {first}")

    parameters = {_in_words(name): parameter for name, parameter in update.parameters.items()}
    step, compute_loss = 0, update.compute_loss
    sites: list[str] = []

    def checked_loss(x):
        nonlocal sites
        with _checked_sites(update.program) as sites:
            return compute_loss(x)

    def checked_step(x):
        nonlocal step
        step += 1
        metrics = update(x)
        gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        report(
            (sites[0] if sites else None)
            or _fault({"the loss": metrics["loss"]}, "{}")
            or _fault(gradients, "the gradient of {}")
            or _fault(parameters, "{} after the step"),
            f"step {step}",
        )
        return metrics

    def checked_validation():
        assert evaluate is not None
        with _checked_sites(update.program) as found:
            metrics = evaluate()
        report(found[0] if found else None, "the validation")
        return metrics

    update.checked = True  # Pyro's validation of a first step would stop at an argument and say less
    update.compute_loss = checked_loss  # without what learns after the step, where the guide runs again
    try:
        report(_fault(parameters, "{}"), "what was kept, before step 1")
        list(fit(checked_step, **how, first=first, epochs=first, evaluate=evaluate and checked_validation))
    except FloatingPointError as found:
        return str(found)
    return None


class _CheckSites(Messenger):
    """Around one program: append to `faults` the first sample site whose value or log-probability is not finite."""

    def __init__(self, program: str, faults: list[str]) -> None:
        super().__init__()
        self.program, self.faults = program, faults

    def _pyro_post_sample(self, msg):
        if self.faults or site_is_subsample(msg):
            return
        site = f"of the {self.program}'s site {msg['name']!r}"
        with torch.no_grad(), pyro.validation_enabled(False):
            fault = _fault({site: msg["value"]}, "the value {}")
            if fault is None:
                log_prob = scale_and_mask(msg["fn"].log_prob(msg["value"]), mask=msg["mask"])
                fault = _fault({site: log_prob}, "the log-probability {}")
        if fault:
            self.faults.append(fault)


@contextmanager
def _checked_sites(programs: nn.ModuleList) -> Iterator[list[str]]:
    """Check all calls of (model, guide) inside, and yield the list that receives the first fault.

    Each program has its own messenger, because the name of a site does not identify its program.
    """
    faults: list[str] = []
    with replace_forwards([(p, partial(_within, _CheckSites(name, faults))) for name, p in zip(PARTS, programs[:2])]):
        yield faults


def _within(messenger, forward):
    @wraps(forward)
    def within(*args, **kwargs):
        with messenger:
            return forward(*args, **kwargs)

    return within


def _in_words(name: str) -> str:
    """Name a parameter of `ModuleList([model, guide, objective])`."""
    number, _, rest = name.partition(".")
    return f"{PARTS[int(number)]}.{rest}"


def _fault(tensors: Mapping[str, Any], words: str) -> str | None:
    """Describe the first of {name: tensor} that is not finite."""
    for name, tensor in tensors.items():
        tensor = torch.as_tensor(tensor)
        bad = tensor[~tensor.isfinite()]
        if len(bad):
            count = f"{len(bad)} of {tensor.numel()} numbers, " if tensor.numel() > 1 else ""
            return f"{words.format(name)} is not finite ({count}{bad[0].item()})"
    return None
