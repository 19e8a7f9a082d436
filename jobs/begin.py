"""How a training run begins: new, where another stopped, or once more for the epoch that failed."""

from contextlib import suppress

from inference import diagnose
from inference.processes import Processes
from jobs.errors import INPUT_ERRORS
from jobs.folder import Folder, FolderError, Reader
from jobs.machine import find_device
from jobs.scoring import check_same
from jobs.training import Run


def start(config, given, resume):
    """A new run, or the one in the folder `resume` with what is `given` beside it.

    Raises:
        one of INPUT_ERRORS, each with what was given, what was expected and how to fix it.
    """
    if resume is None:
        processes = Processes.join(find_device(config["device"]))
        run = Run(config, processes)
        run.folder = _led(processes, lambda: Folder.create(run.config))
        return run
    folder, saved = Folder.open(resume)
    metrics = folder.path / "metrics.jsonl"  # empty where a run was stopped before its first epoch was whole
    if metrics.exists() and metrics.stat().st_size and not (folder.path / "checkpoint.pt").exists():
        raise FolderError(
            f"{folder.path} has trained, but its checkpoint.pt is missing: put it back, or train a new run"
        )
    config = saved | given
    device = find_device(config["device"])
    if device.type != saved["device"] and "engine" not in given:
        config["engine"] = "auto"  # the other's may not run here
    processes = Processes.join(device)
    run = Run(config, processes)
    if processes.leads and saved.get("processes", 1) != processes.size:
        print(f"begun in {saved.get('processes', 1)} processes and resumed in {processes.size}: its noise is another")
    check_same(run.images, saved, resume)
    folder = _led(processes, lambda: folder.claim() or folder)
    try:
        run.restore(folder)
    except Exception:
        folder.release()
        raise
    return run


def _led(processes, claim):
    """The folder that the leader claims, or the error why not, which every process should hear of."""
    try:
        folder = claim() if processes.leads else None
    except FolderError as error:
        folder = error
    shared = processes.shared(folder)
    if isinstance(shared, FolderError):
        raise shared
    return folder or Reader(shared.path)


def diagnosis(run):
    """What was first not finite in the epoch after the last whole one, or None where it is not found again."""

    def agree(found):
        return next(filter(None, run.processes.gathered(found)), None)

    with suppress(*INPUT_ERRORS):  # data that are gone, say: then nothing can be repeated
        again = Run(run.config | {"engine": "eager"}, run.processes)
        again.take_up(run.folder)
        return diagnose(**again.fitting(), agree=agree)
