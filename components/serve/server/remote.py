"""A model that another server holds, one that speaks TensorFlow Serving's REST."""

from __future__ import annotations

import time

import numpy as np
import orjson

from ...common.waiting import wait_for
from ..client import Endpoint, EndpointError
from .protocols.request import Refused

SECONDS_TO_WAKE = 60
"""For a container that has just been started again."""


class RemoteClassifier:
    """See `Classifier`: its answers come over HTTP."""

    backend = "TensorFlow Serving"

    def __init__(self, url: str) -> None:
        """Args:
            url: Predict URL of the version.

        Raises:
            EndpointError: it cannot be loaded there.
        """
        self._endpoint = Endpoint(url)
        wait_for(self._endpoint.available, time.monotonic() + SECONDS_TO_WAKE)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `Classifier.predict`.

        Raises:
            Refused: the other server does not answer, or refuses.
        """
        request = orjson.dumps({"instances": np.ascontiguousarray(images)}, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            return np.asarray(self._endpoint.send(request), np.float32)
        except EndpointError as error:
            raise Refused(error.status or 503, str(error)) from error
