"""The state of a training after its last whole epoch, so that a run that was killed goes on from there."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.artifacts import schema
from ..common.artifacts.model import Epoch
from ..common.files import atomic_file

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class TrainingState:
    """History so far, the values of every variable of model and optimizer, and those of the model at its best epoch."""

    history: list[Epoch]
    variables: list[np.ndarray]
    best: list[np.ndarray]


class Checkpoint:
    """One file beside a model folder that is still to come: `.<name>.checkpoint.npz`."""

    def __init__(self, output: Path, chief: bool = True, **identity: Any) -> None:
        """Name the checkpoint of an output.

        Args:
            output: The model folder to come.
            chief: Whether this process writes it; of several workers one does.
            identity: All that must be equal for a run to go on with it: hyper-parameters, data set.
        """
        self.path = output.with_name(f".{output.name}.checkpoint.npz")
        self._chief = chief
        self.identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def read(self) -> TrainingState | None:
        """What an earlier run left; None when there is nothing, it was another training's, or it is damaged."""
        import numpy as np

        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                told = json.loads(str(arrays["told"]))
                if told["identity"] != self.identity:
                    return None
                variables = [arrays[f"variable_{index}"] for index in range(told["variables"])]
                best = [arrays[f"best_{index}"] for index in range(told["best"])]
                return TrainingState(schema.from_json(list[Epoch], told["history"]), variables, best)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            return None

    def save(self, state: TrainingState) -> None:
        """Replace the checkpoint."""
        if not self._chief:
            return
        import numpy as np

        counts = {"variables": len(state.variables), "best": len(state.best)}
        told = json.dumps({"identity": self.identity, "history": schema.as_json(state.history), **counts})
        arrays: dict[str, Any] = {f"variable_{index}": value for index, value in enumerate(state.variables)}
        arrays |= {f"best_{index}": value for index, value in enumerate(state.best)}
        with atomic_file(self.path) as partial, partial.open("wb") as file:
            np.savez(file, told=np.array(told), **arrays)

    def remove(self) -> None:
        """Forget it: the model folder is written."""
        self.path.unlink(missing_ok=True)
