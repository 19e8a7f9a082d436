"""Functions that training and scoring share: load images and programs, score, and describe the result."""

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vampyro import data
from vampyro import files as atomic
from vampyro.catalogue.assemble import ex_post
from vampyro.catalogue.compatibility import check_likelihood, check_posterior
from vampyro.catalogue.saving import load
from vampyro.data.image_set import ImageSet
from vampyro.likelihood import NormalProposal, Score, score
from vampyro.likelihood.scores import TENSORS
from vampyro.memory import memory_for
from vampyro.programs.estimate import with_noun
from vampyro.runs.arguments import as_started
from vampyro.runs.config import Config, RunConfig
from vampyro.runs.device import ALONE, recorded_products
from vampyro.runs.folder import Folder
from vampyro.runs.results import read_config
from vampyro.training.checkpoint import digest, read_checkpoint
from vampyro.training.distributed import Processes

SECONDS = 10  # between two writes of partial scores


def load_images(config: Config) -> ImageSet:
    """Return the images of a run, with labels for a conditional run.

    Grey images are binarised for a Bernoulli likelihood, colour images only with --binarize.
    """
    how = config.binarize or (None if config.likelihood == "bernoulli" else "none")
    images = data.load(config.dataset, config.data_dir, how).noisy(config.noise)
    check_likelihood(config.likelihood, images.values, images.name, images.kind)
    return images.labelled() if config.condition == "label" else images


def load_other(name: str, data_dir: str | None, images: ImageSet) -> ImageSet:
    """Return another data set with the same image shape, binarised like the images of the run."""
    other = data.load(name, data_dir, "none")
    if other.image_shape != images.image_shape:
        raise data.DataError(f"--other {name}: its images are {other.image_shape}, not {images.image_shape}")
    if images.binary and not other.binary:
        return other.with_binarisation("threshold" if images.binarize == "threshold" else "dynamic")
    return other


def check_same(images: ImageSet, config: RunConfig, run: str | Path) -> None:
    """Raise a DataError if the images are not those of the run."""
    if images.sha256 != config.sha256:
        raise data.DataError(f"{images.name} has changed since {run} was trained on it: train a new run")


@contextmanager
def products_of(run: str | Path) -> Iterator[None]:
    """Use the library for matrix products that the run recorded, inside the context."""
    with recorded_products(read_config(run).gemm):
        yield


def load_trained(
    run: str | Path, prior: str = "own", data_dir: str | None = None
) -> tuple[Folder, RunConfig, str, ImageSet, nn.Module, nn.Module]:
    """Return (folder, config, checkpoint, images, model, guide) of a trained run.

    The programs are those of the best epoch. `checkpoint` is the digest of the file. A `prior` (`aggregate` or `gmm:K`)
    replaces the trained prior.
    """
    folder, config = Folder(run), read_config(run)
    with memory_for("loading the data", "--dataset"):
        images = load_images(config | {"noise": 0.0} | ({} if data_dir is None else {"data_dir": data_dir}))
    check_same(images, config, run)
    with memory_for("loading the checkpoint", "--hidden", "--latent"):
        contents = read_checkpoint(folder.path / "checkpoint.pt")  # read once, because a run in training replaces it
        model, guide = load(run, contents=contents)
    if prior != "own":
        parts: Any = {"scoring prior": prior}
        check_posterior(config.posterior, **parts)
        with memory_for(f"fitting the prior {prior}", "--prior"):
            model.prior = ex_post(prior, model, guide, images.images("train"), config.seed)
    return folder, config, digest(contents), images, model, guide


def drawn(total: int, count: int | None = None, seed: int = 0) -> numpy.ndarray:
    """Return all indices, or `count` random ones (a file may be sorted by class), the same for every run."""
    if count is None:
        return numpy.arange(total)
    return numpy.random.default_rng(seed).permutation(total)[:count]


