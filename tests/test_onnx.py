"""Models in ONNX, from another team's exporter to a live endpoint: import-model, then the steps as processes."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import urllib.request

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import PROJECT, outside_aws
from tests.onnx_models import MEAN, STD, Network, Regression
from tests.serving import ask, publish
from trainyard.components.common.artifacts.classifier import load_classifier
from trainyard.components.common.artifacts.model import Card
from trainyard.components.common.datasets import open_dataset

DESCRIBED = ["--classes", "0,1,2,3,4,5,6,7,8,9", "--range", "0,1", "--mean", str(MEAN), "--std", str(STD)]


@pytest.fixture(scope="module")
def split(dataset):
    """The test images of the digits."""
    return open_dataset(dataset).read("test")


@pytest.fixture(scope="module")
def network(dataset):
    """A network that knows the digits."""
    train = open_dataset(dataset).read("train")
    return Network(train.images, train.labels)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """A model folder that import-model made."""
    place = tmp_path_factory.mktemp("imported")
    network.save(place / "net.onnx")
    done = import_model(place / "net.onnx", place / "model", *DESCRIBED)
    assert done.returncode == 0, done.stderr
    return place / "model"


@pytest.fixture(scope="module")
def evaluated(folder, dataset, tmp_path_factory):
    """The evaluation of that model."""
    evaluation = tmp_path_factory.mktemp("evaluated") / "evaluation"
    command = [sys.executable, "-m", "trainyard.components.evaluate", "--dataset", dataset, "--model", folder]
    options = ["--min-accuracy", "0.85", "--evaluation", evaluation]
    done = subprocess.run([*command, *options], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return evaluation


def import_model(file, folder, *options):
    command = [sys.executable, "-m", "trainyard", "import-model", file, "--model", folder, *options]
    return subprocess.run(
        list(map(str, command)), cwd=PROJECT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("answers", ["logits", "probabilities"])
@pytest.mark.parametrize("batch", ["images", 1, 7])
def test_answers_are_those_of_the_network_that_was_exported(network, split, tmp_path, layout, answers, batch):
    network.save(tmp_path / "net.onnx", layout, answers, batch)
    done = import_model(tmp_path / "net.onnx", tmp_path / "model", *DESCRIBED)
    assert done.returncode == 0, done.stderr
    card = Card.read(tmp_path / "model")
    assert (card.onnx.layout, card.onnx.answers, card.onnx.opset) == (layout, answers, 17)
    assert (card.input.shape, card.parameters) == (network.shape, network.parameters)
    classifier = load_classifier(tmp_path / "model")
    assert classifier.backend == "ONNX Runtime"
    assert np.abs(classifier.predict(split.images) - network.probabilities(split.images)).max() < 1e-4


def test_it_is_evaluated_published_predicted_and_served_as_any_other(
    step, store, bucket, folder, evaluated, network, split, dataset, tmp_path
):
    told = json.loads((evaluated / "evaluation.json").read_text())
    right = network.probabilities(split.images).argmax(axis=1) == split.labels
    assert told["backend"] == "ONNX Runtime"
    assert told["accuracy"] == pytest.approx(right.mean())
    publish = ["--model", folder, "--evaluation", evaluated, "--bucket", bucket, "--model-name", "net"]
    done = step("export", *publish)
    assert done.returncode == 0, done.stderr
    uri = f"s3://{bucket}/net/1/"
    done = step("predict", "--model", uri, "--source", dataset, "--predictions", tmp_path / "predictions")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "predictions/summary.json").read_text())["scores"]["accuracy"] == told["accuracy"]
    home = {"TRAINYARD_HOME": str(tmp_path / "home")}
    try:
        done = step("serve", "--model-uri", uri, "--target", "process", "--endpoint", tmp_path / "endpoint", env=home)
        assert done.returncode == 0, done.stderr
        assert "loaded, on ONNX Runtime" in done.stderr
        endpoint = (tmp_path / "endpoint").read_text()
        body = json.dumps({"instances": split.images[:3].tolist()}).encode()
        with urllib.request.urlopen(urllib.request.Request(endpoint, body)) as answer:
            received = json.load(answer)["predictions"]
        assert np.abs(np.array(received) - network.probabilities(split.images[:3])).max() < 1e-4
        with urllib.request.urlopen(endpoint.replace("/v1/", "/v2/").removesuffix(":predict")) as answer:
            assert json.load(answer)["platform"] == "onnxruntime_onnx"
    finally:
        step("serve", "stop", env=home)


def test_a_client_is_told_that_the_model_failed_and_the_log_why(step, network, split, tmp_path):
    """A network that looks up a value for each mean brightness, and has none for those of white images."""
    means = helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0)  # 0 to 255
    index = helper.make_node("Cast", ["mean"], ["index"], to=TensorProto.INT64)
    rows = helper.make_node("Gather", ["table", "index"], ["logits"])
    table = numpy_helper.from_array(np.tile(np.eye(10, dtype=np.float32), (20, 1)), "table")
    sizes = [("input", TensorProto.FLOAT, ["images", 1, *network.shape[:2]])]
    takes = [helper.make_tensor_value_info(*one) for one in sizes]
    gives = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["images", 10])]
    graph = helper.make_graph([means, index, rows], "lookup", takes, gives, [table])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    done = import_model(
        tmp_path / "net.onnx", tmp_path / "model", "--classes", "0,1,2,3,4,5,6,7,8,9", "--range", "0,255"
    )
    assert done.returncode == 0, done.stderr
    uri = publish(tmp_path / "model", tmp_path / "1", 1)
    home = {"TRAINYARD_HOME": str(tmp_path / "home")}
    options = ["--target", "process", "--model-name", "lookup", "--endpoint", tmp_path / "endpoint"]
    try:
        done = step("serve", "--model-uri", uri, *options, env=home)
        assert done.returncode == 0, done.stderr
        url = (tmp_path / "endpoint").read_text()
        dark, white = np.zeros((1, *network.shape)), np.full((1, *network.shape), 255)
        assert ask(url, {"instances": dark.tolist()})[0] == 200
        status, told = ask(url, {"instances": white.tolist()})
        assert (status, told) == (500, {"error": "the model server failed on this request; its log has the cause"})
        assert ask(url, {"instances": dark.tolist()})[0] == 200
        [log] = (tmp_path / "home").rglob("*.log")
        assert "Gather" in log.read_text()
    finally:
        step("serve", "stop", env=home)


def test_a_model_of_rows_of_numbers_answers_pixels_row_by_row(tmp_path):
    """As scikit-learn's do: labels come before the probabilities."""
    regression = Regression((4, 5, 3))
    regression.save(tmp_path / "net.onnx")
    described = ["--classes", "a,b,c", "--range", "0,255", "--image-shape", "4,5,3"]
    done = import_model(tmp_path / "net.onnx", tmp_path / "model", *described)
    assert done.returncode == 0, done.stderr
    card = Card.read(tmp_path / "model")
    assert (card.onnx.layout, card.onnx.answers, card.onnx.output) == ("flat", "probabilities", "scores")
    assert (card.input.shape, card.parameters) == ((4, 5, 3), 183)
    images = np.random.default_rng(1).integers(0, 256, (9, 4, 5, 3)).astype(np.uint8)
    answers = load_classifier(tmp_path / "model").predict(images)
    assert np.abs(answers - regression.probabilities(images)).max() < 1e-5


