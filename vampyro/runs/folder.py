"""A run's folder: its files and how they are written."""

import json
import math
import os
import platform
import re
from contextlib import suppress
from pathlib import Path

import numpy

from vampyro import files as atomic
from vampyro.catalogue.supports import resolve_objective
from vampyro.errors import SpecError
from vampyro.runs import saved
from vampyro.runs.config import DEFAULTS, WHERE, written
from vampyro.runs.results import FolderError, Results
from vampyro.training.checkpoint import load_checkpoint, save_checkpoint

NAME = ".lock"


class Locked(Exception):
    """Another process holds the lock; says which."""


class Lock:
    """The right to write in a folder, until `release` or until this process ends, however it does.

    The system holds the lock, not the file: a dead process leaves the file, which bars nobody. Where the system has
    no locks (Windows, some network drives) there is none.

    Raises:
        Locked: where another process has it, or another Lock of this one.
        OSError: where the folder cannot be written.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> lock = Lock(folder)
    >>> Lock(folder)    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vampyro.runs.folder.Locked: process ... on ...
    >>> lock.release(); Lock(folder).release(); os.listdir(folder)
    []
    """

    def __init__(self, folder):
        self.path = Path(folder) / NAME
        while True:
            self.file = self.path.open("a+b", buffering=0)
            try:
                _lock(self.file)
                if os.path.samestat(os.fstat(self.file.fileno()), self.path.stat()):
                    break
            except BlockingIOError:
                self.file.seek(0)
                holder = self.file.read().decode(errors="replace")
                self.file.close()
                raise Locked(holder or "another process") from None
            except FileNotFoundError:
                pass
            self.file.close()  # its holder took it away between our opening and our locking it
        with suppress(OSError):  # a full disk costs the name, not the lock
            self.file.truncate(0)
            self.file.write(f"process {os.getpid()} on {platform.node()}".encode())

    def release(self):
        """Takes the file away, too; once is enough."""
        if not self.file.closed:
            with suppress(OSError):
                self.path.unlink()
            self.file.close()


def _lock(file):
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        pass


HALF = re.compile(r"checkpoint\.pt\.part|.+\.[0-9a-f]{32}\.part")  # what a killed process was writing


