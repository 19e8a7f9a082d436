"""Float32 products: whether they are whole, and on a CPU the library that is faster at them.

torch multiplies on a CPU by its BLAS, MKL mostly, or, where it is allowed to round the factors, by oneDNN. On a
processor without instructions for rounded factors oneDNN keeps them whole, and on some of those it is twice as fast.
Nothing is believed here: accuracy and speed are measured.
"""

import time
from contextlib import contextmanager
from functools import cache

import torch

WHOLE = ("none", "ieee")  # torch's words for 24 bits
WORDS = {"bf16": "medium", "tf32": "high"}  # and its older ones for fewer


def whole(device="cpu"):
    """Whether float32 products on `device` keep all their bits, as torch is set at this moment.

    >>> whole()
    True
    """
    if torch.device(device).type == "cuda":
        return torch.backends.cuda.matmul.fp32_precision in WHOLE
    mode = torch.backends.mkldnn.matmul.fp32_precision
    return mode in WHOLE or _error(mode) < 1e-6


@contextmanager
def using(library):
    """Inside, float32 products on a CPU come from that library, and a GPU's convolutions are whole; yields its name.

    Args:
        library: "blas", or "onednn", which is used only where it keeps products whole.

    >>> with using("blas") as library: library
    'blas'
    """
    if library == "onednn" and not _onednn_is_whole():
        library = "blas"
    with _mode("bf16" if library == "onednn" else "ieee"):
        yield library


@cache
def faster():
    """The library that multiplies faster and whole, "blas" or "onednn": the shortest of many times each, in turns.

    >>> faster() in ("blas", "onednn")
    True
    """
    if not _onednn_is_whole():
        return "blas"
    a, b = _factors()
    seconds = {"blas": [], "onednn": []}
    for _ in range(20):
        for library, times in seconds.items():
            with using(library), torch.autocast("cpu", enabled=False):
                began = time.perf_counter()
                a @ b
                times.append(time.perf_counter() - began)
    return "onednn" if min(seconds["onednn"]) < 0.9 * min(seconds["blas"]) else "blas"


def best(device):
    """The library to multiply by on `device`: `faster()` of a CPU's two; a GPU has its own."""
    return faster() if torch.device(device).type == "cpu" else "blas"


@contextmanager
def _mode(mode):
    """Inside, a CPU's products are in that mode and a GPU's convolutions whole; of its other products nothing changes.

    torch has two ways to say how products are rounded, and asking by the older one, one word for all devices or all of
    cuDNN, raises where the newer says otherwise. So both are set.
    """
    cpu, cuda, cudnn = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul, torch.backends.cudnn
    settings = [cpu, cuda, cudnn.conv, cudnn.rnn]
    before = [setting.fp32_precision for setting in settings]
    word, rounds = _asked(torch.get_float32_matmul_precision), _asked(lambda: cudnn.allow_tf32)

    def say(word, rounds, precisions):
        if word is not None:
            torch.set_float32_matmul_precision(word)
        if rounds is not None:
            cudnn.allow_tf32 = rounds
        for setting, precision in zip(settings, precisions):
            setting.fp32_precision = precision

    try:
        say(word and WORDS.get(mode, word), rounds and False, (mode, before[1], "ieee", "ieee"))
        yield
    finally:
        say(word, rounds, before)


def _asked(question):
    """What the older way says, or None where it and the newer disagree already: that is the caller's."""
    try:
        return question()
    except RuntimeError:
        return None


def _factors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(100, 784, generator=generator), torch.randn(784, 600, generator=generator)


@cache
def _error(mode):
    """The relative error of a product: 4e-7 where it is whole, 1e-3 where factors are rounded."""
    a, b = _factors()
    truth = a.double() @ b.double()
    with _mode(mode), torch.autocast("cpu", enabled=False):
        return (((a @ b).double() - truth).norm() / truth.norm()).item()


def _onednn_is_whole():
    return torch.backends.mkldnn.is_available() and _error("bf16") < 1e-6
