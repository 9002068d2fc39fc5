"""The evaluate step: its numbers against scikit-learn and Keras, its verdict, and what Kubeflow gets to see."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.made_up import made_up_card
from trainyard.components.common.artifacts.answers import check_answers
from trainyard.components.common.artifacts.classifier import load_classifier
from trainyard.components.common.artifacts.model import sha256_of_model
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset
from trainyard.components.common.rules import Threshold, Verdict, sentence
from trainyard.components.common.statistics import wilson_interval
from trainyard.components.evaluate.kfp_views import classification, v1_views
from trainyard.components.evaluate.metrics import cross_entropy, measure, precision_recall, roc_curve
from trainyard.components.evaluate.slices import measure_slices, metrics_of_slices

PROJECT = Path(__file__).parent.parent
OUTPUTS = (
    "metrics",
    "classification_metrics",
    "report",
    "predictions",
    "accuracy",
    "passed",
    "mlpipeline_metrics",
    "mlpipeline_ui_metadata",
)


SCALARS = {
    "accuracy": "PERCENTAGE",
    "loss": "RAW",
    "balanced_accuracy": "PERCENTAGE",
    "macro_f1": "RAW",
    "roc_auc": "RAW",
    "calibration_error": "RAW",
}
"""The columns of the UI's table of runs, which are never renamed, and how KFP 1 shows them."""


def evaluate(dataset, model, folder, *more):
    """Run the step as a process, with all of its outputs below `folder`."""
    outputs = [f"--{name.replace('_', '-')}={folder / name}" for name in OUTPUTS]
    command = [sys.executable, "-m", "trainyard.components.evaluate", "--dataset", dataset, "--model", model]
    return subprocess.run(
        [*map(str, command), "--evaluation", str(folder / "evaluation"), *outputs, *map(str, more)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def evaluated(dataset, model, tmp_path_factory):
    """Outputs of one evaluation of the digits, with KFP's description of them as KFP 2 passes it."""
    folder = tmp_path_factory.mktemp("evaluated")
    artifacts = {
        name: {"artifacts": [{"name": name, "uri": f"s3://x/{name}", "type": {"schemaTitle": "system.Artifact"}}]}
        for name in ("evaluation", *OUTPUTS)
        if name not in ("accuracy", "passed")
    }
    description = {"outputs": {"artifacts": artifacts, "outputFile": str(folder / "made" / "executor_output.json")}}
    done = evaluate(dataset, model, folder, "--min-accuracy=0.9", "--executor-input", json.dumps(description))
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def answers(dataset, model):
    """Labels of the test split and the model's probabilities."""
    split = open_dataset(dataset).read("test")
    return split.labels, load_classifier(model).predict(split.images)


def some_scores(seed, examples=500, classes=7, ties=False):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, examples)
    scores = random.normal(size=(examples, classes)) + 2 * np.eye(classes)[labels]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return labels, (probabilities.round(1) if ties else probabilities).astype("float32")


def test_one_line_tells_the_result(evaluated):
    number = r"\d\.\d{4}"
    line = rf"evaluate  accuracy {number} \(95 % interval {number} to {number}\), loss {number}, "
    assert re.fullmatch(line + r"gate accuracy >= 0\.9: passed\n", (evaluated / "stderr").read_text())


def test_metrics_are_those_of_scikit_learn(evaluated, answers):
    from sklearn import metrics

    labels, probabilities = answers
    said = probabilities.argmax(axis=1)
    ours = read(evaluated / "evaluation" / "evaluation.json")
    near = {"abs": 1e-6}
    normal = probabilities / probabilities.sum(axis=1, keepdims=True, dtype="float64")
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(labels, said), **near)
    assert ours["loss"] == pytest.approx(metrics.log_loss(labels, normal), **near)
    assert ours["confusion_matrix"] == metrics.confusion_matrix(labels, said).tolist()
    theirs = metrics.precision_recall_fscore_support(labels, said)
    for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        assert [one[name] for one in ours["classes"]] == pytest.approx(values, **near)
    for index, one in enumerate(ours["classes"]):
        assert one["auc"] == pytest.approx(metrics.roc_auc_score(labels == index, probabilities[:, index]), **near)
    assert ours["top_3_accuracy"] == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=3), **near)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("absent", [None, 6])
