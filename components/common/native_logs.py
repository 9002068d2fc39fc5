"""Keep the start-up chatter of native libraries out of a step's log.

TensorFlow and LiteRT write lines to stderr before any log level of theirs applies. A step's last lines are what an
on-call person reads, so they must be its own.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def muted_native_logs() -> Iterator[None]:
    """Hold back everything written to stderr in the block; a failure in it lets all of it out."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
