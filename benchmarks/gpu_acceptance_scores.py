"""Checks of scoring: the same scores as on the CPU, full precision in mixtures, and what happens without memory."""

import contextlib
from collections.abc import Iterator
from functools import partial
from unittest import mock

import torch

from benchmarks.gpu_acceptance_programs import SCORED, SameNoise, Settings, default_dtype
from benchmarks.gpu_acceptance_rows import Result, Skip, Task
from vampyro.distributions import DiagonalNormal, Mixture, gemm
from vampyro.likelihood import score
from vampyro.likelihood.joint import Joint

SCORE_LIMIT = 5e-3  # nats: networks are float32
MIXTURE_LIMIT = 1e-3  # nats; TF32 products are whole nats off
TF32_SETTINGS = ("products", "everything", "one word")  # torch's three ways to allow it
SPARE = 2**28  # bytes that scoring may take beyond what is allocated


def tasks(settings: Settings) -> Iterator[Task]:
    """The rows of this file."""
    for name in SCORED:
        if name not in settings.names:
            continue
        proves = "At equal random numbers, log p̂(x) of every image on the device is that of the CPU in float64."
        yield Task(f"scores · {name}", proves, partial(scores, settings, name))
    proves = "A float32 mixture of 500 Normals in 40 dimensions is as exact as the CPU's, against float64."
    yield Task("mixture keeps float32", proves, partial(mixture_is_exact, settings))
    proves = "Where torch is set to TF32 products, gemm.whole() is false and a mixture raises instead of rounding."
    yield Task("mixture rejects TF32", proves, partial(mixture_rejects_tf32, settings))
    proves = "Inside a run, convolutions on the device keep float32's precision, against float64."
    yield Task("convolutions keep float32", proves, partial(convolutions_are_exact, settings))
    proves = "Where memory runs out, scoring continues with fewer rows at a time, and the scores are the same."
    yield Task("out of memory halves the rows", proves, partial(out_of_memory, settings))


def scores(settings: Settings, name: str) -> Result:
    found = []
    for device, dtype in ((settings.device, torch.float32), (torch.device("cpu"), torch.float64)):
        model, guide, _ = settings.programs(name, device)
        images = settings.data_for(name, 20).to(device).images("test")[:8].to(dtype)
        torch.nn.ModuleList([model, guide]).to(dtype)
        with SameNoise(), default_dtype(dtype):
            found.append(score(model, guide, images, 25, rows=100).log_likelihood.cpu())
    error = (found[0] - found[1]).abs().max().item()
    details = {"mean": found[0].mean().item(), "mean on the CPU": found[1].mean().item()}
    return f"{error:.1g} nats", f"≤ {SCORE_LIMIT:g} nats", error <= SCORE_LIMIT, details


def mixture_on(device: torch.device | str, components: int = 500, latent: int = 40) -> tuple[Mixture, torch.Tensor]:
    """A mixture with points, on the device: the same numbers everywhere."""
    generator = torch.Generator().manual_seed(0)
    loc, scale, z = (torch.randn(n, latent, generator=generator) for n in (components, components, 100))
    return Mixture(DiagonalNormal(loc.to(device), scale.abs().add(0.3).to(device))), z.to(device)


def mixture_is_exact(settings: Settings) -> Result:
    mixture, z = mixture_on("cpu")
    truth = mixture.log_prob(z.double())
    errors = {}
    for device in (settings.device, torch.device("cpu")):
        mixture, z = mixture_on(device)
        errors[f"float32 on {device}"] = (mixture.log_prob(z).cpu().double() - truth).abs().max().item()
        errors[f"float64 on {device}"] = (mixture.log_prob(z.double()).cpu() - truth).abs().max().item()
    worst = max(errors.values())
    value = ", ".join(f"{name} {error:.1g}" for name, error in errors.items())
    return value, f"≤ {MIXTURE_LIMIT:g} nats", worst <= MIXTURE_LIMIT, errors


