"""User errors: reported in one line, without a traceback."""

from capacity import CapacityError
from data import DataError
from inference.checkpoint import CheckpointError
from inference.processes import ProcessError
from jobs.folder import FolderError
from jobs.machine import DeviceError
from jobs.shortage import MemoryShortage
from specs import SpecError

INPUT_ERRORS = (
    SpecError,
    CapacityError,
    DataError,
    FolderError,
    CheckpointError,
    DeviceError,
    ProcessError,
    MemoryShortage,
)