def test_of_several_outputs_the_one_with_the_classes_answers(network, split, tmp_path):
    network.save_two(tmp_path / "net.onnx")
    done = import_model(tmp_path / "net.onnx", tmp_path / "model", *DESCRIBED)
    assert done.returncode == 0, done.stderr
    answers = load_classifier(tmp_path / "model").predict(split.images)
    assert np.abs(answers - network.probabilities(split.images)).max() < 1e-4


def test_an_input_of_bytes_takes_pixels_as_they_are(network, tmp_path):
    """A range of 0 to 1 would round all pixels to 0."""
    from onnx import TensorProto
    from onnx.helper import make_node as node

    nodes = [
        node("Cast", ["input"], ["pixels"], to=TensorProto.FLOAT),
        node("Conv", ["pixels", "kernel"], ["seen"], strides=[2, 2]),
        node("Flatten", ["seen"], ["flat"]),
        node("Gemm", ["flat", "weights", "bias"], ["logits"]),
    ]
    height, width, channels = network.shape
    sizes = [("input", TensorProto.UINT8, ["images", channels, height, width])]
    network.write(tmp_path / "net.onnx", nodes, sizes, "logits")
    done = import_model(tmp_path / "net.onnx", tmp_path / "model", "--classes", "0,1,2,3,4,5,6,7,8,9")
    assert done.returncode == 0, done.stderr
    assert Card.read(tmp_path / "model").onnx.range == (0, 255)
    done = import_model(tmp_path / "net.onnx", tmp_path / "other", *DESCRIBED)
    assert done.returncode == 2
    assert "expected the range 0,255 without mean and std for an input of uint8" in done.stderr.splitlines()[-1]


