"""Look for good training parameters: Optuna proposes them, our train tries them, its validation images judge.

    pip install optuna
    python -m examples.tune run --data my-data --trials 20 --minutes 30 --validation-split 0.1 tuned
    python -m examples.tune compile --trials 8 tune.yaml

On this machine trials follow one another: what the earlier ones gave decides what the next one tries, and a trial whose
validation loss falls behind is ended early. A run that was killed is resumed by the same command, the interrupted trial
after its last epoch. On a cluster the trials stand side by side, so all are proposed before the first one begins.

train looks at the validation images after every epoch and its card tells what it saw, so no other step has to. The test
split is not touched; the winner alone meets it, in the end.

An example and not a component: it starts other steps, which a step never does.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainyard import pipeline
from trainyard.components.common.artifacts.model import Card
from trainyard.components.common.cli import BadInput, command_group, last_line, runnable, say
from trainyard.components.common.files import write_json, write_text
from trainyard.components.common.options import JsonObject
from trainyard.launch.assembly import Step, assemble
from trainyard.launch.cluster import settings_for, settings_options
from trainyard.launch.commands import write_compiled
from trainyard.launch.contract import parameters_of
from trainyard.launch.parameters import parameter_options
from trainyard.launch.settings import Settings

if TYPE_CHECKING:
    import optuna
    from kfp.dsl.graph_component import GraphComponent

STEPS = ("download", "train", "evaluate", "select", "export", "serve")
PARAMETERS = [one for one in parameters_of(STEPS) if one.name not in (*pipeline.WIRED, "split", "target")]
TRAIN = {one.name: one for one in parameters_of(("train",))}
SPACE = {
    "architecture": ["dense", "cnn"],
    "batch_size": [32, 64, 128],
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}
EPOCH = re.compile(r"epoch (\d+)/\d+ .*validation loss (\S+)")
"""What train says after an epoch."""
PAGE = "tune.html.jinja"

Space = dict[str, Any]


def check_space(space: Space) -> None:
    """Raise BadInput for a space that names no parameter of train, or no values."""
    for name, values in space.items():
        if name not in TRAIN:
            raise BadInput(f"--space: expected parameters of train, received {name!r}; see trainyard train --help")
        if isinstance(values, list) and values:
            continue
        bounds = values if isinstance(values, dict) else {}
        low, high = bounds.get("low"), bounds.get("high")
        numbers = isinstance(low, int | float) and isinstance(high, int | float)
        if not numbers or not low < high or (bounds.get("log") and low <= 0):
            raise BadInput(
                f"--space: expected a list of values or an object of low, high and log for {name}, received "
                f"{json.dumps(values)}"
            )


def propose(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """The parameters of a trial."""
    chosen: dict[str, Any] = {}
    for name, values in space.items():
        if isinstance(values, list):
            chosen[name] = trial.suggest_categorical(name, values)
        elif TRAIN[name].type == "Integer":
            chosen[name] = trial.suggest_int(name, values["low"], values["high"], log=values.get("log", False))
        else:
            chosen[name] = trial.suggest_float(name, values["low"], values["high"], log=values.get("log", False))
    return chosen


@dataclass(frozen=True)
class Tuning:
    """A search in a folder.

    Attributes:
        folder: Where study and trials are.
        data: Data set folder.
        space: What is searched.
        fixed: Parameters of train that are the same in every trial.
    """

    folder: Path
    data: Path
    space: Space
    fixed: Mapping[str, Any]

    def study(self) -> optuna.Study:
        """The study, begun or taken up; trials that a killed run left are tried again first."""
        optuna = _optuna()
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState

        self.folder.mkdir(parents=True, exist_ok=True)
        identity = json.dumps([self.space, dict(self.fixed), str(self.data.resolve())], sort_keys=True)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.folder / "study.log"))),
            study_name=hashlib.sha256(identity.encode()).hexdigest()[:12],
            direction="minimize",
            sampler=optuna.samplers.TPESampler(seed=0),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
            load_if_exists=True,
        )
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
        return study

    def run(self, trials: int, minutes: float) -> optuna.Study:
        """Try parameters until the study has so many finished trials, or the time is over.

        Args:
            trials: Those of earlier runs count.
            minutes: 0: no limit. A trial that has begun is ended when the time is over, and resumed by the next run.
        """
        study = self.study()
        deadline = time.monotonic() + 60 * minutes if minutes else math.inf
        while len(finished(study)) < trials and time.monotonic() < deadline:
            self._try(study, deadline)
        return study

    def _try(self, study: optuna.Study, deadline: float) -> None:
        from optuna.trial import TrialState

        trial = study.ask()
        chosen = propose(trial, self.space)
        say("tune", f"trial {trial.number + 1}: {described(chosen)}")
        model = self.place(chosen)
        pruned = late = False
        with self._training(chosen, model) as process:
            try:
                for epoch, loss in _epochs(process):
                    trial.report(loss, epoch)
                    pruned, late = trial.should_prune(), time.monotonic() > deadline
                    if pruned or late:
                        process.send_signal(signal.SIGTERM)
                        break
            except BaseException:
                process.terminate()
                raise
            said = process.stderr.read() if process.stderr else ""
        if (model / "model.json").is_file():  # it may have been done when it was told to end
            best = min(_losses(Card.read(model)))
            study.tell(trial, best)
            say("tune", f"trial {trial.number + 1}: validation loss {best:.4f}")
        elif pruned:
            study.tell(trial, state=TrialState.PRUNED)
            say("tune", f"trial {trial.number + 1}: ended early")
        elif not late:
            study.tell(trial, state=TrialState.FAIL)
            raise BadInput(f"trial {trial.number + 1} ({described(chosen)}) failed: {last_line(said)}")

    def place(self, chosen: Mapping[str, Any]) -> Path:
        """Model folder of a trial; equal parameters have the same, by which train resumes."""
        digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]
        return self.folder / "trials" / digest

    def _training(self, chosen: Mapping[str, Any], model: Path) -> subprocess.Popen[str]:
        given = {**self.fixed, **chosen}
        options = [part for name, value in given.items() for part in (TRAIN[name].option, str(value))]
        options += ["--dataset", str(self.data), "--model", str(model)]
        command = [sys.executable, "-m", "trainyard.components.train", *options]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _epochs(process: subprocess.Popen[str]) -> Iterator[tuple[int, float]]:
    """Epochs with their validation loss, as train tells them."""
    assert process.stderr
    last = ""
    for line in process.stderr:
        last = line
        if told := EPOCH.search(line):
            yield int(told[1]), float(told[2])
    if process.wait() not in (0, -signal.SIGTERM, 143):
        raise BadInput(f"train failed: {last_line(last)}")


def _losses(card: Card) -> list[float]:
    losses = [epoch.validation_loss for epoch in card.history if epoch.validation_loss is not None]
    if not losses:
        raise BadInput(
            "--validation-split: expected validation images, received a data set without; pass a share such as 0.1"
        )
    return losses


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that count: whole ones, and those that were ended early."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def described(parameters: Mapping[str, Any]) -> str:
    """Parameters for people."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in parameters.items()
    )


