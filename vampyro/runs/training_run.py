"""Start, resume and repeat a training run."""

import platform
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy
import pyro
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vampyro.catalogue.assemble import PARTS, assemble, build_objective
from vampyro.catalogue.parts import user_parts
from vampyro.data.image_set import ImageSet
from vampyro.errors import UserError, require
from vampyro.likelihood import scoring_guide
from vampyro.memory import Allowance, memory_for
from vampyro.objectives import KLWeight
from vampyro.programs.estimate import with_noun
from vampyro.programs.randomness import seeded
from vampyro.runs.config import Config, RunConfig, written
from vampyro.runs.device import (
    ALONE,
    check_objective,
    check_samples,
    find_device,
    find_engine,
    find_gemm,
    join_processes,
    recorded_products,
)
from vampyro.runs.folder import Folder, FolderError, Reader
from vampyro.runs.remarks import as_trained, criterion, line, remarks
from vampyro.runs.results import read_config
from vampyro.runs.run_plots import Board, shoot
from vampyro.runs.run_plots import figures as draw
from vampyro.runs.scoring import Partial, check_same, drawn, load_images, score_images, sentence, summary
from vampyro.training import Cooldown, EarlyStopping, diagnose, fit, make_update, validation
from vampyro.training.checkpoint import digest, read_checkpoint
from vampyro.training.checkpoint_state import check_state
from vampyro.training.distributed import Processes, Shard

NETWORKS = ("--hidden", "--latent", "--prior", "--flow")  # flags that determine the size of the programs
COPIES = 5  # of all parameters in training: weights, gradient, two moments of Adam, weights of the best epoch
SLOW = 30  # seconds per epoch for the density of the prior, above which a warning is printed


def assemble_run(config: Config, images: ImageSet) -> tuple[nn.Module, nn.Module, Any]:
    """Return (model, guide, objective) for these settings and images."""
    what = f"training with --prior {config['prior']}, --hidden {written(config['hidden'])}, --latent {config['latent']}"
    copies = COPIES if find_device(config.device).type == "cpu" else 1  # on other devices the allocator raises an error
    with Allowance(what, "choose smaller --hidden, --latent, --prior or --flow", copies):
        model, guide = assemble(
            **{part: config[part] for part in PARTS},
            shape=images.image_shape,
            classes=images.classes,
            images=lambda: images.images("train"),
        )
    return model, guide, build_objective(config.objective, images.input_shape)


