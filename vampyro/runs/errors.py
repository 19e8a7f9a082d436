"""User errors: reported in one line, without a traceback."""

from vampyro.errors import DataError, SpecError
from vampyro.memory import CapacityError, MemoryShortage
from vampyro.runs.device import DeviceError
from vampyro.runs.results import FolderError
from vampyro.training.checkpoint import CheckpointError
from vampyro.training.distributed import ProcessError

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
