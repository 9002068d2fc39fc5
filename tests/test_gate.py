"""The gate of evaluate: thresholds on any metric, and the comparison with the model that is published now."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import PROJECT
from trainyard.components.common.rules import Threshold, sentence
from trainyard.components.evaluate.baseline import McNemar
from trainyard.components.evaluate.gate import Change


@pytest.fixture(scope="module")
def poor(dataset, tmp_path_factory):
    """A model that learned for one epoch."""
    folder = tmp_path_factory.mktemp("poor") / "model"
    command = [
        sys.executable,
        "-m",
        "trainyard.components.train",
        "--dataset",
        dataset,
        "--model",
        folder,
        "--epochs",
        "1",
    ]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    return folder


@pytest.fixture
def evaluate(step, dataset, tmp_path):
    """Evaluate a model; gives how the step ended and what evaluation.json then holds."""

    def run(model, dataset=dataset, **options):
        given = [
            f"--{name.replace('_', '-')}={json.dumps(value) if isinstance(value, dict) else value}"
            for name, value in options.items()
        ]
        done = step("evaluate", "--dataset", dataset, "--model", model, "--evaluation", tmp_path / "evaluation", *given)
        written = tmp_path / "evaluation" / "evaluation.json"
        return done, json.loads(written.read_text()) if written.exists() else None

    return run


def refused(run):
    """The last line of a refusal that wrote nothing."""
    done, evaluation = run
    assert (done.returncode, evaluation) == (2, None), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_any_metric_can_have_a_threshold_and_each_rule_is_told(evaluate, model):
    thresholds = {"macro_f1": 0.9, "loss": 0.5, "recall[7]": ">= 1.01", "calibration_error": "<= 0.5", "auc[3]": 0.9}
    done, evaluation = evaluate(model, min_accuracy=0.5, thresholds=thresholds)
    assert done.returncode == 0, done.stderr
    assert [rule["metric"] for rule in evaluation["rules"]] == ["accuracy", *thresholds]
    assert [rule["passed"] for rule in evaluation["rules"]] == [True, True, True, False, True, True]
    assert evaluation["passed"] is False
    assert evaluation["rules"][2]["text"] == f"loss {evaluation['loss']:.4f} <= 0.5: passed"
    assert evaluation["rules"][2]["at_most"] == 0.5
    assert "gate recall[7] >= 1.01: failed" in done.stderr.splitlines()[-1]


def test_a_metric_that_does_not_exist_is_refused_with_those_that_do(evaluate, model):
    for name in ("thresholds", "change_thresholds"):
        said = refused(evaluate(model, **{name: {"acuracy": 0.9}}, baseline=model))
        assert said.startswith(f"--{name.replace('_', '-')}: ")
        assert all(known in said for known in ("'acuracy'", "accuracy", "macro_f1", "recall[]", "0, 1, 2 ... 9"))


@pytest.fixture(scope="module")
def lit(digits, tmp_path_factory):
    """The digits with columns: 5 and 8 are dark, others among the first 20 dim, the rest bright; and a file name."""
    arrays = dict(np.load(digits))
    folder = tmp_path_factory.mktemp("lit")
    for split in ("train", "test"):
        labels = arrays[f"y_{split}"]
        dim = np.arange(len(labels)) < 20
        arrays[f"light_{split}"] = np.where(np.isin(labels, (5, 8)), "dark", np.where(dim, "dim", "bright"))
        arrays[f"file_{split}"] = [f"{index}.png" for index in range(len(labels))]
    np.savez(folder / "digits.npz", **arrays)
    return folder


def test_a_slice_has_metrics_and_rules_of_its_own(evaluate, lit, model, poor):
    thresholds = {"accuracy[light=dark]": 0.999, "loss[light=bright]": 2, "macro_f1[light=dark]": ">= 0.1"}
    given = {"dataset": lit, "slice_by": "light", "thresholds": thresholds}
    done, evaluation = evaluate(poor, **given, baseline=model, change_thresholds={"accuracy[light=dark]": 0})
    assert done.returncode == 0, done.stderr
    slices = {one["value"]: one for one in evaluation["slices"]}
    assert list(slices) == sorted(slices, key=lambda value: slices[value]["accuracy"])
    assert sum(one["examples"] for one in slices.values()) == evaluation["examples"]
    support = {one["name"]: one["support"] for one in evaluation["classes"]}
    right = evaluation["confusion_matrix"][5][5] + evaluation["confusion_matrix"][8][8]
    assert slices["dark"]["examples"] == support["5"] + support["8"]
    assert slices["dark"]["accuracy"] == pytest.approx(right / slices["dark"]["examples"])
    rules = {rule["text"].split(" ")[0]: rule for rule in evaluation["rules"]}
    assert rules["loss[light=bright]"]["at_most"] == 2
    (changed,) = (rule for rule in evaluation["rules"] if "baseline" in rule)
    assert changed["value"] == slices["dark"]["accuracy"]
    assert changed["passed"] == (changed["value"] >= changed["baseline"])
    assert "evaluate  least accurate by light: " in done.stderr


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("slice_by", "lght", ["'lght'", "light, file"]),
        ("slice_by", "light,file", ["at most 100 values", "360 in 'file'"]),
        ("thresholds", {"accuracy[light=drak]": 0.9}, ["light=dark", "light=dim", "received 'accuracy[light=drak]'"]),
    ],
)
def test_a_column_or_slice_that_is_not_there_is_refused_with_those_that_are(evaluate, lit, model, option, given, said):
    line = refused(evaluate(model, **{"dataset": lit, "slice_by": "light", option: given}))
    assert all(words in line for words in said), line


def test_rules_on_slices_ask_for_the_column(evaluate, lit, model):
    assert "--slice-by" in refused(evaluate(model, dataset=lit, thresholds={"accuracy[light=dark]": 0.9}))


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("thresholds", '{"accuracy": "good"}', "'good'"),
        ("thresholds", '{"accuracy": true}', "True"),
        ("thresholds", '{"accuracy": ">= 1e"}', "'>= 1e'"),
        ("thresholds", "[1]", "expected a JSON object"),
        ("change_thresholds", '{"accuracy": "0.1"}', "'0.1'"),
    ],
)
def test_a_bound_that_is_none_is_refused(evaluate, model, option, given, said):
    assert said in refused(evaluate(model, **{option: given}, baseline=model))


def test_change_thresholds_ask_for_a_baseline(evaluate, model):
    assert "--baseline" in refused(evaluate(model, change_thresholds={"accuracy": 0}))


def test_a_worse_model_fails_against_the_newest_published_one_and_a_better_one_passes(
    evaluate, step, bucket, model, poor
):
    """Version 1 is the poor model, version 2 the good one; a third was begun and never finished."""
    for published in (poor, model):
        done = step("export", "--model", published, "--bucket", bucket, "--model-name", "digits")
        assert done.returncode == 0, done.stderr
    newest, first = f"s3://{bucket}/digits/", f"s3://{bucket}/digits/1/"
    _, worse = evaluate(poor, baseline=newest, change_thresholds={"accuracy": 0.01, "loss": 0})
    assert (worse["passed"], worse["baseline"]["name"]) == (False, f"{newest}2/")
    before = worse["baseline"]
    assert worse["rules"][0]["text"] == (
        f"accuracy {worse['accuracy']:.4f}, at most 0.01 below the baseline's {before['accuracy']:.4f}: failed"
    )
    assert before["lost"] - before["gained"] == round((before["accuracy"] - worse["accuracy"]) * worse["examples"])
    assert before["p_value"] < 0.05
    assert "statistically significant" in before["text"]

    done, better = evaluate(model, baseline=first, change_thresholds={"accuracy": -0.01, "loss": 0})
    assert (better["passed"], better["baseline"]["name"]) == (True, first)
    assert (better["baseline"]["gained"], better["baseline"]["lost"]) == (before["lost"], before["gained"])
    assert f"evaluate  after {first}: {better['baseline']['text']}" in done.stderr.splitlines()

    _, same = evaluate(model, baseline=model, change_thresholds={"accuracy": 0, "macro_f1": 0, "auc[3]": 0})
    assert (same["passed"], same["baseline"]["p_value"]) == (True, 1.0)


def test_a_version_that_was_never_finished_is_no_baseline(evaluate, step, store, bucket, poor, model):
    done = step("export", "--model", poor, "--bucket", bucket, "--model-name", "digits")
    assert done.returncode == 0, done.stderr
    store.client.put_object(Bucket=bucket, Key="digits/2/model.json", Body=b"{}")
    _, evaluation = evaluate(model, baseline=f"s3://{bucket}/digits/")
    assert evaluation["baseline"]["name"] == f"s3://{bucket}/digits/1/"


def test_a_published_baseline_that_cannot_be_used_is_told_by_its_uri(evaluate, step, bucket, model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "model.tflite").write_text("no model")
    done = step("export", "--model", other, "--bucket", bucket, "--model-name", "digits")
    assert done.returncode == 0, done.stderr
    line = refused(evaluate(model, baseline=f"s3://{bucket}/digits/"))
    assert line.startswith(f"s3://{bucket}/digits/1/model.tflite: expected a LiteRT model")


@pytest.mark.parametrize("place", ["digits", "nowhere/digits"])
def test_the_first_version_of_all_passes_its_change_rules(evaluate, bucket, model, place):
    uri = f"s3://{bucket}-{place}/" if "/" in place else f"s3://{bucket}/{place}/"
    done, evaluation = evaluate(model, baseline=uri, change_thresholds={"accuracy": 0})
    assert done.returncode == 0, done.stderr
    assert evaluation["passed"] is True
    assert evaluation["baseline"] == {"name": uri, "found": False}
    assert "waived since no version is published yet: passed" in evaluation["rules"][0]["text"]


def test_a_baseline_of_other_classes_or_images_is_refused_with_both_sides(evaluate, model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    card = json.loads((model / "model.json").read_text())
    for changed, said in (
        ({"classes": ["cat", "dog"]}, ["10 classes (0, 1, 2 and 7 more)", "2 (cat, dog)", str(other), str(model)]),
        ({"input": {"shape": [32, 32, 3]}}, ["28 x 28 x 1", "32 x 32 x 3"]),
    ):
        (other / "model.json").write_text(json.dumps(card | changed))
        line = refused(evaluate(model, baseline=other))
        assert all(words in line for words in ["--baseline", *said]), line


@pytest.mark.parametrize("baseline", ["s3://{bucket}/digits/7/", "{folder}/none", "s3://{bucket}/"])
def test_a_baseline_that_is_not_there_is_refused(evaluate, bucket, model, tmp_path, baseline):
    given = baseline.format(bucket=bucket, folder=tmp_path)
    assert given in refused(evaluate(model, baseline=given))


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (5, 5), (3, 14), (24, 0), (12, 13), (25, 25), (70, 40), (0, 900)]
)
def test_mcnemar_is_scipys(gained, lost):
    from scipy.stats import binomtest, chi2

    ours = McNemar(gained, lost)
    if gained + lost < 25:
        theirs = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    else:
        theirs = chi2.sf(max(0, abs(gained - lost) - 1) ** 2 / (gained + lost), 1)
    assert ours.p_value == pytest.approx(theirs, abs=1e-9)


def test_rounding_never_contradicts_a_change_rule():
    assert sentence(Change("accuracy", 0.97004, 0.97001, 0)) == (
        "accuracy 0.9700, not below the baseline's 0.9700: passed"
    )
    assert sentence(Change("accuracy", 0.97001, 0.97004, 0)) == (
        "accuracy 0.97001, not below the baseline's 0.97004: failed"
    )
    assert Change("accuracy", 0.97, 0.98, 0.01).passed
    assert not Change("loss", 0.21, 0.2, 0.005).passed
    assert sentence(Change("loss", 0.1, 0.2, -0.05)) == (
        "loss 0.1000, at least 0.05 below the baseline's 0.2000: passed"
    )
    assert not Threshold("loss", 0.20001, 0.2, "<=").passed
