"""Command line of the notify step."""

from typing import Any

from ..common.cli import say, step
from ..common.options import FinalStatus, Output, inputs, outputs, section

message = section("Message")


@step("webhook.check", cached=False, store=False)
@inputs(
    "--status",
    type=FinalStatus(),
    default={},
    help="How the run ended, as KFP tells an exit handler: a JSON object with state and error.",
)
@message("--run", default="", help="Name of the run; empty: the name in --status.")
@message("--text", default="", help="Further text of the message, such as a link to the run.")
@outputs("--message", type=Output("String"), help="File to write the message to.")
def main(status: dict[str, Any], run: str, text: str, message: Any) -> None:
    """Notify a webhook that a run has ended: post a JSON object to the URL in NOTIFY_WEBHOOK_URL.

    The object has text (a sentence, which Slack, Mattermost, Google Chat and others show), run, state and error. The
    URL is a credential: it comes from the environment, on a cluster from a Kubernetes secret, and is never printed.
    A receiver that is busy is asked again. In a pipeline the step is an exit handler, and KFP passes the status.

    \b
    Example:
      NOTIFY_WEBHOOK_URL=https://hooks.example.com/... trainyard notify --run nightly --status '{"state": "SUCCEEDED"}'
    """
    from ..common.kfp_outputs import write_parameter
    from .webhook import Notice, post

    notice = Notice.of(status, run, text)
    host = post(notice)
    write_parameter(message, notice.text)
    say("notify", f"posted to {host}: {notice.text}")


if __name__ == "__main__":
    main()
