"""Send a pipeline to a cluster: start a run of it, once, or have it run on a schedule."""

import datetime
import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...components.common.cli import BadInput, say
from .api import Api
from .errors import Away
from .tasks import ENDED

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


def submit(
    api: Api,
    pipeline: "GraphComponent",
    parameters: dict[str, Any],
    experiment: str,
    another: bool = False,
    service_account: str = "",
) -> str:
    """Start a run; its ID.

    A run of the same pipeline with the same parameters that has not ended is taken up, not started twice: so a
    submission whose answer was lost can be repeated.

    Args:
        experiment: Name; created if there is none.
        another: Start one even so.
        service_account: Kubernetes service account of the run's pods; empty: the installation's default.

    Raises:
        BadInput: the API refuses the pipeline, its parameters or the caller.
        Away: no answer came, and no run is there.
    """
    spec = _compiled(pipeline)
    where = api.experiment(experiment, create=True)
    digest = hashlib.sha256(json.dumps([spec, parameters], sort_keys=True).encode()).hexdigest()[:8]
    if not another:
        for run in api.runs(20, where, part=digest):
            if run.state not in ENDED:
                say("submit", f"run {run.run_id} of the same pipeline and parameters has not ended: following it")
                return str(run.run_id)
    name = f"{pipeline.name} {datetime.datetime.now():%Y-%m-%d %H-%M-%S} {digest}"
    try:
        return api.create_run(
            experiment_id=where,
            display_name=name,
            pipeline_spec=spec,
            runtime_config={"parameters": parameters},
            service_account=service_account or None,
        )
    except Away as lost:
        return _find_lost(api, where, name, lost)


def _find_lost(api: Api, experiment: str, name: str, lost: Away) -> str:
    """ID of a run that was started though the answer was lost."""
    say("submit", "no answer to the submission; checking whether the run was started")
    try:
        found = api.runs(1, experiment, name=name)
    except Away:
        found = []
    if found:
        return str(found[0].run_id)
    raise Away(
        f"{str(lost).rpartition(';')[0]}; no run is seen yet. Submit again: a run that was started all the same "
        "is taken up, not started twice"
    ) from None


def create_schedule(
    api: Api,
    pipeline: "GraphComponent",
    parameters: dict[str, Any],
    experiment: str,
    name: str,
    trigger: dict[str, Any],
    service_account: str = "",
) -> str:
    """Have a pipeline run again and again; the schedule's ID.

    One run at a time; what was missed while it was paused or the cluster was down is not made up for.

    Args:
        trigger: `cron_trigger` or `interval_trigger`.

    Raises:
        BadInput: the experiment has a schedule of this name, or the API refuses it.
    """
    spec = _compiled(pipeline)
    where = api.experiment(experiment, create=True)
    if api.schedules(where, name):
        raise BadInput(f"--name: {experiment} has a schedule {name!r} already; delete it, or choose another name")
    try:
        return api.create_schedule(
            experiment_id=where,
            display_name=name,
            pipeline_spec=spec,
            runtime_config={"parameters": parameters},
            service_account=service_account or None,
            trigger=trigger,
            max_concurrency="1",
            no_catchup=True,
            mode="ENABLE",
        )
    except Away:
        if found := api.schedules(where, name):  # only the answer was lost
            return str(found[0].recurring_run_id)
        raise


def cron_trigger(cron: str) -> dict[str, Any]:
    """A trigger by a cron expression: five fields as in crontab, or six, as Kubeflow has them, with seconds first.

    Raises:
        BadInput: it has another number of fields.
    """
    fields = cron.split()
    if len(fields) == 5:
        fields = ["0", *fields]  # Kubeflow would take the minutes for seconds
    if len(fields) != 6 and not cron.startswith("@"):
        raise BadInput(f"--cron: expected 5 fields (or 6 with seconds), received {cron!r}; e.g. '0 6 * * 1-5'")
    return {"cron_schedule": {"cron": " ".join(fields)}}


def interval_trigger(interval: str) -> dict[str, Any]:
    """A trigger each so many seconds, minutes, hours or days: `90m`.

    Raises:
        BadInput: it is not such an interval.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = interval[:-1], interval[-1:]
    if not number.isdigit() or not int(number) or unit not in units:
        raise BadInput(f"--every: expected a number with s, m, h or d, received {interval!r}; e.g. 6h")
    return {"periodic_schedule": {"interval_second": str(int(number) * units[unit])}}


def _compiled(pipeline: "GraphComponent") -> dict[str, Any]:
    """The pipeline as the API takes it."""
    import yaml
    from kfp.compiler import Compiler

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "pipeline.yaml"
        Compiler().compile(pipeline, str(path))
        specs = list(yaml.load_all(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return specs[0] if len(specs) == 1 else {"pipeline_spec": specs[0], "platform_spec": specs[1]}
