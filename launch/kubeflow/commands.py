"""The commands for runs and schedules on Kubeflow Pipelines."""

from collections.abc import Callable
from typing import Any

import click

from ...components.common.cli import SETTINGS, StepCommand, StepGroup, say
from .access import Access, access_options

experiment_option = click.option("--experiment", default="trainyard", help="Experiment that the runs belong to.")
wait_timeout_option = click.option(
    "--wait-timeout",
    type=click.IntRange(min=0),
    default=0,
    metavar="SECONDS",
    help="End the wait after so long, not the run; 0: wait for its end.",
)
run_argument = click.argument("run")


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that starts a run the options that say what comes after it."""
    wait = click.option(
        "--wait", is_flag=True, help="Follow the run to its end; its failure is this command's failure."
    )
    another = click.option("--another", is_flag=True, help="Start a run even while an equal one has not ended.")
    return wait(wait_timeout_option(another(command)))


def _connect(access: Access) -> Any:
    from .api import Api

    return Api(access)


def started(api: Any, run_id: str, wait: bool, wait_timeout: int) -> None:
    """Tell of a run that was started, and follow it with `wait`."""
    from .following import follow

    click.echo(run_id)
    if link := api.link(run_id):
        say("submit", link)
    if wait:
        follow(api, run_id, wait_timeout)
    else:
        say("submit", f"to follow it: trainyard follow {run_id} --host {api.host}")


@click.command(name="follow", cls=StepCommand, context_settings=SETTINGS)
@run_argument
@wait_timeout_option
@access_options
def follow_(run: str, wait_timeout: int, access: Access) -> None:
    """Follow RUN, an ID, to its end: a line per step as it changes state, and its results.

    Its failure is this command's failure. Ctrl-C ends the command, not the run.
    """
    from .following import follow

    follow(_connect(access), run.rpartition("/")[2], wait_timeout)


@click.command(cls=StepCommand, context_settings=SETTINGS)
@click.option("--experiment", default="", help="Only the runs of this experiment.")
@click.option("--count", type=click.IntRange(1, 200), default=10, help="Number of runs, the newest first.")
@access_options
def runs(experiment: str, count: int, access: Access) -> None:
    """Print the recent runs with their accuracy and model, or with the step that failed."""
    from .listing import tell_runs

    click.echo(tell_runs(_connect(access), experiment, count))


@click.command(cls=StepCommand, context_settings=SETTINGS)
@run_argument
@access_options
def terminate(run: str, access: Access) -> None:
    """End RUN, an ID. It ends as FAILED after some seconds."""
    _connect(access).terminate(run)
    say("terminate", f"run {run} is being terminated")


@click.command(cls=StepCommand, context_settings=SETTINGS)
@run_argument
@click.option("--wait", is_flag=True, help="Follow the run to its end.")
@wait_timeout_option
@access_options
def retry(run: str, wait: bool, wait_timeout: int, access: Access) -> None:
    """Run the failed steps of RUN, an ID, again."""
    api = _connect(access)
    api.retry(run)
    say("retry", f"run {run} goes on with its failed steps")
    if wait:
        from .following import follow

        follow(api, run, wait_timeout)


@click.group(cls=StepGroup, context_settings=SETTINGS)
def schedule() -> None:
    """Have the pipeline run again and again: one run at a time, without making up for missed ones."""


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
    @click.option("--experiment", default="", help="Experiment of the schedule, if several have one of this name.")
    @access_options
    def changed(name: str, experiment: str, access: Access) -> None:
        from .listing import find_schedule

        api = _connect(access)
        found = find_schedule(api, name, experiment)
        api.change_schedule(found.recurring_run_id, change)
        say("schedule", f"{found.display_name} is {done}")


_change("pause", "disable", "paused; what is running goes on", "Start no more runs of the schedule NAME (or ID).")
_change("resume", "enable", "resumed", "Start runs of the schedule NAME (or ID) again.")
_change("delete", "delete", "deleted; its runs stay", "Delete the schedule NAME (or ID). Its runs stay.")
