"""How a training run begins: new, where another stopped, or once more for the epoch that failed."""

from contextlib import suppress

from inference import diagnose
from jobs.errors import INPUT_ERRORS
from jobs.folder import Folder, FolderError, Reader
from jobs.machine import find_device, joined, recorded_products
from jobs.scoring import check_same
from jobs.training import Run


def start(config, given, resume):
    """A new run, or the one in the folder `resume` with what is `given` beside it.

    Raises:
        one of INPUT_ERRORS, each with what was given, what was expected and how to fix it.
    """
    if resume is None:
        processes = joined(find_device(config["device"]))
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
    if device.type != saved["device"]:
        config |= {name: "auto" for name in ("engine", "gemm") if name not in given}  # the other's may not run here
    elif "gemm" not in given:
        with recorded_products(saved["gemm"]) as config["gemm"]:
            pass
    processes = joined(device)
    run = Run(config, processes)
    if processes.leads:
        changes = [
            ("processes", "random numbers will differ"),
            ("threads", "the last digits will differ from those of an uninterrupted run"),
        ]
        for name, effect in changes:
            before = saved.get(name, run.config[name])
            if before != run.config[name]:
                print(f"warning: started with {before} {name}, resumed with {run.config[name]}; {effect}")
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
