"""Read the settings, metrics and results of a run from its folder. Imports no torch."""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any

import numpy

from vampyro.catalogue.parts import UnknownParts, check_recorded
from vampyro.errors import SpecError, UserError, quote
from vampyro.runs.config import RunConfig


class FolderError(UserError):
    """The folder cannot be used for a run, or does not contain a readable run."""


@dataclass(frozen=True)
class Results:
    """The contents of the files of a run.

    Attributes:
        folder: the folder of the run.
        config: config.json, checked like a command line.
        epochs: the lines of metrics.jsonl, one dictionary for each complete epoch.
        content: results.json; empty before the run is finished.
    """

    folder: Path
    config: RunConfig
    epochs: list[dict[str, Any]] = field(default_factory=list)
    content: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> "Results":
        """Read the folder of a run, which may still be in training.

        Raises:
            FolderError: if the folder contains no run, or a damaged file, which the message names.
        """
        folder = Path(folder)
        return cls(folder, read_config(folder), read_epochs(folder), read_content(folder))

    @property
    def finished(self) -> bool:
        """Whether the run has been trained and scored."""
        return "test" in self.content

    @property
    def test(self) -> dict[str, Any]:
        """The metrics of the test images, such as log_likelihood and elbo; FolderError before the run is finished."""
        return self._finished("test")

    @property
    def fit(self) -> dict[str, Any]:
        """Facts about the training: epochs, best_epoch, seconds; FolderError before the run is finished."""
        return self._finished("fit")

    def _finished(self, name: str) -> dict[str, Any]:
        if not self.finished:
            raise FolderError(f"{self.folder} is not finished: resume it with --resume {self.folder}")
        return self.content[name]

    @property
    def scored_config(self) -> dict[str, Any]:
        """The settings of the test results; `config` differs if the run was resumed after they were computed."""
        return self.content.get("config", {})

    @property
    def best_epoch(self) -> dict[str, Any]:
        """The metrics of the epoch whose weights were scored; empty without them."""
        return next((line for line in self.epochs if line["epoch"] == self.fit["best_epoch"]), {})

    @property
    def remarks(self) -> list[str]:
        """Sentences that describe problems of the run."""
        return [str(remark) for remark in self.content.get("remarks", [])]

    def measures(self, prior: str = "own") -> dict[str, dict[str, Any]]:
        """Return {name of a measure: its metrics} for a prior, {} without measures."""
        return self.content.get("measures", {}).get(prior, {})

    def scores(self) -> dict[str, numpy.ndarray]:
        """Return the arrays of scores.npz for each image: log_likelihood, elbo, ess, pareto_k, index."""
        path = self.folder / "scores.npz"
        try:
            with numpy.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except Exception as error:  # zipfile, zlib and numpy raise many types of errors for a damaged file
            raise FolderError(f"{path} cannot be read: {error}") from None


def read_config(folder: str | Path) -> RunConfig:
    """Return the settings in config.json; raise a FolderError if it is missing or invalid."""
    folder = Path(folder)
    path = folder / "config.json"
    try:
        content = _read(path, json.loads)
        if isinstance(content, dict):
            check_parts(content, folder)
        return RunConfig.from_dict(content)
    except (FileNotFoundError, NotADirectoryError):
        raise FolderError(f"no run in {folder}: it has no config.json") from None
    except UnknownParts as error:
        raise FolderError(str(error)) from None
    except SpecError as error:
        raise FolderError(f"{path} is not the config.json of a run: {error}") from None


@cache
def warn_once(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def check_parts(content: dict[str, Any], folder: Path) -> None:
    """Check that the user-defined parts of a run are loaded, and warn once if they have changed."""
    file = content.get("parts")
    if not isinstance(file, (str, NoneType)):
        raise SpecError(f"parts: expected text, got {quote(file)}")
    if changed := check_recorded(file, content.get("parts_sha256"), folder, f"--parts {file}"):
        warn_once(changed)


def read_epochs(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    try:
        lines = _read(path, lambda text: [json.loads(line) for line in text.splitlines()])
    except FileNotFoundError:
        return []
    if not all(isinstance(line, dict) and isinstance(line.get("epoch"), int) for line in lines):
        raise FolderError(f"{path} is not the metrics.jsonl of a run: expected an object with an epoch in each line")
    return lines


# {table in results.json: {entry of every run: its types}}; null stands for -inf.
REQUIRED: dict[str, dict[str, Any]] = {
    "test": {"log_likelihood": (int, float, NoneType), "elbo": (int, float, NoneType)},
    "fit": {"epochs": int, "best_epoch": int, "seconds": (int, float)},
}


def read_content(folder: Path) -> dict[str, Any]:
    """Return the contents of results.json, {} without the file. Before a run is finished it may contain only measures.

    Raises:
        FolderError: if the file is not the results.json of a run.
    """
    path = folder / "results.json"
    try:
        content = _read(path, json.loads)
    except FileNotFoundError:
        return {}
    with suppress(TypeError, AttributeError, LookupError):
        tables = [content[name] for name in ("config", "measures") if name in content]
        entries = [(content[table], REQUIRED[table]) for table in REQUIRED.keys() & content.keys()]
        measured = [it for found in content.get("measures", {}).values() for it in found.values()]
        if (
            ("test" in content) == ("fit" in content)
            and all(isinstance(found[key], kind) for found, kinds in entries for key, kind in kinds.items())
            and all(isinstance(table, dict) for table in [*tables, *(it["settings"] for it in measured)])
            and isinstance(content.get("remarks", []), list)
        ):
            return content
    raise FolderError(f"{path} is not the results.json of a run: delete it, and resume the run to score it again")


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise FolderError(f"{path} cannot be read: {error}") from None
