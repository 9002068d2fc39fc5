"""What the steps of a run wrote, and the results in it."""

import re
from dataclasses import dataclass
from typing import Any

from .api import Api
from .pods import RunPods
from .tasks import Task, tasks_of

AROUND = re.compile(r'[IWEF]\d{4} \d\d:\d\d:\d\d|time="?\d{4}-|Defaulted container')
"""How the lines begin that Kubeflow's launcher and Argo write around those of a step."""
PUBLISHED = r"export +(s3://\S+)(?:.*, accuracy (\d\.\d+))?"
ENDPOINT = r"(https?://\S+)$"
"""The lines in which export and serve, which are never taken from the cache, say what they ended in."""


@dataclass(frozen=True)
class Results:
    """What a run of this pipeline ended in; empty: unknown, as the log is gone or is that of another pipeline."""

    accuracy: str = ""
    model_uri: str = ""
    endpoint: str = ""


class Logs:
    """The logs of one run: from the API, or from the pods where the cluster can be reached."""

    def __init__(self, api: Api, pods: RunPods, run_id: str) -> None:
        self._api, self._pods, self._run_id = api, pods, run_id

    def lines(self, task: Task) -> list[str]:
        """What a step itself wrote."""
        text = self._api.log(self._run_id, task.pod, self._pods.namespace) if task.pod else ""
        if not text and (pod := self._pods.name(task.name)):
            text = self._pods.log(pod)
        return [line.rstrip() for line in text.splitlines() if line.strip() and not AROUND.match(line)]

    def results(self, run: Any) -> Results:
        """What the steps of this pipeline said at their end."""
        tasks = {task.name: task for task in tasks_of(run)}

        def said(step: str, pattern: str) -> tuple[str, ...]:
            lines = self.lines(tasks[step]) if step in tasks else []
            found = (match for line in reversed(lines) if (match := re.match(pattern, line)))
            return next((match.groups(default="") for match in found), ("", ""))

        model_uri, accuracy = said("export", PUBLISHED)
        return Results(accuracy, model_uri, said("serve", ENDPOINT)[0])