def test_averages_are_those_of_scikit_learn(ties, absent):
    """Also where answers are tied, and where the test split lacks a class that the model answers all the same."""
    from sklearn import metrics

    labels, probabilities = some_scores(seed=2, ties=ties)
    if absent:
        labels = np.where(labels == absent, 0, labels)
    said = probabilities.argmax(axis=1)
    ours = measure(labels, probabilities).overall()
    present = np.unique(labels)
    theirs = {
        "balanced_accuracy": np.mean(metrics.recall_score(labels, said, labels=present, average=None)),
        "roc_auc": np.mean([metrics.roc_auc_score(labels == index, probabilities[:, index]) for index in present]),
    }
    for kind in ("macro", "weighted"):
        averaged = metrics.precision_recall_fscore_support(labels, said, average=kind, zero_division=0)
        theirs |= {
            f"{kind}_{name}": value for name, value in zip(("precision", "recall", "f1"), averaged, strict=False)
        }
    for k in (3, 5):
        known = range(probabilities.shape[1])
        theirs[f"top_{k}_accuracy"] = metrics.top_k_accuracy_score(labels, probabilities, k=k, labels=known)
    if not absent:
        normal = probabilities / probabilities.sum(axis=1, keepdims=True, dtype="float64")
        assert theirs["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, said), abs=1e-9)
        if not ties:
            macro = metrics.roc_auc_score(labels, normal, multi_class="ovr", average="macro")
            assert theirs["roc_auc"] == pytest.approx(macro, abs=1e-9)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name
    assert set(ours) == {"accuracy", "loss", "calibration_error", *theirs}


@pytest.mark.parametrize("ties", [False, True])
def test_precision_recall_curves_are_those_of_scikit_learn_point_by_point(ties):
    from sklearn import metrics

    labels, probabilities = some_scores(seed=10, ties=ties)
    for index, scores in enumerate(probabilities.T):
        positive = labels == index
        precision, recall, _ = metrics.precision_recall_curve(positive, scores)
        ours = precision_recall(roc_curve(scores, positive), int(positive.sum()), len(labels))
        np.testing.assert_allclose(ours.precision, precision[::-1], atol=1e-6)
        np.testing.assert_allclose(ours.recall, recall[::-1], atol=1e-6)
        assert ours.average == pytest.approx(metrics.average_precision_score(positive, scores), abs=1e-6)
        thinned = ours.thinned(20)
        assert len(thinned.recall) <= 21
        assert (thinned.recall[0], thinned.recall[-1], thinned.average) == (0, 1, ours.average)


@pytest.mark.parametrize("ties", [False, True])
def test_calibration_error_is_that_of_its_definition(ties):
    """Summed bin by bin, as Guo et al. write it."""
    labels, probabilities = some_scores(seed=11, ties=ties)
    said, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1).astype("float64")
    expected = 0.0
    for index in range(15):
        within = (confidence > index / 15) & (confidence <= (index + 1) / 15)
        if within.any():
            gap = abs((said == labels)[within].mean() - confidence[within].mean())
            expected += within.mean() * gap
    ours = measure(labels, probabilities).calibration
    assert ours.error == pytest.approx(expected, abs=1e-6)
    assert ours.count.sum() == len(labels)


def test_top_k_is_told_only_where_there_are_more_classes():
    assert set(measure(*some_scores(seed=12, classes=4)).top) == {3}
    assert not measure(*some_scores(seed=12, classes=3)).top


@pytest.mark.parametrize("ties", [False, True])
def test_roc_curves_are_those_of_scikit_learn_point_by_point(ties):
    from sklearn import metrics

    labels, probabilities = some_scores(seed=3, ties=ties)
    for index, scores in enumerate(probabilities.T):
        theirs = metrics.roc_curve(labels == index, scores, drop_intermediate=False)
        ours = roc_curve(scores, labels == index)
        np.testing.assert_allclose(ours.false_positive_rate, theirs[0], atol=1e-6)
        np.testing.assert_allclose(ours.true_positive_rate, theirs[1], atol=1e-6)
        np.testing.assert_allclose(ours.thresholds, theirs[2], atol=1e-6)
        assert ours.auc == pytest.approx(metrics.auc(*theirs[:2]), abs=1e-6)


def test_micro_average_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    labels, probabilities = some_scores(seed=4)
    theirs = roc_auc_score(np.eye(7)[labels], probabilities, average="micro")
    assert measure(labels, probabilities).micro_roc.auc == pytest.approx(theirs, abs=1e-6)