class Run:
    """A training run with its programs, data and folder; `train` and `report` do the work."""

    def __init__(self, config: Config, processes: Processes = ALONE) -> None:
        if config.tensorboard:
            require("tensorboard", "--tensorboard")
        device = find_device(config.device)
        self.folder: Folder
        self.epoch = 0
        self.metrics: list[dict[str, Any]] = []
        self.film: dict[str, Tensor] = {}
        self.processes = processes
        with processes.leader_first(), memory_for("loading the data", "--dataset"):
            images = load_images(config)
            self.images = images.to(device)
        with memory_for("building the model", *NETWORKS), seeded(config.seed, device=device):
            self.model: Any
            self.model, self.guide, objective = assemble_run(config, images)
            self.program = torch.nn.ModuleList([self.model, self.guide]).to(device)
            self.untrained = validation(self.model, self.guide, self.images.images("valid")[:500], config.beta)
        known = {
            "engine": find_engine(config, device, len(images.train), objective, processes),
            "device": device.type,
            "processes": processes.size,
            "gemm": processes.broadcast(find_gemm(config, device)),
            "threads": torch.get_num_threads(),
            "shape": list(images.image_shape),
            "classes": images.classes,
            "sha256": images.sha256,
            "parts": user_parts().file,
            "parts_sha256": user_parts().sha256,
        }
        self.config = RunConfig(**dict(config) | known)
        check_objective(config, len(images.train), images.image_shape, device)
        check_samples(self.model, self.images.images("test"), config.samples)
        self.weight = KLWeight(config.beta, config.warmup, device)
        self.update = make_update(
            self.model,
            self.guide,
            weight=self.weight.value,
            optimizer=config.optimizer,
            lr=config.lr,
            engine=self.config.engine,
            objective=objective,
            reduce=processes.reduce if processes.size > 1 else None,
        )
        self.best = EarlyStopping(self.program, config.patience, config.warmup)

    def take_up(self, folder: Folder) -> None:
        """Load the state after the last complete epoch in the folder, or the initial state."""
        with memory_for("loading the checkpoint", *NETWORKS):
            state = folder.load(self.images.device)
        if state is None:
            return
        check_state(
            state,
            self.program,
            folder.path / "checkpoint.pt",
            parameters=self.update.parameters,
            objective=self.update.program[2:].state_dict(),
            frame=self.images.input_shape,
        )
        self.epoch, self.metrics = state["epoch"], state["metrics"]
        self.film = {epoch: frames.cpu() for epoch, frames in state.get("film", {}).items()}
        self.program.load_state_dict(state["program"])
        self.update.load_state_dict(state["update"])
        self.best.load_state_dict(state["best"])

    def restore(self, folder: Folder) -> None:
        """Resume the run in the folder."""
        self.take_up(folder)
        if self.config.epochs < self.epoch:
            raise FolderError(
                f"--epochs {self.config['epochs']}: {folder.path} has trained {self.epoch} epochs already"
            )
        self.folder = folder
        try:
            folder.write("config.json", dict(self.config))
            folder.write_metrics(self.metrics)
        except OSError as error:
            raise FolderError(f"cannot write to {folder.path}: {error.strerror}") from None

    def seconds_in_prior(self) -> float:
        """Time the prior's density of one batch and its gradient; return an estimate for an epoch."""
        parameters, images = list(self.model.prior.parameters()), len(self.images.train)
        size = min(self.config.batch_size, images)
        with seeded(self.config.seed, device=self.images.device):
            for _ in range(2):  # the first warms up
                z = self.model.prior().sample((size,)).clone()  # a copy, because a flow remembers its samples
                began = time.perf_counter()
                prior = self.model.prior()
                # With z itself, as the density of codes has no gradient.
                log_prob = prior.log_prob(z.requires_grad_()).sum() + z.sum()
                torch.autograd.grad(log_prob, [z, *parameters], allow_unused=True)[0].sum().item()  # wait
                seconds = time.perf_counter() - began
        return seconds * images / size

    def fitting(self) -> dict[str, Any]:
        """Return the arguments of `fit`, except for the last epoch."""
        valid = self.images.images("valid")
        return dict(
            update=self.update,
            data=self.images if self.processes.size == 1 else Shard(self.images, self.processes),
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            first=self.epoch + 1,
            before_epoch=[
                self.weight,
                Cooldown(self.update.set_lr, self.config.lr, self.config.epochs, self.config.cooldown),
            ],
            evaluate=lambda: self.validate(valid),
        )

    def validate(self, images: Tensor) -> dict[str, float]:
        """Return `vampyro.training.validation` of the current programs."""
        with memory_for("validating", *NETWORKS):
            return validation(self.model, self.guide, images, self.config.beta)

    def train(self) -> None:
        """Train until the last epoch or until patience runs out; each epoch is saved before the next begins."""
        epochs = fit(**self.fitting(), epochs=self.epoch if self.best.done else self.config.epochs)
        print(self.images)
        self.board = Board(self.folder.path if self.config.tensorboard and self.processes.leads else None, self.metrics)
        quiet = None if self.processes.leads else True  # None: no bar without a terminal
        if (seconds := self.seconds_in_prior()) > SLOW:
            print(
                f"slow: the exact density of {self.model.prior} takes about {seconds:.0f} s of each epoch; "
                "fewer components, or a flow that inverts faster (planar, radial, coupling), would take less"
            )
        if self.config.warmup > self.config.epochs:
            weight = self.config.beta * self.config.epochs / self.config.warmup
            print(
                f"--warmup {self.config['warmup']} is longer than --epochs {self.config['epochs']}: "
                f"the KL term's weight ends at {weight:.2g}"
            )
        print(f"{self.model.prior} · flow {self.config['flow']} · {self.images.device} → {self.folder.path}")
        if self.best.done:
            print(f"early stopping ended this run after epoch {self.epoch}")
        training = memory_for("training", "--batch-size", *NETWORKS)
        with training, tqdm(total=self.config.epochs, initial=self.epoch, unit="epoch", disable=quiet) as bar:
            for metrics in map(self.processes.broadcast, epochs):
                self.best(metrics["epoch"], as_trained(metrics, self.config.beta))
                shoot(self.film, self.model.prior, metrics["epoch"])
                state = {
                    "epoch": metrics["epoch"],
                    "program": self.program.state_dict(),
                    "update": self.update.state_dict(),
                    "best": self.best.state_dict(),
                    "film": self.film,
                }
                self.folder.save(state, [*self.metrics, metrics])
                self.metrics.append(metrics)
                self.board.epoch(metrics)
                self.epoch = metrics["epoch"]
                bar.update()
                tqdm.write(line(metrics))
                if self.best.done:
                    tqdm.write(f"no better epoch than {self.best.epoch} for {self.config['patience']} epochs")
                    break

    def report(self) -> None:
        """Score the weights of the best epoch on the test images; write results.json, then the figures."""
        self.best.restore()
        test = self.images.images("test")
        index = drawn(len(test), self.config.test_images)
        test = test[index]
        began = time.perf_counter()
        decides = ("samples", "test_images", "seed", "device", "processes", "gemm")
        partial = Partial(
            self.folder.path / f"scores.partial-{self.processes.rank}.npz",
            {name: self.config[name] for name in decides} | {"epoch": self.best.epoch},
        )
        samples, seed = self.config.samples, self.config.seed
        print(f"scoring epoch {self.best.epoch}: {with_noun(len(test), 'test image')}")
        with memory_for("scoring", "--samples", *NETWORKS):
            guide = scoring_guide(self.model, self.guide, self.images.images("valid"), seed=seed)
            result = score_images(self.model, guide, test, samples, seed, self.processes, partial)
        figures = summary(result, self.config, guide)
        by = criterion(self.metrics[0])
        said = remarks(self.metrics, self.best.epoch, self.untrained, self.config.beta, self.config.warmup)
        seconds, epochs = sum(line["seconds"] for line in self.metrics), with_noun(len(self.metrics), "epoch")
        steps = len(self.metrics) * -(-len(self.images.train) // self.config.batch_size)
        checkpoint = self.folder.path / "checkpoint.pt"
        measures = self.folder.measures(digest(read_checkpoint(checkpoint))) if self.processes.leads else {}
        self.folder.write(
            "results.json",
            {
                "test": figures | {"seconds": time.perf_counter() - began},
                "fit": {
                    "epochs": len(self.metrics),
                    "best_epoch": self.best.epoch,
                    f"best_validation_{by}": self.metrics[self.best.epoch - 1][by],
                    "seconds": seconds,
                    "steps_per_second": steps / seconds,
                },
                "remarks": said,
                "config": dict(self.config),
                "data": {"name": self.images.name, "sha256": self.images.sha256},
                "versions": {
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                    "pyro": pyro.__version__,
                    "numpy": numpy.__version__,
                },
            }
            | ({"measures": measures} if measures else {}),
        )
        self.folder.write_arrays(
            "scores.npz",
            log_likelihood=result.log_likelihood.numpy(),
            elbo=result.elbo.numpy(),
            ess=result.ess.numpy(),
            pareto_k=result.pareto_k.numpy(),
            index=index,
        )
        partial.remove()
        with memory_for("drawing the plots", *NETWORKS):
            pictures = draw(self.model, self.guide, self.images, self.metrics, self.film, seed)
        for name, figure in pictures.items():
            self.folder.save_figure(name, figure)
        self.board.end(self.epoch, pictures, self.config, figures)
        print("\n".join(["", sentence(figures, result, self.folder.path), *(f"remark: {remark}" for remark in said)]))
        print(
            f"trained             {epochs} in {seconds:.0f} s, best epoch {self.best.epoch}\n"
            f"figures             {', '.join(str(self.folder.path / name) for name in pictures)}"
        )


def start(config: Config, given: dict[str, Any], resume: str | None) -> Run:
    """Return a new run, or the run in the folder `resume` with the settings in `given`."""
    if resume is None:
        processes = join_processes(find_device(config.device))
        run = Run(config, processes)
        run.folder = _led(processes, lambda: Folder.create(run.config))
        return run
    opened, saved = Folder(resume), read_config(resume)
    metrics = opened.path / "metrics.jsonl"  # missing before the first complete epoch
    if metrics.exists() and metrics.stat().st_size and not (opened.path / "checkpoint.pt").exists():
        raise FolderError(
            f"{opened.path} has trained, but its checkpoint.pt is missing: put it back, or train a new run"
        )
    config = saved | given
    device = find_device(config.device)
    if device.type != saved.device:
        config |= {name: "auto" for name in ("engine", "gemm") if name not in given}  # may not work on this device
    elif "gemm" not in given:
        with recorded_products(saved.gemm) as used:
            config |= {"gemm": used}
    processes = join_processes(device)
    run = Run(config, processes)
    if processes.leads:
        changes = [
            ("processes", "random numbers will differ"),
            ("threads", "the last digits will differ from those of an uninterrupted run"),
        ]
        for name, effect in changes:
            before = saved[name]
            if before not in (None, run.config[name]):  # older runs did not record it
                print(f"warning: started with {before} {name}, resumed with {run.config[name]}; {effect}")
    check_same(run.images, saved, resume)
    folder = _led(processes, opened.claim)
    try:
        run.restore(folder)
    except Exception:
        folder.release()
        raise
    return run


def _led(processes: Processes, claim: Callable[[], Folder]) -> Folder:
    """Return the folder that the first process locks, or raise its error in every process."""
    claimed: Folder | FolderError | None
    try:
        claimed = claim() if processes.leads else None
    except FolderError as error:
        claimed = error
    shared = processes.broadcast(claimed)
    if isinstance(shared, FolderError):
        raise shared
    return claimed if isinstance(claimed, Folder) else Reader(shared.path)


def diagnosis(run: Run) -> Any:
    """Repeat the epoch after the last complete one; return what was first not finite, or None."""

    def agree(found):
        return next(filter(None, run.processes.gather(found)), None)

    with suppress(UserError):  # the epoch cannot be repeated, for example without the data
        again = Run(run.config | {"engine": "eager"}, run.processes)
        again.take_up(run.folder)
        return diagnose(**again.fitting(), agree=agree)
