"""Which number was the first that is not finite: an epoch that failed, repeated with every site watched."""

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from inference.fit import fit


def diagnose(update, *, first, evaluate=None, agree=lambda found: found, **how):
    """Repeats epoch `first` and says, in words, what in it was not finite first; None where all was, this time.

    An epoch is a function of (seed, epoch) and of what it starts from. So training need look at no number: only
    an epoch that has failed is done again, eagerly, and then each step is asked, in the order in which it computes, for
    the values and log-probabilities of the guide's sites and of the model's, the loss, gradients and parameters.

    Args:
        update: `make_update(..., engine="eager")`, with programs and memory as they were before the epoch.
        first, evaluate, how: as in `fit`, of which this is one epoch.
        agree: makes one finding of several processes' findings (strings or None), where each has its own.

    >>> import data; from assemble import assemble; from inference import make_update
    >>> model, guide = assemble(hidden=(8,), latent=2)
    >>> with torch.no_grad(): _ = guide.head.linear.weight.fill_(1e38)
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
        with _Watch() as watch:
            metrics = update(x)
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
        with _Watch() as watch:
            metrics = evaluate()
        report(watch.found, "the validation")
        return metrics

    update.checked = True  # Pyro's validation of a first step would stop at an argument, with less to say
    try:
        report(_fault(parameters, "{}"), "what was kept, before step 1")
        list(fit(watched, **how, first=first, epochs=first, evaluate=evaluate and validated))
    except FloatingPointError as found:
        return str(found)


class _Watch(Messenger):
    """Remembers the first site whose value or log-probability is not finite; the guide's sites come first."""

    def __init__(self):
        super().__init__()
        self.found, self.guides = None, set()

    def _pyro_post_sample(self, msg):
        if self.found or site_is_subsample(msg):
            return
        name = msg["name"]
        program = "model" if msg["is_observed"] or name in self.guides else "guide"
        self.guides.add(name)
        with torch.no_grad(), pyro.validation_enabled(False):
            self.found = _fault({name: msg["value"]}, f"the value of the {program}'s site {{!r}}")
            if not self.found:
                log_prob = scale_and_mask(msg["fn"].log_prob(msg["value"]), mask=msg["mask"])
                self.found = _fault({name: log_prob}, f"the log-probability of the {program}'s site {{!r}}")


def _place(name):
    """A parameter's name in `ModuleList([model, guide])`, in words."""
    number, _, rest = name.partition(".")
    return f"{('model', 'guide')[int(number)]}.{rest}"


def _fault(tensors, words):
    """What is wrong with the first of {name: tensor} that is not finite."""
    for name, tensor in tensors.items():
        tensor = torch.as_tensor(tensor)
        bad = tensor[~tensor.isfinite()]
        if len(bad):
            count = f"{len(bad)} of {tensor.numel()} numbers, " if tensor.numel() > 1 else ""
            return f"{words.format(name)} is not finite ({count}{bad[0].item()})"
