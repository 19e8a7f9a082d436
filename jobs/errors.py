"""What a person can mend: a line says it, and no traceback."""

from capacity import CapacityError
from data import DataError
from inference.checkpoint import CheckpointError
from inference.processes import ProcessError
from jobs.folder import FolderError
from jobs.machine import DeviceError
from specs import SpecError

INPUT_ERRORS = (SpecError, CapacityError, DataError, FolderError, CheckpointError, DeviceError, ProcessError)
