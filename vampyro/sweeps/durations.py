"""How long runs will take here: a few steps of each are timed before any begins."""

import math
import time
from contextlib import contextmanager

import torch

from vampyro.catalogue.assemble import PARTS, assemble
from vampyro.catalogue.specs import parse
from vampyro.data import DATA_SETS, ImageSet
from vampyro.likelihood import score, scoring_guide
from vampyro.programs.randomness import seeded
from vampyro.runs.device import find_device
from vampyro.runs.scoring import load_images
from vampyro.runs.training_run import assembled
from vampyro.training import make_update, validation

START = 5  # seconds that a process takes before it trains, about


FEW, MANY = 10, 500  # images


SLOW = 0.1  # seconds of a step of few images, above which no more are looked at


REFERENCE = 0.013  # seconds of `pace`'s step where the recipes' hours were measured, a busy core of an AMD EPYC


_TIMES: dict = {}


def sizes(config):
    """((training, validation, test) images, shape of one)."""
    if row := DATA_SETS.get(config["dataset"]):  # it need not be there to estimate the time
        return row.counts, row.image_shape
    images = load_images(config)
    return tuple(len(part) for part in (images.train, images.valid, images.test)), images.image_shape


def seconds(config, threads=None):
    """Of a run with this config, if it trains all its epochs with the engine `eager`: training, validation, scoring.

    Raises:
        SpecError: for parts that do not fit; DataError where a FILE.npz cannot be read.
    """
    (train, valid, test), shape = sizes(config)
    config = config | {"batch_size": min(config["batch_size"], train)}
    step, look, weigh = times(config, shape, train, threads)
    test = min(test, config["test_images"] or test)
    epoch = train / config["batch_size"] * step + valid * look
    return START + config["epochs"] * epoch + test * config["samples"] * weigh


def times(config, shape, train, threads=None):
    """Seconds of a step, of validating an image, and of an importance sample of an image; measured once a program.

    Args:
        train: how many training images there are.
    """
    decides = [*PARTS, "batch_size", "objective", "optimizer", "device"]
    key = (*(repr(config[name]) for name in decides), shape, train, threads)
    if key not in _TIMES:
        with _threads(threads), seeded(0):
            _TIMES[key] = _timed(config, shape, train)
    return _TIMES[key]


def _timed(config, shape, train):
    device = find_device(config["device"])
    wanted = max(config["batch_size"], MANY, parse("prior", config["prior"]).n or 1)
    images = _noise(min(wanted, max(train, FEW)), shape)  # no more than there are: a prior may want too many
    images = images.labelled() if config["condition"] == "label" else images
    model, guide, objective = assembled(config, images)
    torch.nn.ModuleList([model, guide]).to(device)
    x = images.images("train").to(device)
    batch, few = x[: config["batch_size"]], x[:FEW]
    update = make_update(model, guide, optimizer=config["optimizer"], lr=1e-4, objective=objective)

    def clock(call, repeat=1):
        call()  # the first warms up
        return min(_seconds(call, device) for _ in range(repeat))

    def step(images):
        return clock(lambda: update(images)["loss"].item(), repeat=2)

    slow = (base := step(few)) > SLOW
    if slow and len(batch) > FEW:  # what all batches share, and what grows with their images
        whole = base + max(0.0, base - step(few[: FEW // 2])) * (len(batch) - FEW) / (FEW - FEW // 2)
    else:
        whole = step(batch)
    seen = few if slow else x
    look = clock(lambda: validation(model, guide, seen)) / len(seen)
    images, low, high = (few[:2], 10, 40) if slow else (few, 100, 400)
    guide = scoring_guide(model, guide, images, steps=1)
    weigh = clock(lambda: score(model, guide, images, high)) - clock(lambda: score(model, guide, images, low))
    return whole, look, max(0.0, weigh) / (high - low) / len(images)


def _noise(count, shape):
    """Black and white pixels and digits at random."""
    x, y = 255 * torch.randint(2, (count, *shape), dtype=torch.uint8), torch.arange(count) % 10
    return ImageSet("noise", x, x, x, labels=dict.fromkeys(("train", "valid", "test"), y), binarize="fixed")


def _seconds(call, device):
    """On a CPU this thread's own, so that what else runs there is left out; it spins where it waits for its helpers."""
    now = time.thread_time if device.type == "cpu" else time.perf_counter
    began = now()
    call()
    return now() - began


def pace():
    """How much slower this machine is than the one that `hours` of recipes are from, at a small VAE's steps."""
    update = make_update(*assemble(), lr=1e-4)
    x, device = torch.rand(100, 1, 28, 28).round(), torch.device("cpu")
    return min(_seconds(lambda: update(x), device) for _ in range(20)) / REFERENCE


@contextmanager
def _threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spoken(seconds):
    """As one says it.

    >>> [spoken(s) for s in (20, 100, 5000, 90000, 1e6)]
    ['under a minute', 'about 2 minutes', 'about 1.4 hours', 'about 25.0 hours', 'about 11.6 days']
    """
    if seconds < 60:
        return "under a minute"
    if seconds < 3600:
        return f"about {math.ceil(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"about {seconds / 86400:.1f} days"