def test_select_compares_it_with_a_keras_model(step, folder, evaluated, model, dataset, tmp_path):
    options = ["--dataset", dataset, "--model", model, "--evaluation", tmp_path / "keras"]
    assert step("evaluate", *options).returncode == 0
    sides = ["--model-a", folder, "--evaluation-a", evaluated, "--model-b", model, "--evaluation-b", tmp_path / "keras"]
    done = step("select", *sides, "--model", tmp_path / "best", "--evaluation", tmp_path / "of-best")
    assert done.returncode == 0, done.stderr
    assert re.search(r"dense 0\.\d+ > net 0\.\d+ by accuracy", done.stderr)


def test_what_the_file_does_not_tell_is_asked_for_on_a_terminal_alone(network, tmp_path):
    network.save(tmp_path / "net.onnx")
    done = import_model(tmp_path / "net.onnx", tmp_path / "model")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("--classes: expected a value, which the ONNX file does not tell")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trainyard", "import-model", tmp_path / "net.onnx", "--model", tmp_path / "model"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, b"a,b,c,d,e,f,g,h,i,j\n0,255\n")
        assert process.wait(timeout=45) == 0, os.read(ours, 10_000)
    os.close(ours)
    card = Card.read(tmp_path / "model")
    assert card.classes == list("abcdefghij")
    assert card.onnx.range == (0, 255)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("dynamic", "expected a fixed height, width and number of channels, received images x 1 x height x width"),
        ("two inputs", "expected one input, the images, received 2 (input, other)"),
        ("opset", "received one of opset 99"),
        ("float16", "expected an input of float32 or uint8, received float16; convert it with keep_io_types=True"),
        ("zipmap", "a dictionary for each image; export it with skl2onnx's options={'zipmap': False}"),
        ("damaged", "received a damaged or other file"),
        ("missing", "expected an ONNX file"),
    ],
)
def test_a_file_that_cannot_be_taken_is_told_in_one_line(network, tmp_path, how, words):
    from onnx import TensorProto
    from onnx.helper import make_node as node

    file = tmp_path / "net.onnx"
    if how == "dynamic":
        nodes = [
            node("GlobalAveragePool", ["input"], ["pooled"]),
            node("Flatten", ["pooled"], ["flat"]),
        ]
        network.write(file, nodes, [("input", TensorProto.FLOAT, ["images", 1, "height", "width"])], "flat")
    elif how == "two inputs":
        nodes = [node("Add", ["input", "other"], ["sum"])]
        network.write(file, nodes, [(name, TensorProto.FLOAT, [None, 10]) for name in ("input", "other")], "sum")
    elif how == "opset":
        network.save(file, opset=99)
    elif how == "float16":
        nodes = [
            node("Cast", ["input"], ["cast"], to=TensorProto.FLOAT),
            node("Flatten", ["cast"], ["flat"]),
        ]
        network.write(file, nodes, [("input", TensorProto.FLOAT16, [None, 10, 1, 1])], "flat")
    elif how == "zipmap":
        Regression(network.shape).save(file, zipmap=True)
    elif how == "damaged":
        file.write_bytes(b"no model")
    done = import_model(file, tmp_path / "model", *DESCRIBED)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--classes", "a,b"], "--classes: expected 10 names, as many as the model answers, received 2"),
        (["--mean", "0.1,0.2"], "expected a mean for each of 1 channels, received [0.1, 0.2]"),
        (["--std", "0"], "expected standard deviations above 0"),
        (["--range", "1,0"], "expected a range from low to high"),
        (["--range", "0,inf"], "expected a range from low to high"),
        (["--layout", "CHW"], "--layout: expected NCHW or NHWC for an input of 1 x 28 x 28, received 'CHW'"),
        (["--layout", "flat"], "--layout: expected NCHW or NHWC for an input of 1 x 28 x 28, received 'flat'"),
        (["--image-shape", "28,28,3"], "--image-shape: expected height, width and channels of an input of 1 x 28 x 28"),
        (["--image-shape", "28,28"], "--image-shape: expected three sizes as 28,28,1"),
        (["--answers", "probabilities"], "end the model in a softmax"),
    ],
)
def test_a_description_that_does_not_fit_is_told_in_one_line(network, tmp_path, options, words):
    network.save(tmp_path / "net.onnx")
    done = import_model(tmp_path / "net.onnx", tmp_path / "model", *DESCRIBED, *options)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("weights_beside", [False, True])