def test_loss_is_that_of_keras_even_for_certain_answers():
    """Right and wrong answers with probabilities of exactly 0 and 1 show how the logarithm is guarded."""
    labels, probabilities = some_scores(seed=5, examples=50, classes=300)
    certain = np.eye(300, dtype="float32")[:50]
    labels, probabilities = np.append(labels, np.arange(50) // 2 * 2), np.vstack([probabilities, certain])
    program = """
import json, sys
import keras, numpy
labels, probabilities = map(numpy.array, json.load(sys.stdin))
probabilities = probabilities.astype("float32")
print(float(keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, probabilities))))
"""
    given = json.dumps([labels.tolist(), probabilities.tolist()])
    keras = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, text=True, check=True)
    assert cross_entropy(labels, probabilities) == pytest.approx(float(keras.stdout), abs=1e-6)


@pytest.mark.parametrize(("right", "examples"), [(0, 10), (10, 10), (9741, 10000), (1, 2)])
def test_interval_is_wilsons(right, examples):
    from scipy.stats import binomtest

    theirs = binomtest(right, examples).proportion_ci(method="wilson")
    assert wilson_interval(right, examples) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_metrics_of_slices_are_those_of_scikit_learn_and_the_least_accurate_comes_first():
    """Also of a slice that holds only some of the classes."""
    from sklearn import metrics

    labels, probabilities = some_scores(seed=13)
    light = np.where(labels < 2, "dark", np.where(np.arange(500) % 3, "bright", ""))
    slices = measure_slices({"light": light.tolist(), "camera": ["a"] * 500}, labels, probabilities)
    assert [one.column for one in slices] == ["light"] * 3 + ["camera"]
    assert [one.accuracy for one in slices[:3]] == sorted(one.accuracy for one in slices[:3])
    for one in slices:
        within = light == one.value if one.column == "light" else labels >= 0
        truth, said = labels[within], probabilities[within].argmax(axis=1)
        normal = probabilities[within] / probabilities[within].sum(axis=1, keepdims=True, dtype="float64")
        assert one.examples == within.sum()
        assert one.accuracy == pytest.approx(metrics.accuracy_score(truth, said), abs=1e-9)
        assert one.macro_f1 == pytest.approx(metrics.f1_score(truth, said, average="macro"), abs=1e-9)
        assert one.loss == pytest.approx(metrics.log_loss(truth, normal, labels=range(7)), abs=1e-6)
        assert one.interval == wilson_interval(round(one.accuracy * one.examples), one.examples)
    assert set(metrics_of_slices(slices)) >= {"accuracy[light=dark]", "macro_f1[light=]", "loss[camera=a]"}


def test_a_class_that_the_test_split_lacks_has_no_curve_and_no_score():
    labels, probabilities = some_scores(seed=6)
    absent = measure(np.where(labels == 6, 0, labels), probabilities).per_class[6]
    assert (absent.support, absent.recall, absent.f1, absent.auc) == (0, 0.0, 0.0, None)


def test_thinned_curve_keeps_its_ends_and_its_shape():
    random = np.random.default_rng(8)
    positive = random.random(20_000) < 0.3
    curve = roc_curve(random.normal(size=20_000) + 2 * positive, positive)
    thinned = curve.thinned(200)
    assert len(thinned.thresholds) <= 200
    assert (thinned.false_positive_rate[0], thinned.true_positive_rate[0]) == (0, 0)
    assert (thinned.false_positive_rate[-1], thinned.true_positive_rate[-1]) == (1, 1)
    area = np.trapezoid(thinned.true_positive_rate, thinned.false_positive_rate)
    assert area == pytest.approx(curve.auc, abs=1e-3)
    assert thinned.auc == curve.auc


def test_evaluation_names_the_very_model_and_how_it_was_run(evaluated, model):
    evaluation = read(evaluated / "evaluation" / "evaluation.json")
    assert evaluation["model_sha256"] == sha256_of_model(model)
    assert (evaluation["backend"], evaluation["examples"], evaluation["passed"]) == ("LiteRT", 360, True)
    low, high = evaluation["accuracy_interval"]
    assert low < evaluation["accuracy"] < high


