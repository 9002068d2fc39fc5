"""Talk to a prediction endpoint: TensorFlow Serving's REST over HTTP, with failures in plain words."""

import json
from http.client import HTTPException
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from ..common.cli import BadInput

_VERB = ":predict"


class EndpointError(RuntimeError):
    """The endpoint did not answer, or not with predictions. `status` is the HTTP status, 0 for no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class PredictionClient(Protocol):
    """What can be asked for predictions."""

    def predict(self, instances: list[Any]) -> list[Any]:
        """Class probabilities of images.

        Args:
            instances: Nested lists (height, width, channels) of numbers 0 to 255.

        Raises:
            EndpointError: it did not answer, or refused.
        """


class Endpoint:
    """A prediction endpoint, named by its predict URL."""

    def __init__(self, url: str, timeout: float = 30, host: str = "") -> None:
        """Args:
            url: http(s)://host[:port]/v1/models/<name>[/versions/<version>]:predict
            timeout: Seconds to wait for an answer.
            host: What to ask an ingress for, where the URL's own host leads to it; empty: the URL's.

        Raises:
            BadInput: it is no such URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.endswith(_VERB):
            raise BadInput(
                f"--endpoint: expected a predict URL, http://host:port/v1/models/NAME{_VERB}, received {url!r}; "
                "pass the URL that serve printed"
            )
        self.url = url
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
        self._local = parts.hostname in ("localhost", "127.0.0.1", "::1")  # never asked for through a proxy
        self._opener = build_opener(ProxyHandler({})) if self._local else build_opener()

    def predict(self, instances: list[Any]) -> list[Any]:
        """See `PredictionClient`."""
        return self.send(json.dumps({"instances": instances}).encode())

    def send(self, request: bytes) -> list[Any]:
        """The same with a request that is written already."""
        answer = self._call(self.url, request)
        try:
            return answer["predictions"]
        except (KeyError, TypeError):
            raise EndpointError(f"{self.url}: expected predictions, received {str(answer)[:200]}", 200) from None

    def available(self) -> bool:
        """Whether the version that the URL names is loaded, by TensorFlow Serving's word.

        Raises:
            EndpointError: it cannot be loaded.
        """
        try:
            told = self._call(self.url.removesuffix(_VERB))["model_version_status"][0]
            state, reason = told["state"], told["status"]["error_message"]
        except (EndpointError, LookupError, TypeError):  # it does not answer yet
            return False
        if state == "END":
            raise EndpointError(f"{self.url}: the version cannot be loaded ({reason})")
        return state == "AVAILABLE"

    def metadata(self) -> dict[str, Any]:
        """What the endpoint tells of the model: TensorFlow Serving's `model_spec` and `metadata`.

        Raises:
            EndpointError: it did not answer, or has no metadata.
        """
        return self._call(self.url.removesuffix(_VERB) + "/metadata")

    def _call(self, url: str, body: bytes | None = None) -> Any:
        request = Request(url, body, self._headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return json.load(response)
        except HTTPError as error:
            raise EndpointError(f"{url}: answered {error.code}: {_text(error)}", error.code) from None
        except (URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            reason = getattr(reason, "strerror", None) or reason or type(reason).__name__
            advice = "check that the model is served" + (", or trainyard serve start" if self._local else "")
            raise EndpointError(f"{url}: does not answer ({reason}); {advice}") from None
        except ValueError:
            raise EndpointError(f"{url}: expected JSON, received something else; pass a predict URL", 200) from None


def _text(error: HTTPError) -> str:
    """The text of an error answer: its `error` field, else its beginning."""
    content = error.read(10_000).decode("utf-8", "replace")
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return " ".join(content.split())[:200] or str(error.reason)