def render(study: optuna.Study) -> str:
    """The report: the best loss by trial, and a table of the trials."""
    from trainyard.components.common.report.templates import environment

    done = finished(study)
    whole = [trial for trial in done if trial.value is not None and trial.state.name == "COMPLETE"]
    best: list[float] = []
    for trial in whole:
        best.append(min([float(trial.value or 0), *best[-1:]]))
    top, bottom = max(trial.value or 0 for trial in whole), min(best)

    def at(index: int, loss: float) -> tuple[float, float]:
        """Where a loss is in the chart of 360 x 208."""
        across = 50 + 290 * index / max(1, len(best) - 1)
        return across, 170 - 150 * (loss - bottom) / max(top - bottom, 1e-12)

    rows = [
        (str(trial.number + 1), described(trial.params), f"{trial.value:.4f}" if trial in whole else "ended early")
        for trial in sorted(done, key=lambda trial: (trial not in whole, trial.value))
    ]
    page = {
        "best": f"{study.best_value:.4f}",
        "parameters": {name: str(value) for name, value in study.best_params.items()},
        "curve": "M" + "L".join("{:.1f} {:.1f}".format(*at(index, loss)) for index, loss in enumerate(best)),
        "dots": [at(index, trial.value or 0) for index, trial in enumerate(whole)],
        "top": f"{top:.4f}",
        "bottom": f"{bottom:.4f}",
        "rows": rows,
        "whole": len(whole),
        "pruned": len(done) - len(whole),
    }
    return environment(Path(__file__).parent).get_template(PAGE).render(page=page)