def test_examples_repeat_exactly_what_the_model_answers(evaluated, model):
    examples = read(evaluated / "evaluation" / "examples.json")["examples"]
    assert len({example["label"] for example in examples}) == len(examples) == 5
    instances = np.array([example["instance"] for example in examples])
    assert (instances.shape, instances.min(), instances.max() <= 255) == ((5, 28, 28, 1), 0, True)
    probabilities = load_classifier(model).predict(instances.astype("uint8"))
    np.testing.assert_allclose([example["probabilities"] for example in examples], probabilities, atol=1e-6)
    assert [example["prediction"] for example in examples] == [str(row.argmax()) for row in probabilities]


def test_kfp_2_gets_scalars_confusion_matrix_and_roc_in_the_form_its_backend_and_ui_read(evaluated):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    text = (evaluated / "made" / "executor_output.json").read_text()
    output = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())  # refuses what the launcher refuses
    metadata = {
        name: json_format.MessageToDict(listed.artifacts[0].metadata) for name, listed in output.artifacts.items()
    }
    evaluation = read(evaluated / "evaluation" / "evaluation.json")
    assert metadata["metrics"] == {name: evaluation[name] for name in SCALARS}
    matrix = metadata["classification_metrics"]["confusionMatrix"]
    assert [spec["displayName"] for spec in matrix["annotationSpecs"]] == [one["name"] for one in evaluation["classes"]]
    assert [row["row"] for row in matrix["rows"]] == evaluation["confusion_matrix"]
    points = metadata["classification_metrics"]["confidenceMetrics"]
    assert all(point.keys() == {"confidenceThreshold", "recall", "falsePositiveRate"} for point in points)
    assert 2 <= len(points) <= 200
    assert set(output.artifacts) == {"evaluation", *OUTPUTS} - {"accuracy", "passed"}


def test_output_files_hold_what_the_artifacts_say(evaluated):
    evaluation = read(evaluated / "evaluation" / "evaluation.json")
    assert (evaluated / "accuracy").read_text() == str(evaluation["accuracy"])
    assert (evaluated / "passed").read_text() == "true"
    assert read(evaluated / "metrics") == {name: evaluation[name] for name in SCALARS}
    assert "confusionMatrix" in read(evaluated / "classification_metrics")
    assert (evaluated / "report").read_bytes() == (evaluated / "evaluation" / "report.html").read_bytes()


def test_every_answer_is_written_when_asked_for(evaluated, answers):
    labels, probabilities = answers
    with (evaluated / "predictions").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == list(map(str, range(len(labels))))
    assert [row["label"] for row in rows] == list(map(str, labels))
    assert [row["prediction"] for row in rows] == list(map(str, probabilities.argmax(axis=1)))
    assert [float(row["probability"]) for row in rows] == pytest.approx(probabilities.max(axis=1), abs=1e-6)
    right = read(evaluated / "evaluation" / "evaluation.json")["accuracy"] * len(labels)
    assert sum(row["correct"] == "true" for row in rows) == round(right)


def test_kfp_1_gets_scalars_and_plots(evaluated):
    scalars = read(evaluated / "mlpipeline_metrics")["metrics"]
    evaluation = read(evaluated / "evaluation" / "evaluation.json")
    assert {one["name"]: one["numberValue"] for one in scalars} == {name: evaluation[name] for name in SCALARS}
    assert {one["name"]: one["format"] for one in scalars} == SCALARS
    matrix, roc, report = read(evaluated / "mlpipeline_ui_metadata")["outputs"]
    assert {one["storage"] for one in (matrix, roc, report)} == {"inline"}
    assert (report["type"], report["source"]) == ("web-app", (evaluated / "report").read_text())
    assert [column["name"] for column in roc["schema"]] == ["fpr", "tpr", "thresholds"]
    points = [list(map(float, row)) for row in csv.reader(io.StringIO(roc["source"]))]
    assert points[0][:2] == [0, 0]
    assert points[-1][:2] == [1, 1]
    assert all(math.isfinite(number) for point in points for number in point)


def test_kfp_1_matrix_survives_class_names_with_commas_quotes_and_spaces():
    """Read as its UI does: every pair once, each name found among the labels after stripping."""
    labels, probabilities = some_scores(seed=9, classes=4)
    metrics, names = measure(labels, probabilities), ["a, b", 'the "c"', " d ", "é\nf"]
    matrix = v1_views(metrics, names, report="")["outputs"][0]
    rows = list(csv.reader(io.StringIO(matrix["source"].strip())))
    assert len(rows) == len(matrix["labels"]) ** 2
    found = np.zeros((4, 4), int)
    for truth, answer, count in rows:
        found[matrix["labels"].index(truth.strip()), matrix["labels"].index(answer.strip())] = count
    assert found.tolist() == metrics.confusion.tolist()
    specs = classification(metrics, names)["confusionMatrix"]["annotationSpecs"]
    assert [spec["displayName"] for spec in specs] == names


