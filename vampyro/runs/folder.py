"""The folder of a run: its files and how they are written."""

import json
import math
import os
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch
from filelock import BaseFileLock, FileLock, Timeout
from matplotlib.figure import Figure
from typing_extensions import Self

from vampyro import files as atomic
from vampyro.catalogue.compatibility import resolve_objective
from vampyro.runs.config import DEFAULTS, WHERE, Config, RunConfig, written
from vampyro.runs.results import FolderError, read_content
from vampyro.training.checkpoint import load_checkpoint, save_checkpoint

HALF = re.compile(r"checkpoint\.pt\.part|.+\.[0-9a-f]{32}\.part")  # incomplete files of a process that was killed


class Folder:
    """The files of a run. Each is written under a temporary name and renamed, so it is always complete."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lock: BaseFileLock | None = None

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path,)  # a lock cannot be copied to another process

    @classmethod
    def create(cls, config: RunConfig) -> Self:
        """Create and lock the folder of a new run: `config.out`, or runs/NAME."""
        try:
            folder = cls(_new_folder(config) if config.out is None else config.out)
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.claim()
            try:
                if (folder.path / "config.json").exists():
                    raise FolderError(
                        f"{folder.path} holds a run already; continue it with --resume {folder.path}, "
                        "or name another --out"
                    )
                folder.write("config.json", dict(config))
            except Exception:
                folder.release()
                raise
        except OSError as error:
            raise FolderError(f"cannot write to --out {config.out or 'runs/'}: {error.strerror}") from None
        return folder

    def claim(self) -> Self:
        """Lock the folder until `release`, and delete incomplete files of a process that was killed.

        The operating system holds the lock. So the lock file of a process that was killed does not block others.
        """
        path = self.path / ".lock"
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            holder = ""
            with suppress(OSError):
                holder = path.read_text(errors="replace")
            raise FolderError(
                f"{self.path} is in use, {holder or 'another process'} trains there: wait, stop it, or name another "
                "--out"
            ) from None
        except OSError as error:
            raise FolderError(f"cannot write to {self.path}: {error.strerror}") from None
        self.lock = lock
        with suppress(OSError):  # on a full disk the lock works without the name
            with path.open("wb") as file:
                file.write(f"process {os.getpid()} on {platform.node()}".encode())
        for half in self.path.glob("*.part"):
            if HALF.fullmatch(half.name):
                half.unlink(missing_ok=True)
        return self

    def release(self) -> None:
        """Unlock the folder; may be called several times."""
        if self.lock is not None and self.lock.is_locked:
            with suppress(OSError):
                (self.path / ".lock").unlink()  # before the release, so that a waiting process makes a new file
            self.lock.release()

    def _write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        with atomic.writing(self.path / name) as file:
            write(file)

    def write_text(self, name: str, text: str) -> None:
        self._write(
            name, lambda file: file.write(text.encode(errors="backslashreplace"))
        )  # file names need not be text

    def write_arrays(self, name: str, **arrays: Any) -> None:
        """Write a .npz file."""
        self._write(name, lambda file: numpy.savez(file, **arrays))

    def save_figure(self, name: str, figure: Figure) -> None:
        self._write(name, lambda file: figure.savefig(file, dpi=200, format="png"))

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file, with null for numbers that are not finite."""
        self.write_text(name, json.dumps(strict(content), indent=2, allow_nan=False) + "\n")

    def save(self, state: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
        """Write the state after an epoch: first the checkpoint, which contains the metrics, then metrics.jsonl."""
        save_checkpoint(self.path / "checkpoint.pt", state | {"metrics": metrics})
        self.write_metrics(metrics)

    def write_metrics(self, metrics: list[dict[str, Any]]) -> None:
        self.write_text("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in metrics))

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the last saved state, or None before the first."""
        path = self.path / "checkpoint.pt"
        return load_checkpoint(path, device) if path.exists() else None

    def measures(self, checkpoint: str) -> dict[str, dict[str, Any]]:
        """Return {prior: {measure: its figures}} of results.json, those of the checkpoint with that digest."""
        try:
            measures = read_content(self.path).get("measures", {})
        except FolderError:  # no results, or not those of a run
            return {}
        kept = {
            prior: {name: it for name, it in found.items() if it["settings"].get("checkpoint") == checkpoint}
            for prior, found in measures.items()
        }
        return {prior: found for prior, found in kept.items() if found}


class Reader(Folder):
    """The folder for all processes except the first, which writes nothing."""

    def _write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        pass

    def save(self, state: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
        pass


def strict(content: Any) -> Any:
    """Return content for JSON, with None for numbers that are not finite.

    >>> strict({"mean": float("-inf"), "shares": (0.5, float("nan"))})
    {'mean': None, 'shares': [0.5, None]}
    """
    if isinstance(content, dict):
        return {name: strict(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


NAMED = ("dataset", "model", "prior", "flow")  # settings at the start of every name, in this order
# Settings that do not change the training, or that are at the end of the name.
UNNAMED = (*WHERE, "samples", "test_images", "seed")
WORDS = ("net", "likelihood", "posterior", "condition", "objective", "optimizer", "activation")  # clear without a name
LONGEST_NAME = 200  # bytes, of the 255 that most file systems allow


def folder_name(config: Config) -> str:
    """Return the name of a run's default folder, which contains every setting that is not the default.

    >>> folder_name(DEFAULTS)
    'mnist5k_vae_standard_none_seed0'
    >>> folder_name(DEFAULTS | {"prior": "vamp:50", "likelihood": "normal", "hidden": [500, 500], "beta": 4.0})
    'mnist5k_vae_vamp-50_none_hidden500-500_normal_beta4_seed0'
    """
    parts = [Path(config.dataset).stem, *(config[name] for name in NAMED[1:])]
    usual = DEFAULTS | {"objective": resolve_objective(DEFAULTS.objective, config.posterior)}
    for name, value in usual.items():
        if name not in (*NAMED, *UNNAMED) and config[name] != value:
            value = f"{config[name]:g}" if isinstance(value, float) else written(config[name])
            key = "" if name in WORDS else name.replace("_", "-") + "-" * (not value[:1].isdigit())
            parts.append(key + value)
    name = re.sub(r"[:,/]", "-", "_".join(parts))
    end = f"_seed{config.seed}"
    return os.fsdecode(os.fsencode(name)[: LONGEST_NAME - len(end)]) + end


def _new_folder(config: Config) -> Path:
    """Create a new folder under runs/."""
    name, number = folder_name(config), 1
    while True:
        path = Path("runs", name if number == 1 else f"{name}_{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if not path.is_dir():
                raise
            number += 1
