"""Import TensorFlow quickly and quietly."""

import gc
import os
import sys
from contextlib import suppress

from .native_logs import muted_native_logs
from .parallel import processors


def import_tensorflow() -> None:
    """Import TensorFlow without its talk, for as many threads as this container may use.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" not in sys.modules:
        gc.disable()  # an import makes objects by the million and no garbage
        try:
            with muted_native_logs():
                import tensorflow  # noqa: F401
            gc.freeze()  # once: what later loads find may be garbage
        finally:
            gc.enable()
    import tensorflow as tf

    with suppress(RuntimeError):  # it may be in use, by a notebook or an earlier model; then it stays as it is
        tf.config.threading.set_intra_op_parallelism_threads(processors())  # the container's, not the host's
