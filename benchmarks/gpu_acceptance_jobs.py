"""Checks of the command line on the device: train, resume, score and sample, in this process."""

import contextlib
import io
import json
import math
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_acceptance_programs import GREY, Settings
from benchmarks.gpu_acceptance_rows import Result, Skip, Task
from vampyro import cli as run
from vampyro.training.checkpoint import load_checkpoint

# name → flags of `run.py`; the data, the device and the sizes are added
JOBS = {
    "auto": "--prior vamp:10",
    "graph": "--engine graph --prior mog:5 --flow planar:2",
    "eager": "--engine eager --prior vamp:10:from-data --flow iaf:2",
    "svi": "--engine svi",
    "two-level": "--model two-level --prior vamp:10 --flow planar:2",
    "conv": "--net conv --batch-size 100",
    "iwae": "--objective iwae:3 --patience 1",
    "bernoulli score": "--posterior bernoulli --objective elbo:score --prior vamp:10",
    "vq": "--posterior vq:16 --prior autoregressive",
    "delta": "--posterior delta",
    "intro": "--objective intro --warmup 2",
    "condition": "--condition label --prior vamp:10",
    "normal": "--likelihood normal:learned --noise 0.1",
    "logistic": "--likelihood logistic --optimizer adam-normgrad",
    "continuous-bernoulli": "--likelihood continuous-bernoulli",
    "compiled": "--engine compiled --prior vamp:10",
}
SMALL = ("auto", "eager")
SCORED = "likelihood,elbo,prior,ais,gaps"
RESUMED = {"eager": 1e-5, "graph": 1e-2}  # the largest relative difference of a loss


def tasks(settings: Settings) -> Iterator[Task]:
    """The rows of this file."""
    for name in SMALL if settings.small else JOBS:
        proves = f"`run.py {JOBS[name]}` trains, scores and draws its plots on the device."
        yield Task(f"run.py · {name}", proves, partial(train, settings, name), most=90)
    proves = "`run.py score` measures a finished run on the device."
    yield Task("run.py score", proves, partial(measure, settings))
    proves = "`run.py sample` draws images on the device, also under the aggregated posterior."
    yield Task("run.py sample", proves, partial(sample, settings))
    for engine in RESUMED:
        proves = "Two epochs, resumed for two more, give what four epochs give."
        yield Task(f"resume · {engine}", proves, partial(resume, settings, engine))


def data_file(settings: Settings, grey: bool) -> Path:
    """A small data set with labels, as a file that `run.py` reads."""
    path = settings.folder / f"{'grey' if grey else 'binary'}.npz"
    if not path.exists():
        images = settings.part(100 if settings.small else 300, 50, grey)
        arrays = {split: getattr(images, split).numpy() for split in ("train", "valid", "test")}
        labels = {f"{split}_labels": labels.numpy() for split, labels in images.labels.items()}
        np.savez(path, **arrays, **labels)
    return path


def call(*words: object) -> str:
    """The output of `run.py` with these words.

    Raises:
        RuntimeError: where it ends with an error.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            error = run.main([str(word) for word in words])
        except SystemExit as end:  # of argparse
            error = end.code and errors.getvalue()
    if error:
        raise RuntimeError(f"run.py {shlex.join(map(str, words))}: {error}")
    return printed.getvalue()


def flags(settings: Settings, grey: bool = False) -> list:
    """The flags that all runs have."""
    words = "--hidden 32 --latent 8 --epochs 2 --batch-size 50 --samples 50 --test-images 20"
    return ["--dataset", data_file(settings, grey), "--device", settings.device.type, *words.split()]


def folder_of(settings: Settings, name: str) -> Path:
    return settings.folder / name.replace(" ", "-")


def train(settings: Settings, name: str) -> Result:
    words = shlex.split(JOBS[name])
    if "graph" in words and not settings.cuda:
        raise Skip("engine graph needs a CUDA device")
    grey = any(spec.split(":")[0] in GREY for spec in words)
    call(*flags(settings, grey), *words, "--out", folder_of(settings, name))
    results = json.loads((folder_of(settings, name) / "results.json").read_text())
    value, ran = results["test"]["log_likelihood"], results["config"]
    passed = value is not None and math.isfinite(value) and ran["device"] == settings.device.type
    details = {"steps_per_second": results["fit"]["steps_per_second"]}
    return f"log p̂ {value:.1f} by engine {ran['engine']} on {ran['device']}", "finite, on the device", passed, details


def finished(settings: Settings) -> Path:
    """The folder of the first run."""
    path = folder_of(settings, "auto")
    if not (path / "results.json").exists():
        raise Skip("needs the run of `run.py · auto`")
    return path


def measure(settings: Settings) -> Result:
    path, names = finished(settings), "likelihood,elbo,prior" if settings.small else SCORED
    temperatures = ["--temperatures", 20] if "ais" in names else []
    call("score", path, "--measures", names, "--images", 10, "--device", settings.device.type, *temperatures)
    measured = json.loads((path / "results.json").read_text())["measures"]["own"]
    value = measured["likelihood"]["log_likelihood"]
    passed = sorted(measured) == sorted(names.split(",")) and math.isfinite(value)
    return f"{', '.join(measured)}; log p̂ {value:.1f}", f"{names}, finite", passed, {}


def sample(settings: Settings) -> Result:
    path, counts = finished(settings), []
    for prior in ("own", "aggregate"):
        out = settings.folder / f"{prior}.npz"
        call("sample", path, "--count", 16, "--prior", prior, "--npz", out, "--device", settings.device.type)
        images = np.load(out)["images"]
        counts.append(len(images) if np.isfinite(images).all() else "not finite")
    return f"{counts} images", "[16, 16] images", counts == [16, 16], {}


def resume(settings: Settings, engine: str) -> Result:
    if engine == "graph" and not settings.cuda:
        raise Skip("engine graph needs a CUDA device")
    folders = {epochs: settings.folder / f"resume-{engine}-{epochs}" for epochs in (2, 4)}
    given = ["--prior", "vamp:10", "--engine", engine, "--cooldown", 0]
    words = [word for pair in zip(*[iter(flags(settings))] * 2) if pair[0] != "--epochs" for word in pair]
    for epochs, folder in folders.items():
        call(*words, *given, "--epochs", epochs, "--out", folder)
    call("--resume", folders[2], "--epochs", 4)
    lines = [
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in folders.values()
    ]
    weights = [load_checkpoint(folder / "checkpoint.pt", "cpu")["program"] for folder in folders.values()]
    same = all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    error = max(abs(a - b) / abs(b) for a, b in zip(*lines, strict=True))
    value = "bit-identical" if same else f"losses differ by {error:.1g}, the parameters too"
    if not settings.cuda:
        return value, "bit-identical", same, {"losses": lines}
    return value, f"losses ≤ {RESUMED[engine]:g}", error <= RESUMED[engine], {"losses": lines, "same bits": same}
