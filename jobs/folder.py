"""A run's folder: what lies in it and how it is written."""

import json
import os
from pathlib import Path

from inference.checkpoint import load_checkpoint, save_checkpoint


class FolderError(ValueError):
    """A folder that cannot hold this run."""


class Folder:
    """config.json, metrics.jsonl (a line an epoch), checkpoint.pt, results.json, and the figures."""

    def __init__(self, path):
        self.path = Path(path)

    @classmethod
    def create(cls, config):
        """A new folder for a run: `config["out"]`, or one under runs/ named after the run.

        Raises:
            FolderError: where it holds a run already or cannot be written.
        """
        if config["out"] is not None:
            path = Path(config["out"])
            if (path / "config.json").exists():
                raise FolderError(
                    f"{path} holds a run already; continue it with --resume {path}, or name another --out"
                )
        else:
            name = "_".join(
                [
                    Path(config["dataset"]).stem,
                    config["model"],
                    config["prior"],
                    config["flow"],
                    f"seed{config['seed']}",
                ]
            )
            path = first = Path("runs") / name.replace(":", "-")
            number = 1
            while path.exists():
                number += 1
                path = first.with_name(f"{first.name}_{number}")
        folder = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder.write("config.json", config)
        except OSError as error:
            raise FolderError(f"cannot write to --out {path}: {error.strerror}") from None
        return folder

    @classmethod
    def open(cls, path):
        """(folder, config) of a run that was started before.

        Raises:
            FolderError: where there is none.
        """
        folder = cls(path)
        try:
            config = json.loads((folder.path / "config.json").read_text())
        except FileNotFoundError:
            raise FolderError(f"no run to resume in {path}: it has no config.json") from None
        except (OSError, ValueError) as error:
            raise FolderError(f"{folder.path / 'config.json'} cannot be read: {error}") from None
        return folder, config

    def write(self, name, content):
        """A JSON file, whole or not at all."""
        temporary = self.path / (name + ".part")
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        os.replace(temporary, self.path / name)

    def metrics(self):
        """The epochs so far."""
        path = self.path / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def keep_metrics(self, until):
        """Drops lines past an epoch: those of a run that stopped between a line and its checkpoint."""
        lines = [json.dumps(line) + "\n" for line in self.metrics() if line["epoch"] <= until]
        (self.path / "metrics.jsonl").write_text("".join(lines))

    def append_metrics(self, line):
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save_checkpoint(self, state):
        save_checkpoint(self.path / "checkpoint.pt", state)

    def load_checkpoint(self, device):
        return load_checkpoint(self.path / "checkpoint.pt", device)

    def save_figure(self, name, figure):
        figure.savefig(self.path / name, dpi=200)