def test_tritons_layout_is_a_model_repository_of_the_same_bytes(network, tmp_path, weights_beside):
    """<repository>/<model>/<version>/model.onnx; weights in a file of their own stay next to it."""
    import onnx

    network.save(tmp_path / "net.onnx")
    if weights_beside:
        beside = {"save_as_external_data": True, "location": "net.onnx.data", "size_threshold": 0}
        onnx.save(onnx.load(tmp_path / "net.onnx"), tmp_path / "net.onnx", **beside)
    assert import_model(tmp_path / "net.onnx", tmp_path / "model", *DESCRIBED, "--triton").returncode == 0
    repository = tmp_path / "model" / "triton"
    expected = {
        "model/1/model.onnx": "net.onnx",
        **({"model/1/net.onnx.data": "net.onnx.data"} if weights_beside else {}),
    }
    found = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    assert found == set(expected)
    for copy, source in expected.items():
        assert (repository / copy).read_bytes() == (tmp_path / source).read_bytes()


def test_weights_in_files_of_any_name_come_along_and_missing_ones_are_named(network, split, tmp_path):
    import onnx

    network.save(tmp_path / "net.onnx")
    (tmp_path / "exported").mkdir()
    file = tmp_path / "exported" / "net.onnx"
    beside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(onnx.load(tmp_path / "net.onnx"), file, **beside)
    assert import_model(file, tmp_path / "model", *DESCRIBED).returncode == 0
    (tmp_path / "exported" / "weights.bin").unlink()
    answers = load_classifier(tmp_path / "model").predict(split.images)
    assert np.abs(answers - network.probabilities(split.images)).max() < 1e-4
    done = import_model(file, tmp_path / "other", *DESCRIBED)
    assert done.returncode == 2
    assert "expected its weights next to it, received no weights.bin; copy them there" in done.stderr.splitlines()[-1]


def test_without_onnx_runtime_the_image_to_take_is_named(folder, dataset, tmp_path):
    hidden = tmp_path / "onnxruntime.py"
    hidden.write_text("raise ModuleNotFoundError('hidden', name='onnxruntime')\n")
    command = [sys.executable, "-m", "trainyard.components.evaluate", "--dataset", dataset, "--model", folder]
    done = subprocess.run(
        [*command, "--evaluation", tmp_path / "evaluation"],
        cwd=PROJECT,
        env=outside_aws() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "use the image whose tag ends in -onnx" in done.stderr.splitlines()[-1]


def test_a_card_that_tells_of_another_model_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    told = json.loads((folder / "model.json").read_text())
    told["onnx"]["input"] = "pixels"
    (tmp_path / "model" / "model.json").write_text(json.dumps(told))
    with pytest.raises(Exception, match="expected an input 'pixels', as its card says, received 'input'"):
        load_classifier(tmp_path / "model")


def test_a_cluster_without_our_predictor_image_is_not_given_one(serve_on_cluster, published):
    """KServe's TensorFlow Serving, the default, cannot load it."""
    done = serve_on_cluster(uri=published(4, onnx={"input": "images"}))
    assert done.returncode == 2, done.stderr
    assert "pass --image with trainyard-predictor whose tag ends in -onnx" in done.stderr.splitlines()[-1]
