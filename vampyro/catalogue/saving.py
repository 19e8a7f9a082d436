"""Programs on disk: `save` and `load`, also of a run's folder; no code is stored or executed."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vampyro.catalogue.assemble import PARTS, assemble, input_shape
from vampyro.catalogue.parts import UnknownParts, check_recorded, known
from vampyro.catalogue.specs import parse
from vampyro.errors import CapacityError, SpecError, quote
from vampyro.files import writing
from vampyro.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, weight_faults
from vampyro.training.checkpoint_state import check_state

HAND_BUILT = {"programs": "by hand"}  # the config.json of programs that `assemble` did not make


def save(folder: str | os.PathLike[str], model: nn.Module, guide: nn.Module) -> None:
    """Write a pair of programs to config.json and checkpoint.pt in the folder, which `load` reads.

    The folder is made where it is missing. Weights that model and guide share are stored once.

    Raises:
        CheckpointError: where the folder holds a training run.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> save(folder, *assemble(prior="vamp:5", hidden=(8,), latent=2, shape=(1, 4, 4)))
    >>> load(folder)[0].prior
    VampPrior(5 pseudo-inputs of 1×4×4)
    """
    path = Path(folder)
    if (path / "metrics.jsonl").exists():
        raise CheckpointError(f"{path} holds a training run, which has saved its programs: choose another folder")
    with writing(path / "config.json") as file:
        file.write((json.dumps(vars(model).get("recipe", HAND_BUILT), indent=2) + "\n").encode())
    save_checkpoint(path / "checkpoint.pt", {"weights": nn.ModuleList([model, guide]).state_dict()})


def load(
    folder: str | os.PathLike[str],
    into: tuple[nn.Module, nn.Module] | None = None,
    parts: Any = None,
    contents: bytes | None = None,
) -> tuple[nn.Module, nn.Module]:
    """The trained (model, guide) that `save` wrote, or the best epoch so far of a run's folder; in evaluation mode.

    Args:
        folder: with config.json and checkpoint.pt.
        into: programs that take the weights, for those that were built by hand.
        parts: rows of your own, as for `assemble`. A file that config.json names is executed only if it is given here.
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
    both, source = nn.ModuleList(programs), path.with_name("checkpoint.pt")
    state: Any = load_checkpoint(source, contents=contents)
    if isinstance(state, dict) and state.keys() == {"weights"}:
        weights = state["weights"]
        if faults := weight_faults(both.state_dict(), weights):
            more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise CheckpointError(f"{source} does not fit these programs: {', '.join(faults[:3])}{more}")
    else:
        weights = check_state(state, both, source)["best"]["weights"]
    both.load_state_dict(weights)
    return programs[0].eval(), programs[1].eval()


def _assembled(path: Path, warn: bool) -> tuple[nn.Module, nn.Module]:
    """The programs of a config.json, with random weights."""
    try:
        config = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise TypeError(f"expected an object, got {quote(config)}")
        if config.items() >= HAND_BUILT.items():
            raise CheckpointError(
                f"{path.parent} holds programs that were built by hand: build them again, and write "
                "load(folder, into=(model, guide))"
            )
        file, digest = config.get("parts"), config.get("parts_sha256")
        if (changed := check_recorded(file, digest, path.parent, f"parts={file!r}")) and warn:
            warnings.warn(changed, stacklevel=3)
        arguments = {name: config[name] for name in (*PARTS, "shape", "classes")}
        inputs = input_shape(parse("condition", config["condition"]).name, config["shape"], config["classes"])
        # For a prior that starts from data, until the checkpoint's weights replace them.
        count = parse("prior", config["prior"]).n or 0
        return assemble(**arguments, images=lambda: torch.zeros(count, *inputs))
    except (UnknownParts, CheckpointError):
        raise
    except KeyError as error:
        raise CheckpointError(f"{path} is not the config.json of a run: it lacks {error}") from None
    except (SpecError, CapacityError) as error:
        raise type(error)(f"{path}: {error}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not the config.json of a run: {error}") from None
