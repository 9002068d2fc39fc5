"""The commands for runs and schedules on Kubeflow Pipelines."""

from pathlib import Path
from typing import Any

import click

from ...components.common.cli import SETTINGS, BadInput, StepGroup, say
from ...components.common.cli import command as plain_command
from ...components.common.options import section
from ..cluster import ON_A_CLUSTER, settings_options, to_submit
from ..parameters import parameter_options
from .access import Access, access_options

run_option = section("Run")
here_option = section("This machine")
experiment_option = run_option("--experiment", default="trainyard", help="Experiment that the runs belong to.")
wait_option = run_option("--wait", is_flag=True, help="Follow the run to its end; fail if it fails.")
wait_timeout_option = run_option(
    "--wait-timeout",
    type=click.IntRange(min=0),
    default=86_400,
    show_default=True,
    metavar="SECONDS",
    help="Seconds to wait; the run continues after that. 0: no limit.",
)
service_account_option = run_option(
    "--run-service-account",
    metavar="NAME",
    help="Kubernetes service account of the run's pods; empty: the installation's default.",
)
run_argument = click.argument("run", callback=lambda context, argument, run: run.rpartition("/")[2])
"""The ID of a run, or the link to its page."""


def _connect(access: Access) -> Any:
    from .api import Api

    return Api(access)


@plain_command
@experiment_option
@wait_option
@wait_timeout_option
@run_option("--another", is_flag=True, help="Start a run even if an equal one has not ended.")
@service_account_option
@access_options
@settings_options
@parameter_options(ON_A_CLUSTER)
def submit(
    experiment: str,
    wait: bool,
    wait_timeout: int,
    another: bool,
    access: Access,
    settings_file: Path | None,
    **given: Any,
) -> None:
    """Start a run on a Kubeflow Pipelines cluster and print its ID.

    A run of the same pipeline with the same parameters that has not ended is followed, not started twice.
    """
    from .submitting import submit as send

    sent = to_submit("submit", settings_file, given)
    api = _connect(access)
    run = send(api, sent.pipeline, sent.parameters, experiment, another, sent.service_account)
    click.echo(run)
    if link := api.link(run):
        say("submit", link)
    if wait:
        from .following import follow_run

        follow_run(api, run, wait_timeout)
    else:
        say("submit", f"to follow it: trainyard follow {run} --host {api.host}")


@plain_command
@run_argument
@wait_timeout_option
@access_options
def follow(run: str, wait_timeout: int, access: Access) -> None:
    """Follow RUN, an ID, to its end: a line per step as it changes state, and its results.

    Its failure is this command's failure. Ctrl-C ends the command, not the run.
    """
    from .following import follow_run

    follow_run(_connect(access), run, wait_timeout)


@plain_command
@run_option("--experiment", default="", help="Only the runs of this experiment.")
@run_option("--count", type=click.IntRange(1, 200), default=10, help="Number of runs, the newest first.")
@here_option("--here", is_flag=True, help="Print the runs on this machine instead, and where their page is.")
@here_option("--open", "in_browser", is_flag=True, help="Open the page of the runs on this machine in a browser.")
@here_option(
    "--runs", "folder", type=click.Path(path_type=Path), default="runs", metavar="FOLDER", help="Folder of these runs."
)
@access_options
def runs(experiment: str, count: int, here: bool, in_browser: bool, folder: Path, access: Access) -> None:
    """Print the recent runs with their accuracy and model, or with the step that failed.

    \b
    Examples:
      trainyard runs --host http://localhost:8080
      trainyard runs --here
      trainyard runs --open
    """
    if here or in_browser:
        from ..runs_page.page import tell

        click.echo(tell(folder, count, in_browser))
        return
    from .listing import tell_runs

    click.echo(tell_runs(_connect(access), experiment, count))


@plain_command
@run_argument
@access_options
def terminate(run: str, access: Access) -> None:
    """End RUN, an ID. It ends as FAILED after some seconds."""
    _connect(access).terminate(run)
    say("terminate", f"run {run} is being terminated")


@plain_command
@run_argument
@wait_option
@wait_timeout_option
@access_options
def retry(run: str, wait: bool, wait_timeout: int, access: Access) -> None:
    """Run the failed steps of RUN, an ID, again."""
    api = _connect(access)
    api.retry(run)
    say("retry", f"run {run} continues with its failed steps")
    if wait:
        from .following import follow_run

        follow_run(api, run, wait_timeout)


@click.group(cls=StepGroup, context_settings=SETTINGS)
def schedule() -> None:
    """Run the pipeline on a schedule: one run at a time; missed runs are not caught up."""


@schedule.command(context_settings=SETTINGS)
@experiment_option
@run_option("--name", required=True, help="Name of the schedule.")
@run_option("--cron", default="", help="When to start runs, in the cluster's time zone: '0 6 * * 1-5'.")
@run_option("--every", default="", metavar="INTERVAL", help="How often to start one, in s, m, h or d: 6h.")
@service_account_option
@access_options
@settings_options
@parameter_options(ON_A_CLUSTER)
def create(
    experiment: str,
    name: str,
    cron: str,
    every: str,
    access: Access,
    settings_file: Path | None,
    **given: Any,
) -> None:
    """Create a schedule, by --cron or --every, and print its ID."""
    from .submitting import create_schedule, cron_trigger, interval_trigger

    if bool(cron) == bool(every):
        raise BadInput(f"--cron: expected it or --every, received {'both' if cron else 'neither'}; e.g. --every 24h")
    trigger = cron_trigger(cron) if cron else interval_trigger(every)
    sent = to_submit("schedule", settings_file, given)
    api = _connect(access)
    click.echo(create_schedule(api, sent.pipeline, sent.parameters, experiment, name, trigger, sent.service_account))


@schedule.command(name="list", context_settings=SETTINGS)
@access_options
def list_(access: Access) -> None:
    """Print the schedules."""
    from .listing import tell_schedules

    click.echo(tell_schedules(_connect(access)))


def _change(command: str, change: str, done: str, help_text: str) -> None:
    """Add a command that changes a schedule."""

    @schedule.command(name=command, context_settings=SETTINGS, help=help_text)
    @click.argument("name")
    @run_option("--experiment", default="", help="Experiment of the schedule, if several have one of this name.")
    @access_options
    def changed(name: str, experiment: str, access: Access) -> None:
        from .listing import find_schedule

        api = _connect(access)
        found = find_schedule(api, name, experiment)
        api.change_schedule(found.recurring_run_id, change)
        say("schedule", f"{found.display_name} is {done}")


_change("pause", "disable", "paused; running runs continue", "Start no more runs of the schedule NAME (or ID).")
_change("resume", "enable", "resumed", "Start runs of the schedule NAME (or ID) again.")
_change("delete", "delete", "deleted; its runs stay", "Delete the schedule NAME (or ID). Its runs stay.")

COMMANDS = (submit, follow, runs, terminate, retry, schedule)