class Folder:
    """config.json, metrics.jsonl (a line an epoch), checkpoint.pt, results.json, scores.npz (image by image), figures.

    Every file is written under a temporary name and renamed: it is whole, or the one before.
    """

    def __init__(self, path):
        self.path, self.lock = Path(path), None

    def __reduce__(self):
        return type(self), (self.path,)  # the lock stays with its process

    @classmethod
    def create(cls, config):
        """A new folder for a run, claimed: `config["out"]`, or one under runs/ named after the run.

        Raises:
            FolderError: where it holds a run already, another process trains in it, or it cannot be written.
        """
        try:
            folder = cls(_new_folder(config) if config["out"] is None else config["out"])
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.claim()
            try:
                if (folder.path / "config.json").exists():
                    raise FolderError(
                        f"{folder.path} holds a run already; continue it with --resume {folder.path}, "
                        "or name another --out"
                    )
                folder.write("config.json", config)
            except Exception:
                folder.release()
                raise
        except OSError as error:
            raise FolderError(f"cannot write to --out {config['out'] or 'runs/'}: {error.strerror}") from None
        return folder

    def claim(self):
        """Keeps other processes from training here until `release`, and clears up after one that was killed.

        Raises:
            FolderError: where another trains here now, or the folder cannot be written.
        """
        try:
            self.lock = Lock(self.path)
        except Locked as holder:
            raise FolderError(
                f"{self.path} is in use, {holder} trains there: wait, stop it, or name another --out"
            ) from None
        except OSError as error:
            raise FolderError(f"cannot write to {self.path}: {error.strerror}") from None
        for path in self.path.glob("*.part"):
            if HALF.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def release(self):
        if self.lock is not None:
            self.lock.release()

    @classmethod
    def open(cls, path):
        """Return (folder, config) of a run that was started before.

        Raises:
            FolderError: where there is no such run, or its config.json is not one that a run writes.
        """
        folder = cls(path)
        try:
            config = json.loads((folder.path / "config.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise FolderError(f"no run in {path}: it has no config.json") from None
        except (OSError, ValueError, RecursionError) as error:
            raise FolderError(f"{folder.path / 'config.json'} cannot be read: {error}") from None
        try:
            return folder, saved.read(config)
        except SpecError as error:
            raise FolderError(f"{folder.path / 'config.json'} is not the config.json of a run: {error}") from None

    def write_text(self, name, text):
        with atomic.writing(self.path / name) as file:
            file.write(text.encode(errors="backslashreplace"))  # a file's name need be no text

    def write(self, name, content):
        """A JSON file that any reader takes: numbers that are not finite are null there."""
        self.write_text(name, json.dumps(strict(content), indent=2, allow_nan=False) + "\n")

    def save(self, state, metrics):
        """The state after an epoch: first the checkpoint, which holds the metrics too, then metrics.jsonl."""
        save_checkpoint(self.path / "checkpoint.pt", state | {"metrics": metrics})
        self.write_metrics(metrics)

    def write_metrics(self, metrics):
        self.write_text("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in metrics))

    def load(self, device):
        """The last saved state, or None before the first."""
        path = self.path / "checkpoint.pt"
        return load_checkpoint(path, device) if path.exists() else None

    def measures(self, checkpoint):
        """{prior: {measure: its figures}} of results.json, those of the checkpoint with that digest."""
        try:
            results = Results.read(self.path)
        except FolderError:  # nothing there, or nothing of ours
            return {}
        return {prior: figures for prior in results.priors if (figures := results.measures(prior, checkpoint))}

    def write_arrays(self, name, **arrays):
        """A .npz file."""
        with atomic.writing(self.path / name) as file:
            numpy.savez(file, **arrays)

    def save_figure(self, name, figure):
        with atomic.writing(self.path / name) as file:
            figure.savefig(file, dpi=200, format="png")


class Reader(Folder):
    """The folder as those of several processes have it that leave the writing to one."""

    def write_text(self, name, text):
        pass

    def save(self, state, metrics):
        pass

    def write_arrays(self, name, **arrays):
        pass

    def save_figure(self, name, figure):
        pass


def strict(content):
    """As JSON may hold it.

    >>> strict({"mean": float("-inf"), "shares": (0.5, float("nan"))})
    {'mean': None, 'shares': [0.5, None]}
    """
    if isinstance(content, dict):
        return {name: strict(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


NAMED = ("dataset", "model", "prior", "flow")  # settings that every folder's name says, and in which order


# Settings that do not change what is trained, or that the name says last.
UNNAMED = (*WHERE, "samples", "test_images", "seed")


WORDS = ("net", "likelihood", "posterior", "condition", "objective", "optimizer", "activation")  # values that are clear


LONGEST_NAME = 200  # bytes, of the 255 that most file systems allow


def folder_name(config: dict) -> str:
    """Return the name of a run's default folder: every setting that changes what is trained and is not the default.

    >>> folder_name(DEFAULTS)
    'mnist5k_vae_standard_none_seed0'
    >>> folder_name(DEFAULTS | {"prior": "vamp:50", "likelihood": "normal", "hidden": [500, 500], "beta": 4.0})
    'mnist5k_vae_vamp-50_none_hidden500-500_normal_beta4_seed0'
    """
    parts = [Path(config["dataset"]).stem, *(config[name] for name in NAMED[1:])]
    usual = DEFAULTS | {"objective": resolve_objective(DEFAULTS["objective"], config["posterior"])}
    for name, value in usual.items():
        if name not in (*NAMED, *UNNAMED) and config[name] != value:
            value = f"{config[name]:g}" if isinstance(value, float) else written(config[name])
            key = "" if name in WORDS else name.replace("_", "-") + "-" * (not value[:1].isdigit())
            parts.append(key + value)
    name = re.sub(r"[:,/]", "-", "_".join(parts))
    end = f"_seed{config['seed']}"
    return os.fsdecode(os.fsencode(name)[: LONGEST_NAME - len(end)]) + end


def _new_folder(config):
    """A folder under runs/ that no other run has, made."""
    first = Path("runs") / folder_name(config)
    number = 1
    while True:
        path = first if number == 1 else first.with_name(f"{first.name}_{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if not path.is_dir():
                raise
            number += 1