class Partial:
    """The finished blocks of a long scoring, written to disk at intervals, to resume it after an interruption.

    Blocks that were scored with other `settings` are ignored. `settings` contain everything that changes the scores.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, json.dumps(settings, sort_keys=True)
        self.scores: list[Score] = []
        self.written = time.monotonic()

    def load(self) -> list[Score]:
        """Return the first blocks' scores."""
        try:
            with numpy.load(self.path, allow_pickle=False) as file:
                if str(file["settings"]) == self.settings:
                    tensors = {name: torch.from_numpy(file[name]) for name in TENSORS}
                    whole = Score(**tensors, samples=int(file["samples"]), exact=bool(file["exact"]))
                    if whole.log_likelihood.isnan().any():
                        raise ValueError("no scoring keeps NaN")
                    ends = file["counts"].cumsum()
                    self.scores = [whole[end - count : end] for end, count in zip(ends, file["counts"])]
        except Exception:  # missing or damaged: zipfile, zlib and numpy raise many types of errors
            self.scores = []
        return list(self.scores)

    def add(self, score: Score) -> None:
        self.scores.append(score)
        if time.monotonic() - self.written > SECONDS:
            self.write()

    def write(self) -> None:
        whole = Score.cat(self.scores)
        arrays: dict[str, Any] = dict(zip(TENSORS, (tensor.numpy() for tensor in whole.tensors())))
        with atomic.writing(self.path) as file:
            arrays |= {"samples": whole.samples, "exact": whole.exact, "counts": [len(score) for score in self.scores]}
            numpy.savez(file, settings=self.settings, **arrays)
        self.written = time.monotonic()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def score_images(
    model: Callable,
    guide: Callable,
    test: Tensor,
    samples: int,
    seed: int,
    processes: Processes = ALONE,
    partial: Partial | None = None,
) -> Score:
    """Return a `Score`, with a progress bar on a terminal. Each of several processes scores some of the images."""
    if len(test) < processes.size:  # not enough images for all processes
        processes = ALONE
    order = torch.cat([torch.arange(rank, len(test), processes.size) for rank in range(processes.size)])
    part = score(
        model,
        guide,
        test[processes.rank :: processes.size],
        samples,
        seed=seed + processes.rank,
        progress=lambda blocks: tqdm(blocks, desc="scoring", unit="block", disable=None if processes.leads else True),
        done=partial.load() if partial else (),
        keep=partial.add if partial else None,
    )
    return Score.cat(processes.gather(part))[order.argsort()]


def summary(result: Score, config: RunConfig, guide: Callable) -> dict[str, Any]:
    """Return the metrics for results.json; for a likelihood of grey levels also in bits per dimension."""
    figures = {"quantity": quantity(config)} | result.summary()
    if config.likelihood == "logistic":
        pixels = numpy.prod(config.shape)
        figures["bits_per_dimension"] = -figures["log_likelihood"] / (pixels * numpy.log(2)).item()
    if isinstance(guide, NormalProposal):
        figures["proposal"] = "Normal"  # a guide of points has no density, so the ELBO is that of the proposal
    return figures


def quantity(config: Config) -> str:
    """Return a description of the variable of the log-likelihood."""
    return "log p(x | y)" if config.condition == "label" else "log p(x)"


def sentence(figures: dict[str, Any], result: Score, run: str | Path, split: str = "test", prior: str = "own") -> str:
    """Return the lines to print: the estimate with its errors, the ELBO, its reliability, and how to check it."""
    name = "log-likelihood" if figures["quantity"] == "log p(x)" else figures["quantity"]
    bits = f"\nbits per dimension  {figures['bits_per_dimension']:.3f}" if "bits_per_dimension" in figures else ""
    proposal = " of a Normal proposal, fitted to the validation images: the guide's points have no density"
    error = "" if figures["standard_error"] is None else f" ± {figures['standard_error']:.2f}"
    images, samples = with_noun(figures["images"], "image"), with_noun(figures["samples"], "importance sample")
    if result.exact:
        how = f"exact, by a sum over all {figures['samples']} codes"
    elif figures["monte_carlo_error"] is None:
        how = f"{samples}, of unknown Monte Carlo error"
    else:
        how = f"± {figures['monte_carlo_error']:.3f} by its {samples}, median ESS {figures['ess_median']:.1f}"
    under = [] if prior == "own" else ["--prior", prior]
    command = as_started(shlex.join(["python", "run.py", "score", str(run), *under, "--measures", "ais"]))
    check = "" if result.suffices else f"\nTo check it without the guide: {command}"
    return (
        f"{split} {name} {figures['log_likelihood']:.2f}{error} nats per image (over {images}; {how}){bits}\n"
        f"{split} {'ELBO':{len(name)}} {figures['elbo']:.2f}{proposal if 'proposal' in figures else ''}\n"
        f"{result.verdict}{check}"
    )
