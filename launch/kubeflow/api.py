"""The calls of the Kubeflow Pipelines API (v2beta1) that are used here, through kfp's generated client."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from ...components.common.cli import BadInput
from .access import Access, find_cookie, find_header, find_host, find_namespace, find_token, find_ui
from .errors import Away, NotFound, not_kfp, refused, unreachable

SECONDS_FOR_THE_CHECK = (3, 8)
"""To connect, and to answer."""
SECONDS_PER_CALL = (5, 60)
SECONDS_FOR_A_LOG = (5, 15)
PATIENCE = 15.0
"""Seconds for which a call that changes nothing is repeated while the API is away."""

LARGEST_PAGE = 200
SINGLE_USER_NAMESPACE = "kubeflow"
"""Where the manifests install Kubeflow Pipelines for one user."""


class Api:
    """The API of one installation, signed in.

    Attributes:
        host: Its URL.
        ui: URL of its UI; empty if unknown: the API server itself shows no pages.
    """

    def __init__(self, access: Access) -> None:
        """Connect, and make sure within 15 seconds that the host is the API.

        Raises:
            BadInput: it is not, or wants another sign-in, or the options cannot be.
            Away: nothing answers there.
        """
        self.host = find_host(access)
        self._client = _client(self.host, access)
        told = self._health()
        if "multi_user" not in told:
            if told.get("apiServerReady") is False:
                raise Away(f"{self.host}: the UI answers, its Kubeflow Pipelines API does not; try again later")
            raise not_kfp(self.host, json.dumps(told))
        self._behind_ui = "apiServerReady" in told
        self._several_users = bool(told["multi_user"])
        self._given_namespace = find_namespace(access)
        self.ui = find_ui(access) or (self.host if self._behind_ui else "")

    @property
    def namespace(self) -> str:
        """Namespace of the caller's runs; empty in an installation with one user.

        Raises:
            BadInput: the installation has several users, and none is given.
        """
        if not self._several_users:
            return ""
        if self._given_namespace:
            return self._given_namespace
        raise BadInput(
            "--kfp-namespace: expected the namespace of your Kubeflow profile, as this installation has several "
            "users, received none; --namespace is that of the endpoint"
        )

    def namespace_of(self, run: Any) -> str:
        """Namespace of the pods of a run, as far as the API tells it now."""
        from kfp_server_api import ExperimentServiceApi

        if self._several_users:
            service = ExperimentServiceApi(self._client)
            with suppress(Away, BadInput):
                return str(self._call(service.experiment_service_get_experiment, run.experiment_id).namespace)
        return self._given_namespace or SINGLE_USER_NAMESPACE

    def link(self, run_id: str) -> str:
        """URL of a run's page; empty if no UI is known."""
        return f"{self.ui}/#/runs/details/{run_id}" if self.ui else ""

    def experiment(self, name: str, create: bool = False) -> str:
        """ID of an experiment.

        Raises:
            NotFound: there is none of this name, and `create` is not set.
        """
        from kfp_server_api import ExperimentServiceApi, V2beta1Experiment

        service = ExperimentServiceApi(self._client)
        where: dict[str, Any] = {"namespace": self.namespace} if self.namespace else {}

        def find() -> str | None:
            listed = self.read(service.experiment_service_list_experiments, filter=_named(name), **where)
            return listed.experiments[0].experiment_id if listed.experiments else None

        if found := find():
            return found
        if not create:
            raise NotFound(f"--experiment: {self.host} has no experiment {name!r}; check the name")
        try:
            made = self._call(
                service.experiment_service_create_experiment, V2beta1Experiment(display_name=name, **where)
            )
            return str(made.experiment_id)
        except (BadInput, Away):
            if found := find():  # someone else made it in between, or the answer was lost
                return found
            raise

    def create_run(self, **fields: Any) -> str:
        """Start a run; its ID.

        Raises:
            Away: no answer came: the run may have been started all the same.
        """
        from kfp_server_api import RunServiceApi, V2beta1Run

        made = self._call(RunServiceApi(self._client).run_service_create_run, V2beta1Run(**fields))
        if not made.run_id:
            raise Away(f"{self.host}: expected the ID of a run, received none; try again later")
        return str(made.run_id)

    def run(self, run_id: str, patience: float = PATIENCE) -> Any:
        """A run with the states of its tasks."""
        from kfp_server_api import RunServiceApi

        return self.read(RunServiceApi(self._client).run_service_get_run, run_id, patience=patience)

    def runs(self, count: int, experiment: str = "", name: str = "", part: str = "") -> list[Any]:
        """The newest runs that are not archived.

        Args:
            count: At most so many, up to LARGEST_PAGE.
            experiment: ID, of this experiment alone.
            name: With this name.
            part: With this in their name.
        """
        from kfp_server_api import RunServiceApi

        listed = self.read(
            RunServiceApi(self._client).run_service_list_runs,
            **self._newest(experiment, count, _named(name, part, archived=False)),
        )
        return list(listed.runs or [])

    def terminate(self, run_id: str) -> None:
        """Ask for the end of a run."""
        from kfp_server_api import RunServiceApi

        self._call(RunServiceApi(self._client).run_service_terminate_run, run_id)

    def retry(self, run_id: str) -> None:
        """Run the failed steps of a run again."""
        from kfp_server_api import RunServiceApi

        self._call(RunServiceApi(self._client).run_service_retry_run, run_id)

    def create_schedule(self, **fields: Any) -> str:
        """Create a recurring run; its ID.

        Raises:
            Away: no answer came: it may have been created all the same.
        """
        from kfp_server_api import RecurringRunServiceApi, V2beta1RecurringRun

        service = RecurringRunServiceApi(self._client)
        made = self._call(service.recurring_run_service_create_recurring_run, V2beta1RecurringRun(**fields))
        return str(made.recurring_run_id)

    def schedules(self, experiment: str = "", name: str = "") -> list[Any]:
        """The recurring runs, the newest first; with `experiment` (an ID) and `name` only such."""
        from kfp_server_api import RecurringRunServiceApi

        listed = self.read(
            RecurringRunServiceApi(self._client).recurring_run_service_list_recurring_runs,
            **self._newest(experiment, LARGEST_PAGE, _named(name)),
        )
        return list(listed.recurring_runs or [])

    def change_schedule(self, schedule_id: str, change: str) -> None:
        """`change`: enable, disable or delete a recurring run."""
        from kfp_server_api import RecurringRunServiceApi

        service = RecurringRunServiceApi(self._client)
        self._call(getattr(service, f"recurring_run_service_{change}_recurring_run"), schedule_id)

    def log(self, run_id: str, pod: str, namespace: str) -> str:
        """What a step's pod wrote, as far as the API or its UI still has it; empty otherwise."""
        path = f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log"
        if self._behind_ui:
            path = f"/k8s/pod/logs?podname={pod}&runid={run_id}&podnamespace={namespace}"
        with suppress(Away, BadInput):
            options = {**_PLAIN, "_request_timeout": SECONDS_FOR_A_LOG}
            text = str(self._call(self._client.call_api, path, "GET", response_type="str", **options))
            return "" if text.startswith(('{"error_message"', "<")) else text
        return ""

    def read(self, call: Callable[..., Any], *args: Any, patience: float = PATIENCE, **options: Any) -> Any:
        """Ask for something, again and again while the API is away, for `patience` seconds."""
        until = time.monotonic() + patience
        while True:
            try:
                return self._call(call, *args, **options)
            except Away:
                if time.monotonic() >= until:
                    raise
            time.sleep(1)

    def _newest(self, experiment: str, count: int, chosen: str) -> dict[str, Any]:
        """The arguments of a call that lists."""
        where = {"experiment_id": experiment} if experiment else {"namespace": self.namespace}
        options = {"sort_by": "created_at desc", "page_size": count, "filter": chosen, **where}
        return {name: value for name, value in options.items() if value}

    def _health(self) -> dict[str, Any]:
        path, options = "/apis/v2beta1/healthz", {**_PLAIN, "_request_timeout": SECONDS_FOR_THE_CHECK}
        try:
            told = self._call(self._client.call_api, path, "GET", response_type="object", **options)
        except NotFound as error:  # the 404 of another API
            raise not_kfp(self.host, str(error)) from None
        assert isinstance(told, dict)
        return told

    def _call(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return call(*args, **{"_request_timeout": SECONDS_PER_CALL, **options})
        except UnicodeError:
            raise not_kfp(self.host, "bytes that are no text") from None


_PLAIN: dict[str, Any] = {"auth_settings": ["Bearer"], "_return_http_data_only": True}


def _client(host: str, access: Access) -> Any:
    """kfp's generated client with our sign-in, our failures and no retries of its own."""
    import kfp_server_api
    import urllib3

    class Client(kfp_server_api.ApiClient):  # type: ignore[misc]
        def request(self, *args: Any, **options: Any) -> Any:
            try:
                return super().request(*args, **options)
            except kfp_server_api.ApiException as error:
                if not error.status:  # what it makes of an SSLError
                    raise unreachable(host, error) from None
                body = (error.body or b"").decode(errors="replace")
                headers = {name.lower(): value for name, value in (error.headers or {}).items()}
                raise refused(host, error.status, error.reason or "", body, headers) from None
            except urllib3.exceptions.HTTPError as error:
                raise unreachable(host, error) from None

        def deserialize(self, response: Any, response_type: Any) -> Any:
            if response_type == "str":
                return response.data
            try:
                told = json.loads(response.data)
            except ValueError:
                told = None
            if not isinstance(told, dict):
                raise not_kfp(host, response.data)
            return super().deserialize(response, response_type)

    configuration = kfp_server_api.Configuration(host=host)
    configuration.retries = False
    configuration.ssl_ca_cert = access.ca_file or None
    if read_token := find_token(access):

        def refresh(configuration: Any) -> None:
            configuration.api_key["authorization"] = read_token()

        configuration.api_key_prefix["authorization"] = "Bearer"
        refresh(configuration)
        configuration.refresh_api_key_hook = refresh
    name, value = find_header() or (None, None)
    return Client(configuration, header_name=name, header_value=value, cookie=find_cookie(access) or None)


def _named(name: str = "", part: str = "", archived: bool = True) -> str:
    """A filter of the API, which decodes it once more than HTTP does."""
    predicates = []
    if name:
        predicates.append({"operation": "EQUALS", "key": "display_name", "string_value": name})
    if part:
        predicates.append({"operation": "IS_SUBSTRING", "key": "display_name", "string_value": part})
    if not archived:
        predicates.append({"operation": "NOT_EQUALS", "key": "storage_state", "string_value": "ARCHIVED"})
    return quote(json.dumps({"predicates": predicates})) if predicates else ""
