"""Programs on disk: `save` and `load`, also of a run's folder; no code is stored or executed."""

import json
import os
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vampyro.catalogue.assemble import Recipe, assemble
from vampyro.catalogue.parts import UnknownParts, check_recorded, known, row_of
from vampyro.catalogue.specs import parse
from vampyro.errors import CapacityError, SpecError, quote
from vampyro.files import writing
from vampyro.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, weight_faults
from vampyro.training.checkpoint_state import check_state

HAND_BUILT = "by hand"  # what config.json says of programs that `assemble` did not make


def save(folder: str | os.PathLike[str], model: nn.Module, guide: nn.Module) -> None:
    """Write a pair of programs to config.json and checkpoint.pt in the folder, which `load` reads.

    Args:
        folder: made where it is missing; it must not be that of a training run.
        model, guide: modules. What of the guide the prior borrows is stored once.

    Raises:
        CheckpointError: where the folder holds a training run.
        OSError: where it cannot be written.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> save(folder, *assemble(prior="vamp:5", hidden=(8,), latent=2, shape=(1, 4, 4)))
    >>> load(folder)[0].prior
    VampPrior(5 pseudo-inputs of 1×4×4)
    """
    path = Path(folder)
    if (path / "metrics.jsonl").exists():
        raise CheckpointError(f"{path} holds a training run, which has saved its programs: choose another folder")
    recipe = vars(model).get("recipe")
    config = recipe.to_json() if isinstance(recipe, Recipe) else {"programs": HAND_BUILT}
    with writing(path / "config.json") as file:
        file.write((json.dumps(config, indent=2) + "\n").encode())
    save_checkpoint(path / "checkpoint.pt", {"weights": nn.ModuleList([model, guide]).state_dict()})


def load(
    folder: str | os.PathLike[str],
    into: tuple[nn.Module, nn.Module] | None = None,
    parts: Any = None,
    contents: bytes | None = None,
) -> tuple[nn.Module, nn.Module]:
    """The trained (model, guide) that `save` wrote, or of a run's folder its best epoch so far; in evaluation mode.

    Args:
        folder: with config.json and checkpoint.pt.
        into: programs that take the weights, for those that were built by hand.
        parts: of your own, which the programs are made of, as `assemble` takes them. A file that config.json names is
            not executed unless it is given here.
        contents: the bytes of the checkpoint, where they have been read.

    Raises:
        FileNotFoundError: where the folder holds no config.json.
        CheckpointError: where config.json or the checkpoint cannot be read, or they do not belong together.
        SpecError, CapacityError: as `assemble`.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json, expected a folder of `save` or of a run (its --out)")
    with known(parts):
        programs = _assembled(path, warn=parts is not None) if into is None else into
    state = load_checkpoint(path.with_name("checkpoint.pt"), contents=contents)
    _take(state, nn.ModuleList(programs), path.with_name("checkpoint.pt"))
    return programs[0].eval(), programs[1].eval()


def _assembled(path: Path, warn: bool) -> tuple[nn.Module, nn.Module]:
    """The programs of a config.json, with other weights."""
    try:
        config = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise TypeError(f"expected an object, got {quote(config)}")
        if config.get("programs") == HAND_BUILT:
            raise CheckpointError(
                f"{path.parent} holds programs that were built by hand: build them again, and write "
                "load(folder, into=(model, guide))"
            )
        file, digest = config.get("parts"), config.get("parts_sha256")
        if (changed := check_recorded(file, digest, path.parent, f"parts={file!r}")) and warn:
            warnings.warn(changed, stacklevel=3)
        own = ("parts", "parts_sha256")
        arguments = {field.name: config[field.name] for field in fields(Recipe) if field.name not in own}
        inputs, *_ = row_of("condition", parse("condition", config["condition"]).name).builder()(
            tuple(config["shape"]), config["classes"], None
        )
        # For a prior that starts from data, until the checkpoint's weights replace them.
        count = parse("prior", config["prior"]).n or 0
        return assemble(**arguments, images=lambda: torch.zeros(count, *inputs))
    except KeyError as error:
        raise CheckpointError(f"{path} is not the config.json of a run: it lacks {error}") from None
    except UnknownParts:
        raise
    except (SpecError, CapacityError) as error:
        raise type(error)(f"{path}: {error}") from None
    except CheckpointError:
        raise
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not the config.json of a run: {error}") from None


def _take(state: Any, program: nn.Module, source: Path) -> None:
    """Put the weights of a checkpoint into the programs.

    Raises:
        CheckpointError: names the weights that do not fit.
    """
    if isinstance(state, dict) and state.keys() == {"weights"}:
        if faults := weight_faults(program.state_dict(), state["weights"]):
            more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise CheckpointError(f"{source} does not fit these programs: {', '.join(faults[:3])}{more}")
        program.load_state_dict(state["weights"])
    else:
        program.load_state_dict(check_state(state, program, source)["best"]["weights"])