def build(trials: int, space: Space, settings: Settings | None = None) -> GraphComponent:
    """A pipeline with all trials side by side; `select` finds the best of them, which is published and served.

    Args:
        trials: How many.
        space: What is searched.
        settings: What is bound.
    """
    optuna = _optuna()
    study = optuna.create_study(sampler=optuna.samplers.QMCSampler(seed=0, warn_independent_sampling=False))
    proposals = [propose(study.ask(), space) for _ in range(trials)]

    def wire(download: Step, train: Step, evaluate: Step, select: Step, export: Step, serve: Step) -> None:
        dataset = download().outputs["dataset"]
        best: dict[str, Any] = {}
        for proposal in proposals:
            trained = train(dataset=dataset, **proposal).set_display_name(f"train {described(proposal)}")
            model = trained.outputs["model"]
            judged = evaluate(dataset=dataset, model=model, split="validation")
            candidate = {"model": model, "evaluation": judged.outputs["evaluation"]}
            if best:
                both = {f"{name}_{side}": one[name] for side, one in (("a", best), ("b", candidate)) for name in one}
                selected = select(**both)
                candidate = {name: selected.outputs[name] for name in best}
            best = candidate
        tested = evaluate(dataset=dataset, model=best["model"], split="test").set_display_name("evaluate the best")
        serve(model_uri=export(model=best["model"], evaluation=tested.outputs["evaluation"]).outputs["model_uri"])

    wired = (*pipeline.WIRED, "split", *space)
    return assemble("tune", "Trials side by side, the best one served.", STEPS, wire, settings or Settings(), wired)


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise BadInput("expected the Python package optuna, received none; pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@command_group
def main() -> None:
    """Look for good training parameters.

    \b
    Examples:
      python -m examples.tune run --data my-data --trials 20 --minutes 30 --validation-split 0.1 tuned
      python -m examples.tune compile --trials 8 --images dist/images.json tune.yaml
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


space_option = click.option(
    "--space",
    type=JsonObject(),
    default=SPACE,
    show_default=json.dumps(SPACE),
    help='Parameters of train to search: a list of values, or {"low": 0.0001, "high": 0.01, "log": true}.',
)
trials_option = click.option("--trials", type=click.IntRange(1, 1000), default=20, help="Number of trials.")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data set folder, as download writes it.")
@trials_option
@click.option("--minutes", type=click.FloatRange(0), default=0, help="Time limit of this run; 0: none.")
@space_option
@parameter_options(TRAIN.values())
def run(folder: Path, data: Path, trials: int, minutes: float, space: Space, **fixed: Any) -> None:
    """Search on this machine; FOLDER gets best.json, report.html, and the model of each trial.

    Options of train hold for all trials, unless --space searches them. The same command resumes a search.
    """
    check_space(space)
    given = {name: value for name, value in fixed.items() if value is not None and name not in space}
    tuning = Tuning(folder, data, space, given)
    study = tuning.run(trials, minutes)
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise RuntimeError("--minutes: no trial was completed in this time; run again to resume, or allow more")
    best = {**given, **study.best_params}
    options = " ".join(f"{TRAIN[name].option} {value}" for name, value in best.items())
    told = {"validation_loss": study.best_value, "parameters": best, "model": str(tuning.place(study.best_params))}
    write_json(folder / "best.json", {**told, "trials": len(finished(study))}, indent=2)
    write_text(folder / "report.html", render(study))
    say("tune", f"validation loss {study.best_value:.4f} after {len(finished(study))} trials; {folder / 'report.html'}")
    click.echo(runnable(f"trainyard train --dataset {data} --model MODEL {options}"))


@main.command("compile")
@trials_option
@space_option
@settings_options
@click.argument("output", type=click.Path(path_type=Path))
def compile_(trials: int, space: Space, settings_file: Path | None, output: Path, **given: Any) -> None:
    """Compile all trials side by side for Kubeflow Pipelines into the file OUTPUT.

    The trials are compared on the data set's own split validation; the winner alone meets the test split.
    """
    check_space(space)
    write_compiled(build(trials, space, settings_for(settings_file, given, PARAMETERS)), output)


if __name__ == "__main__":
    main()
