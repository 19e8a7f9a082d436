"""A run's folder: what lies in it and how it is written."""

import json
from pathlib import Path

import numpy

from data import atomic
from inference.checkpoint import load_checkpoint, save_checkpoint


class FolderError(ValueError):
    """A folder that cannot hold this run."""


class Folder:
    """config.json, metrics.jsonl (a line an epoch), checkpoint.pt, results.json, scores.npz (image by image), figures.

    Every file is written under a temporary name and renamed: it is whole, or the one before.
    """

    def __init__(self, path):
        self.path = Path(path)

    @classmethod
    def create(cls, config):
        """A new folder for a run: `config["out"]`, or one under runs/ named after the run.

        Raises:
            FolderError: where it holds a run already or cannot be written.
        """
        try:
            if config["out"] is not None:
                folder = cls(config["out"])
                folder.path.mkdir(parents=True, exist_ok=True)
                if (folder.path / "config.json").exists():
                    raise FolderError(
                        f"{folder.path} holds a run already; continue it with --resume {folder.path}, "
                        "or name another --out"
                    )
            else:
                folder = cls(_new_folder(config))
            folder.write("config.json", config)
        except OSError as error:
            raise FolderError(f"cannot write to --out {config['out'] or 'runs/'}: {error.strerror}") from None
        return folder

    @classmethod
    def open(cls, path, settings):
        """(folder, config) of a run that was started before; its config must have every one of `settings`.

        Raises:
            FolderError: where there is no such run.
        """
        folder = cls(path)
        try:
            config = json.loads((folder.path / "config.json").read_text())
        except FileNotFoundError:
            raise FolderError(f"no run in {path}: it has no config.json") from None
        except (OSError, ValueError) as error:
            raise FolderError(f"{folder.path / 'config.json'} cannot be read: {error}") from None
        missing = [name for name in settings if name not in config] if isinstance(config, dict) else list(settings)
        if missing:
            raise FolderError(f"{folder.path / 'config.json'} is no run's: it lacks {', '.join(missing[:3])}")
        return folder, config

    def write_text(self, name, text):
        with atomic.writing(self.path / name) as file:
            file.write(text.encode())

    def write(self, name, content):
        """A JSON file."""
        self.write_text(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

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


def _new_folder(config):
    """A folder under runs/ that no other run has, made."""
    parts = [Path(config["dataset"]).stem, config["model"], config["prior"], config["flow"]]
    parts += [] if config["condition"] == "none" else [f"given-{config['condition']}"]
    parts += [f"seed{config['seed']}"]
    first = Path("runs") / "_".join(parts).replace(":", "-")
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