@contextlib.contextmanager
def tf32(how: str) -> Iterator[None]:
    """Inside, torch may round the factors of CUDA products, as it is told in one of three ways."""
    products, word = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    settings = (torch.backends, torch.backends.mkldnn.matmul, products)  # the one word sets a CPU's products too
    before = [setting.fp32_precision for setting in settings]
    try:
        if how == "products":
            products.fp32_precision = "tf32"
        elif how == "everything":
            torch.backends.fp32_precision = "tf32"
        else:
            torch.set_float32_matmul_precision("high")
        yield
    finally:
        torch.set_float32_matmul_precision(word)
        for setting, precision in zip(settings, before):
            setting.fp32_precision = precision


def mixture_rejects_tf32(settings: Settings) -> Result:
    if not settings.cuda:
        raise Skip("TF32 products are CUDA's")
    mixture, z = mixture_on(settings.device)
    truth = mixture.log_prob(z.double())
    found = {}
    for how in TF32_SETTINGS:
        with tf32(how):
            found[f"{how}: whole"] = gemm.whole(settings.device)
            error = (z @ z.T).double() - z.double() @ z.double().T
            found[f"{how}: error of a product"] = (error.norm() / (z.double() @ z.double().T).norm()).item()
            try:
                rounded = (mixture.log_prob(z).double() - truth).abs().max().item()
                found[f"{how}: mixture"] = f"no error, {rounded:.2g} nats off"
            except RuntimeError as error:
                found[f"{how}: mixture"] = f"raises {str(error)[:40]}"
    after = gemm.whole(settings.device)
    passed = after and not any(found[f"{how}: whole"] for how in TF32_SETTINGS)
    passed = passed and all(found[f"{how}: mixture"].startswith("raises") for how in TF32_SETTINGS)
    value = "raises" if passed else ", ".join(f"{name} {value}" for name, value in found.items())
    return value, "raises under each setting, full precision after", passed, found | {"whole after": after}


def convolutions_are_exact(settings: Settings) -> Result:
    if not hasattr(torch.backends.cudnn, "conv"):
        raise Skip("torch before 2.9 has no precision of convolutions")
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(20, 32, 28, 28, generator=generator), torch.randn(32, 32, 5, 5, generator=generator)
    truth = torch.nn.functional.conv2d(x.double(), w.double())
    errors, conv = {}, torch.backends.cudnn.conv
    with gemm.using("blas"):
        for precision in (conv.fp32_precision, "tf32"):
            conv.fp32_precision = precision
            found = torch.nn.functional.conv2d(x.to(settings.device), w.to(settings.device)).cpu().double()
            errors[precision] = ((found - truth).norm() / truth.norm()).item()
    value = ", ".join(f"{precision} {error:.1g}" for precision, error in errors.items())
    return value, "ieee ≤ 1e-06", errors.get("ieee", 1.0) <= 1e-6, errors


def out_of_memory(settings: Settings) -> Result:
    """On CUDA this process's memory is limited; on a CPU an error is raised where there are too many rows."""
    model, guide, _ = settings.programs("vamp", settings.device)
    x = settings.data_for("vamp", 20).images("test")
    samples = 20_000 if settings.cuda else 50
    sizes, call = [], Joint.__call__

    def watched(joint, x, values):
        sizes.append(len(next(iter(values.values()))))
        if not settings.cuda and sizes[-1] > 13:
            raise torch.OutOfMemoryError("emulated")
        return call(joint, x, values)

    # Every draw of the guide is made before any row is decoded: both scorings weigh the same draws.
    expected = score(model, guide, x, samples, rows=samples // 4 * len(x)).log_likelihood
    with limited_memory(settings), mock.patch.object(Joint, "__call__", watched):
        found = score(model, guide, x, samples, rows=samples * len(x)).log_likelihood
    error = (found - expected).abs().max().item()
    halved = min(sizes) < max(sizes)
    value = f"{max(sizes)} → {min(sizes)} samples at a time, {error:.1g} nats"
    return value, f"halved, ≤ {SCORE_LIMIT:g} nats", halved and error <= SCORE_LIMIT, {"sizes": sizes[:50]}


@contextlib.contextmanager
def limited_memory(settings: Settings) -> Iterator[None]:
    """Inside, this process can allocate little more CUDA memory than it has."""
    if not settings.cuda:
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(settings.device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + SPARE) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