def test_kubeflow_gets_no_confusion_matrix_that_its_metadata_store_would_refuse():
    """That takes messages of up to 4 MB; the report has the matrix all the same."""
    from google.protobuf import json_format, struct_pb2

    for count, drawn in ((200, True), (1000, False)):
        labels, probabilities = some_scores(seed=14, examples=2000, classes=count)
        metrics, names = measure(labels, probabilities), [f"class number {index}" for index in range(count)]
        metadata = classification(metrics, names)
        assert ("confusionMatrix" in metadata) == drawn
        assert metadata["confidenceMetrics"]
        assert json_format.ParseDict(metadata, struct_pb2.Struct()).ByteSize() < 4_000_000
        kinds = [one["type"] for one in v1_views(metrics, names, report="")["outputs"]]
        assert kinds == ["confusion_matrix", "roc", "web-app"][not drawn :]


def test_a_model_that_misses_the_bar_is_a_result_and_no_failure(dataset, model, tmp_path):
    done = evaluate(dataset, model, tmp_path, "--min-accuracy", "0.9999")
    assert done.returncode == 0
    assert done.stderr.endswith("gate accuracy >= 0.9999: failed\n")
    evaluation = read(tmp_path / "evaluation" / "evaluation.json")
    assert (evaluation["passed"], (tmp_path / "passed").read_text()) == (False, "false")
    (rule,) = evaluation["rules"]
    assert (rule["metric"], rule["at_least"], rule["passed"]) == ("accuracy", 0.9999, False)
    assert rule["text"] == f"accuracy {evaluation['accuracy']:.4f} >= 0.9999: failed"


def test_a_wrong_label_in_the_test_split_is_named(step, dataset, model, tmp_path):
    with np.load(dataset / "digits.npz") as arrays:
        labels = arrays["y_test"].copy()
        changed = dict(arrays)
    labels[11] = (labels[11] + 1) % 10
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/digits.npz", **(changed | {"y_test": labels}))
    outputs = ("--evaluation", tmp_path / "evaluation", "--predictions", tmp_path / "predictions")
    assert step("evaluate", "--dataset", tmp_path / "data", "--model", model, *outputs).returncode == 0
    with (tmp_path / "predictions").open() as file:
        rows = list(csv.DictReader(file))
    issues = sorted((row for row in rows if row["label_issue"] == "true"), key=lambda row: float(row["label_quality"]))
    assert issues[0]["image"] == "test[11]"
    assert len(issues) < len(rows) / 10
    report = (tmp_path / "evaluation/report.html").read_text()
    listed = report[report.index("Least probable labels") :]
    assert listed.index("test[11]") < listed.index("</tr>", listed.index("<tbody>"))


@pytest.mark.parametrize("compared", [False, True])
def test_without_a_threshold_no_gate_is_told_of(dataset, model, tmp_path, compared):
    done = evaluate(dataset, model, tmp_path, *(("--baseline", model) if compared else ()))
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith(", no threshold set\n")
    assert (tmp_path / "passed").read_text() == "true"
    assert read(tmp_path / "evaluation" / "evaluation.json")["rules"] == []
    report = (tmp_path / "report").read_text()
    assert "<strong>No threshold set</strong>" in report
    assert "✓ Passed" not in report
    assert ("No threshold is set. The model is compared with" in report) == compared
    assert "<caption>Rules</caption>" not in report


def test_rounding_never_contradicts_a_verdict():
    assert sentence(Threshold("accuracy", 0.9741, 0.95)) == "accuracy 0.9741 >= 0.95: passed"
    assert sentence(Threshold("accuracy", 0.94999, 0.95)) == "accuracy 0.94999 >= 0.95: failed"
    assert sentence(Threshold("accuracy", 0.95, 0.95)) == "accuracy 0.9500 >= 0.95: passed"
    assert Threshold("accuracy", 2 / 3, 2 / 3).passed
    rules = [Threshold("accuracy", 0.8, 0.9), Threshold("accuracy", 0.8, 0.5)]
    assert not Verdict(rules).passed


