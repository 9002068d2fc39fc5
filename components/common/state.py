"""Where the servers of this machine (object store, model servers) keep their state."""

import os
from pathlib import Path


def state_folder() -> Path:
    """The folder in TRAINYARD_HOME; `.trainyard` in the working directory when that is unset or empty."""
    return Path(os.environ.get("TRAINYARD_HOME") or ".trainyard")
