"""Which number was the first that is not finite: an epoch that failed, repeated with every site watched."""

from contextlib import contextmanager
from functools import partial, wraps

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from vampyro.programs.modes import forwards
from vampyro.training.fit import fit


def diagnose(update, *, first, evaluate=None, agree=lambda found: found, **how):
    """Repeats epoch `first` and says, in words, what in it was not finite first; None where all was, this time.

    An epoch is a function of (seed, epoch) and of what it starts from. So training need look at no number: only
    an epoch that has failed is done again, eagerly, and then each step is asked, in the order in which it computes, for
    the values and log-probabilities of the guide's sites and of the model's, the loss, gradients and parameters.

    Args:
        update: `make_update(..., engine="eager")`, with programs and memory as they were before the epoch.
        first, evaluate, how: as in `fit`, of which this is one epoch.
        agree: makes one finding of several processes' findings (strings or None), where each has its own.

    >>> from vampyro import assemble, data; from vampyro.training import make_update
    >>> model, guide = assemble(hidden=(8,), latent=2)
    >>> with torch.no_grad(): _ = guide.head.linear.bias[:2].fill_(1e20)
    >>> diagnose(make_update(model, guide), data=data.load("mnist5k"), first=1, batch_size=500)
    "the log-probability of the model's site 'z' is not finite (500 of 500 numbers, -inf), in step 1 of epoch 1"
    """

    def report(finding, when):
        if finding := agree(finding):
            raise FloatingPointError(f"{finding}, in {when} of epoch {first}")

    parameters = {_place(name): parameter for name, parameter in update.parameters.items()}
    steps = 0

    def watched(x):
        nonlocal steps
        steps += 1
        with _watching(update.program) as watch:
            # After the step of the optimiser the guide may run again, for its parts to learn: no site of this loss.
            hook = update.optimizer.register_step_pre_hook(lambda *_: watch.close())
            try:
                metrics = update(x)
            finally:
                hook.remove()
        gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        report(
            watch.found
            or _fault({"the loss": metrics["loss"]}, "{}")
            or _fault(gradients, "the gradient of {}")
            or _fault(parameters, "{} after the step"),
            f"step {steps}",
        )
        return metrics

    def validated():
        with _watching(update.program) as watch:
            metrics = evaluate()
        report(watch.found, "the validation")
        return metrics

    update.checked = True  # Pyro's validation of a first step would stop at an argument, with less to say
    try:
        report(_fault(parameters, "{}"), "what was kept, before step 1")
        list(fit(watched, **how, first=first, epochs=first, evaluate=evaluate and validated))
    except FloatingPointError as found:
        return str(found)


PLACES = ("model", "guide", "objective")  # of what a step trains


class _Watch:
    """Remembers the first site whose value or log-probability is not finite, until it is closed."""

    def __init__(self):
        self.found, self.closed = None, False

    def close(self):
        self.closed = True

    def see(self, program, msg):
        if self.found or self.closed or site_is_subsample(msg):
            return
        name = msg["name"]
        with torch.no_grad(), pyro.validation_enabled(False):
            self.found = _fault({name: msg["value"]}, f"the value of the {program}'s site {{!r}}")
            if not self.found:
                log_prob = scale_and_mask(msg["fn"].log_prob(msg["value"]), mask=msg["mask"])
                self.found = _fault({name: log_prob}, f"the log-probability of the {program}'s site {{!r}}")


class _Sites(Messenger):
    """Shows a watch the sites of one program: whose they are, no name can tell, as a guide may have factors too."""

    def __init__(self, program, watch):
        super().__init__()
        self.program, self.watch = program, watch

    def _pyro_post_sample(self, msg):
        self.watch.see(self.program, msg)


@contextmanager
def _watching(programs):
    """A watch over all calls of (model, guide) inside."""
    watch = _Watch()
    with forwards([(p, partial(_within, _Sites(place, watch))) for place, p in zip(PLACES, programs[:2])]):
        yield watch


def _within(messenger, forward):
    @wraps(forward)
    def within(*args, **kwargs):
        with messenger:
            return forward(*args, **kwargs)

    return within


def _place(name):
    """A parameter's name in `ModuleList([model, guide, objective])`, in words."""
    number, _, rest = name.partition(".")
    return f"{PLACES[int(number)]}.{rest}"


def _fault(tensors, words):
    """What is wrong with the first of {name: tensor} that is not finite."""
    for name, tensor in tensors.items():
        tensor = torch.as_tensor(tensor)
        bad = tensor[~tensor.isfinite()]
        if len(bad):
            count = f"{len(bad)} of {tensor.numel()} numbers, " if tensor.numel() > 1 else ""
            return f"{words.format(name)} is not finite ({count}{bad[0].item()})"