def test_tensorflow_and_scikit_learn_are_not_imported(dataset, model, tmp_path):
    program = f"""
import runpy, sys
sys.argv = ["evaluate", "--dataset", {str(dataset)!r}, "--model", {str(model)!r}, "--evaluation", {str(tmp_path)!r}]
try:
    runpy.run_module("trainyard.components.evaluate", run_name="__main__")
except SystemExit as end:
    assert not end.code
assert not {{"tensorflow", "sklearn", "scipy", "matplotlib", "kfp"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_model_without_litert_gets_the_same_marks_from_tensorflow(dataset, model, evaluated, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "model.tflite").unlink()
    done = evaluate(dataset, bare, tmp_path)
    assert done.returncode == 0, done.stderr
    ours, before = (read(folder / "evaluation" / "evaluation.json") for folder in (tmp_path, evaluated))
    assert (ours["backend"], before["backend"]) == ("TensorFlow", "LiteRT")
    assert ours["confusion_matrix"] == before["confusion_matrix"]
    assert ours["loss"] == pytest.approx(before["loss"], abs=1e-5)


def npz(folder, **changed):
    """A data set folder of a few blank 28 x 28 images of classes 0 to 9, with some of its arrays replaced."""
    labels = np.arange(10)
    arrays = {"x_train": np.zeros((10, 28, 28), "uint8"), "y_train": labels}
    arrays |= {"x_test": np.zeros((10, 28, 28), "uint8"), "y_test": labels} | changed
    folder.mkdir()
    np.savez(folder / "data.npz", **arrays)
    return folder


@pytest.fixture
def misfits(tmp_path, dataset, model, answers):
    """Folders that evaluate must refuse, by name."""
    from PIL import Image

    for split in ("train", "test"):
        for name in "bcdefghijk":
            folder = tmp_path / "lettered" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((28, 28), "uint8")).save(folder / "1.png")
    shutil.copytree(model, tmp_path / "named")
    card = read(tmp_path / "named" / "model.json") | {"classes": list("abcdefghij")}
    (tmp_path / "named" / "model.json").write_text(json.dumps(card))
    (tmp_path / "occupied" / "evaluation").mkdir(parents=True)
    (tmp_path / "occupied" / "evaluation" / "thesis.txt").touch()
    no_test = {"x_test": np.zeros((0, 28, 28), "uint8"), "y_test": np.arange(0)}
    colour = {f"x_{split}": np.zeros((10, 14, 20, 3), "uint8") for split in ("train", "test")}
    return {
        "no test split": npz(tmp_path / "a", **no_test),
        "other shape": npz(tmp_path / "b", **colour),
        "fewer classes": npz(tmp_path / "c", y_train=np.arange(10) % 3, y_test=np.arange(10) % 3),
        "lettered": tmp_path / "lettered",
        "named model": tmp_path / "named",
        "occupied": tmp_path / "occupied",
        "empty": tmp_path / "out",
        "digits": dataset,
        "model": model,
    }


@pytest.mark.parametrize(
    ("dataset_is", "model_is", "more", "said"),
    [
        ("no test split", "model", (), ["'test'", "train (10)"]),
        ("other shape", "model", (), ["28 x 28 x 1", "14 x 20 x 3"]),
        ("fewer classes", "model", (), ["10 classes", "received 3"]),
        ("lettered", "named model", (), ["'a'", "'b'"]),
        ("digits", "digits", (), ["1/saved_model.pb"]),
        ("model", "model", (), ["x_train"]),
        ("digits", "model", ("--min-accuracy=1.5",), ["--min-accuracy", "0 to 1", "1.5"]),
        ("digits", "model", ("--min-accuracy=nan",), ["--min-accuracy", "nan"]),
        ("digits", "model", ("--min-accuracy=high",), ["--min-accuracy", "high"]),
    ],
)
def test_what_does_not_fit_is_named_with_both_sides_and_nothing_is_written(
    misfits, dataset_is, model_is, more, said, tmp_path
):
    done = evaluate(misfits[dataset_is], misfits[model_is], tmp_path / "out", *more)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(words in done.stderr.splitlines()[-1] for words in said), done.stderr
    assert not (tmp_path / "out").exists()


def test_somebody_elses_folder_is_never_replaced(misfits):
    done = evaluate(misfits["digits"], misfits["model"], misfits["occupied"])
    assert done.returncode == 2
    assert [path.name for path in (misfits["occupied"]).rglob("*") if path.is_file()] == ["thesis.txt"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of two classes, light and dark ones, in all sizes, and a model that was trained on them at 16 x 24."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(4)
    for split, count in (("train", 30), ("test", 12)):
        for name, light in (("dark", 60), ("light", 190)):
            (folder / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.normal(light, 20, (*random.integers(20, 80, 2), 3)).clip(0, 255).astype("uint8")
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{index}.jpg")
    options = [
        "--dataset",
        folder / "data",
        "--model",
        folder / "model",
        "--image-size",
        "16x24",
        "--batch-size",
        "8",
        "--epochs",
        "60",
    ]
    command = [sys.executable, "-m", "trainyard.components.train", *map(str, options)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    return folder


def test_a_model_of_resized_images_gets_images_of_its_size(photos, tmp_path):
    done = evaluate(photos / "data", photos / "model", tmp_path)
    assert done.returncode == 0, done.stderr
    evaluation = read(tmp_path / "evaluation" / "evaluation.json")
    assert (evaluation["examples"], evaluation["accuracy"]) == (24, 1)
    examples = read(tmp_path / "evaluation" / "examples.json")["examples"]
    instances = np.array([example["instance"] for example in examples], "uint8")
    assert instances.shape == (2, 16, 24, 3)
    brought = open_dataset(photos / "data", image_size=(16, 24)).read("test")
    np.testing.assert_array_equal(instances, brought.images[[example["index"] for example in examples]])


def test_images_of_other_sizes_are_refused_where_the_model_was_not_trained_so(photos, model, misfits, tmp_path):
    done = evaluate(photos / "data", model, tmp_path / "out")
    assert (done.returncode, "--image-size" in done.stderr) == (2, True)
    done = evaluate(misfits["digits"], photos / "model", tmp_path / "out")
    assert done.returncode == 2
    assert "expected images of 16 x 24 x 3" in done.stderr
    assert "received 16 x 24 x 1" in done.stderr


def test_damaged_images_are_left_out_and_told_when_that_is_asked_for(photos, tmp_path):
    shutil.copytree(photos / "data", tmp_path / "data")
    for name in ("dark/0.jpg", "light/5.jpg"):
        (tmp_path / "data" / "test" / name).write_bytes((tmp_path / "data" / "test" / name).read_bytes()[:300])
    done = evaluate(tmp_path / "data", photos / "model", tmp_path / "out")
    assert done.returncode == 2
    assert "test/dark/0.jpg: expected an image" in done.stderr
    done = evaluate(tmp_path / "data", photos / "model", tmp_path / "out", "--on-corrupt=skip")
    assert done.returncode == 0, done.stderr
    assert "evaluate  2 damaged images left out: test/dark/0.jpg, test/light/5.jpg\n" in done.stderr
    evaluation = read(tmp_path / "out" / "evaluation" / "evaluation.json")
    assert (evaluation["examples"], evaluation["skipped"]) == (22, ["test/dark/0.jpg", "test/light/5.jpg"])
    assert "damaged, skipped" in (tmp_path / "out" / "report").read_text()
    done = evaluate(tmp_path / "data", photos / "model", tmp_path / "other", "--on-corrupt=ignore")
    assert (done.returncode, "expected fail or skip, received 'ignore'" in done.stderr) == (2, True)


def test_a_split_that_is_read_in_parts_gets_the_same_answers_to_the_last_digit(dataset, model, monkeypatch):
    from trainyard.components.evaluate import scoring

    data = open_dataset(dataset)
    whole = scoring.score(model, scoring.EvaluationSet(data), print)
    monkeypatch.setattr(scoring, "PART", 100_000)
    examples = scoring.EvaluationSet(data)
    parts = scoring.score(model, examples, print)
    assert [len(part.labels) for part in examples.parts()] == [256, 104]
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_array_equal(parts.probabilities, whole.probabilities)
    assert parts.metrics.overall() == whole.metrics.overall()
    some = np.array([300, 7])
    np.testing.assert_array_equal(examples.images(some), whole.examples.images(some))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_test_split_may_be_larger_than_memory(photos, tmp_path):
    """360 MB of large images, of which the step holds a few at a time."""
    blank = np.zeros((1, 200, 200, 3), "uint8")
    few, many = np.repeat(blank, 2, axis=0), np.repeat(blank, 3000, axis=0)
    (tmp_path / "data").mkdir()
    names = np.array(["dark", "light"])
    labels = np.arange(3000) % 2
    np.savez(tmp_path / "data" / "data.npz", x_train=few, y_train=names, x_test=many, y_test=names[labels])
    program = """
import sys
from pathlib import Path
from trainyard.components.evaluate.__main__ import main

def megabytes(name):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(name)) / 1024

try:
    main()
finally:
    print(megabytes("VmHWM"))
"""
    options = ["--dataset", tmp_path / "data", "--model", photos / "model", "--evaluation", tmp_path / "out"]
    command = [sys.executable, "-c", program, *map(str, options)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 250
    assert read(tmp_path / "out" / "evaluation.json")["accuracy"] == 0.5


def test_an_earlier_evaluation_is_replaced(dataset, model, tmp_path):
    for bar, passed in (("0.99999", "false"), ("0", "true")):
        assert evaluate(dataset, model, tmp_path, "--min-accuracy", bar).returncode == 0
        assert (tmp_path / "passed").read_text() == passed
        assert read(tmp_path / "evaluation" / "evaluation.json")["passed"] == (passed == "true")
    assert not list(tmp_path.glob(".*"))


def test_class_names_of_the_data_are_used_where_the_model_only_numbers_them(misfits, tmp_path):
    done = evaluate(misfits["lettered"], misfits["model"], tmp_path / "out")
    assert done.returncode == 0, done.stderr
    evaluation = read(tmp_path / "out" / "evaluation" / "evaluation.json")
    assert [one["name"] for one in evaluation["classes"]] == list("bcdefghijk")


def test_answers_that_are_no_probabilities_of_the_classes_are_refused():
    card = replace(made_up_card(), classes=["a", "b", "c"])
    with pytest.raises(BadInput, match=r"expected 3 probabilities .* received 2"):
        check_answers(Path("model"), card, np.zeros((5, 2), "float32"))
    with pytest.raises(BadInput, match=r"NaN or infinity for 1 of 5"):
        check_answers(Path("model"), card, np.vstack([np.zeros((4, 3)), [[0, np.nan, 1]]]))


@pytest.mark.parametrize("kind", ["a bare SavedModel", "a SavedModel in a numbered folder", "a Keras file"])
def test_models_that_train_did_not_write_get_the_same_marks(kind, dataset, model, evaluated, tmp_path):
    other = tmp_path / "other"
    if kind == "a Keras file":
        shutil.copy(model / "model.keras", other)  # without an ending, as a KFP artifact is
    else:
        shutil.copytree(model / "1", other if "bare" in kind else other / "1")
    done = evaluate(dataset, other, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "with the data set's class names" in done.stderr
    ours, before = (read(folder / "evaluation" / "evaluation.json") for folder in (tmp_path, evaluated))
    assert ours["backend"] == "TensorFlow"
    assert ours["confusion_matrix"] == before["confusion_matrix"]
    assert ours["loss"] == pytest.approx(before["loss"], abs=1e-5)


@pytest.mark.parametrize("kind", ["saved_model.pb", "model.keras"])
def test_a_damaged_model_is_refused_in_one_line(kind, dataset, tmp_path):
    if kind == "saved_model.pb":
        (tmp_path / kind).write_text("no model")
        damaged = tmp_path
    else:
        damaged = tmp_path / kind
        with zipfile.ZipFile(damaged, "w") as archive:
            archive.writestr("thesis.txt", "no model")
    done = evaluate(dataset, damaged, tmp_path / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"{damaged}: expected a ")
    assert not (tmp_path / "out").exists()


def test_answers_that_are_no_probabilities_are_refused_with_what_they_are():
    card = made_up_card()
    with pytest.raises(BadInput, match=r"received answers from -3 to 5 .* softmax"):
        check_answers(Path("model"), card, np.array([[5.0, -3.0], [0.5, 0.5]]))


@pytest.mark.parametrize(
    "changed",
    [{"classes": None}, {"classes": [1, 2]}, {"input": {"shape": "28"}}, {"input": None}, {"parameters": None}],
)
def test_a_card_that_lacks_what_an_evaluation_needs_is_told(changed, dataset, model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "model.json").write_text(json.dumps(read(other / "model.json") | changed))
    done = evaluate(dataset, other, tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"{other}: expected a card model.json with architecture")
    assert not (tmp_path / "out").exists()


def test_a_damaged_litert_file_is_told(dataset, model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "model.tflite").write_bytes((model / "model.tflite").read_bytes()[:5000])
    done = evaluate(dataset, other, tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert f"{other / 'model.tflite'}: expected a LiteRT model" in done.stderr.splitlines()[-1]
