"""`serve predict`: an image goes to a live endpoint, and the answer is shown."""

import csv
import json
import os
import pty
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.serving import answers_of
from trainyard.components.common.datasets import open_dataset

PROJECT = Path(__file__).parent.parent
INDEX = 17


@pytest.fixture(scope="module")
def endpoint(model, tmp_path_factory):
    """Predict URL of a served model."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "trainyard.components.serve"]
    run = {"cwd": PROJECT, "env": {**os.environ, "TRAINYARD_HOME": str(home)}, "check": True, "capture_output": True}
    arguments = ["--target", "process", "--model-uri", model]
    yield subprocess.run([*command, *arguments], text=True, **run).stdout.strip()
    subprocess.run([*command, "stop"], **run)


@pytest.fixture
def predict(step):
    def run(url, *options, env=None):
        return step("serve", "predict", "--endpoint", url, *options, env=env)

    return run


@pytest.fixture(scope="session")
def digit(dataset):
    """One test image, (28, 28) uint8, and its label."""
    test = open_dataset(dataset).read("test")
    return test.images[INDEX, :, :, 0], str(test.labels[INDEX])


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


def test_an_image_of_the_data_set_is_sent_shown_and_saved(predict, endpoint, dataset, model, digit, tmp_path):
    picture, result = tmp_path / "new" / "seen.png", tmp_path / "seen.json"
    options = ["--data", dataset, "--index", INDEX, "--picture", picture, "--result", result]
    done = predict(endpoint, *options)
    assert done.returncode == 0, done.stderr
    image, label = digit
    expected = answers_of(model, image.reshape(1, 28, 28, 1))[0]
    seen = json.loads(result.read_text())
    assert seen["label"] == str(expected.argmax())
    assert seen["probability"] == pytest.approx(expected.max(), abs=1e-5)
    assert (seen["true_label"], seen["index"]) == (label, INDEX)
    assert list(seen["probabilities"]) == [str(index) for index in range(10)]
    assert list(seen["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert f"true label {label}" in done.stdout
    assert f"{100 * expected.max():.1f} %" in done.stdout
    with Image.open(picture) as drawn:
        assert drawn.size[0] > drawn.size[1] > 400
        left = np.asarray(drawn.convert("L"))[48:608, 48:608]
    assert np.array_equal(left[10::20, 10::20], image)


def test_without_an_index_any_test_image_is_sent_and_its_index_told(predict, endpoint, dataset, tmp_path):
    seen = []
    for number in range(3):
        result = tmp_path / f"{number}.json"
        done = predict(endpoint, "--data", dataset, "--result", result)
        assert done.returncode == 0, done.stderr
        seen.append(json.loads(result.read_text()))
        assert f"test image {seen[-1]['index']}\n" in done.stdout
        assert seen[-1]["true_label"] == str(open_dataset(dataset).labels("test")[seen[-1]["index"]])
    assert len({one["index"] for one in seen}) > 1  # of 360, all three alike once in 130,000 times


def test_an_index_that_evaluate_tells_is_of_the_same_image_though_damaged_ones_were_left_out(
    step, predict, endpoint, dataset, model, tmp_path
):
    data, made, result = tmp_path / "data", tmp_path / "made", tmp_path / "seen.json"
    for split in ("train", "test"):
        examples = open_dataset(dataset).read(split)
        for index, (image, label) in enumerate(zip(examples.images[:, :, :, 0], examples.labels, strict=True)):
            (data / split / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(data / split / str(label) / f"{index:04d}.png")
    min((data / "test" / "0").iterdir()).write_bytes(b"")
    outputs = ["--evaluation", made, "--predictions", tmp_path / "predictions.csv"]
    done = step("evaluate", "--dataset", data, "--model", model, "--on-corrupt", "skip", *outputs)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = next(row for row in rows if row["correct"] == "false")
    done = predict(endpoint, "--data", data, "--index", told["index"], "--result", result)
    assert done.returncode == 0, done.stderr
    seen = json.loads(result.read_text())
    assert (seen["label"], seen["true_label"]) == (told["prediction"], told["label"])
    assert seen["probability"] == pytest.approx(float(told["probability"]), abs=1e-5)
    report = (made / "report.html").read_text()
    assert f"Test image {told['index']}: {told['label']}, predicted as {told['prediction']}" in report
    for example in json.loads((made / "examples.json").read_text())["examples"]:
        image = open_dataset(data).images("test", np.array([example["index"]]))[0]
        assert image.tolist() == example["instance"]


def test_plain_characters_are_drawn_where_there_is_no_terminal(predict, endpoint, dataset, digit):
    done = predict(endpoint, "--data", dataset, "--index", INDEX)
    assert "\033" not in done.stdout
    drawn = done.stdout.split("\n")[:14]
    assert set("".join(drawn)) <= set(" .:-=+*#%@")
    rows = digit[0].reshape(14, 2, 28).mean(axis=1)
    lit = np.array([[character != " " for character in line.ljust(28)] for line in drawn])
    assert np.array_equal(lit, rows >= 25.6)


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"COLORTERM": "truecolor"}, "\033[38;2;"), ({"COLORTERM": ""}, "\033[38;5;"), ({"NO_COLOR": "1"}, None)],
)
def test_a_terminal_gets_the_colours_it_knows(endpoint, dataset, settings, code):
    command = [sys.executable, "-m", "trainyard.components.serve", "predict", "--endpoint", endpoint, "--data", dataset]
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | settings
    process = subprocess.Popen([*command, "--index", "3"], cwd=PROJECT, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while chunk := read(ours):
        shown += chunk
    os.close(ours)
    assert process.wait() == 0
    assert ("▀" in shown.decode()) == (code is not None)
    assert code in shown.decode() if code else "\033" not in shown.decode()


def read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def on_paper(digit):
    """The digit as dark ink on a white sheet, large and in colours."""
    return ImageOps.invert(Image.fromarray(digit)).resize((280, 280)).convert("RGB")


def transparent(digit):
    """The digit as black ink on nothing."""
    ink = Image.new("RGBA", (28, 28), "black")
    ink.putalpha(Image.fromarray(digit))
    return ink.resize((140, 140))


def in_16_bits(digit):
    """The digit in 65,536 shades of grey."""
    return Image.fromarray(digit.astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("draw", "name", "options"),
    [
        (Image.fromarray, "digit.png", []),
        (on_paper, "digit.jpg", ["--invert"]),
        (on_paper, "digit.png", ["--invert"]),
        (transparent, "digit.png", ["--invert"]),
        (in_16_bits, "digit.png", []),
    ],
)
def test_any_image_is_brought_to_what_the_model_takes(predict, endpoint, digit, tmp_path, draw, name, options):
    image, label = digit
    draw(image).save(tmp_path / name)
    done = predict(endpoint, "--image", tmp_path / name, "--result", tmp_path / "result.json", *options)
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "result.json").read_text())
    assert seen["label"] == label
    assert seen["true_label"] is None
    assert seen["index"] is None


@pytest.mark.parametrize("wrap", [lambda image: image, lambda image: {"instances": [image]}], ids=["image", "request"])
def test_an_image_in_json_is_sent_as_it_is(predict, endpoint, model, digit, tmp_path, wrap):
    image = digit[0].reshape(28, 28, 1) + 0.25
    (tmp_path / "input.json").write_text(json.dumps(wrap(image.tolist())))
    done = predict(endpoint, "--json", tmp_path / "input.json", "--result", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "result.json").read_text())
    expected = answers_of(model, image[None].astype(np.float32))[0]
    assert list(seen["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert f"{100 * expected.max():.1f} %" in done.stdout


def test_an_endpoint_behind_an_ingress_is_asked_for_by_its_name(predict, dataset, tmp_path):
    hosts = []
    with served(signature(-1, 28, 28, 1), [[0.0] * 9 + [1.0]], hosts) as url:
        options = ["--data", dataset, "--index", "0", "--host-header", "mnist-vision.example.com"]
        done = predict(url, *options)
    assert done.returncode == 0, done.stderr
    assert set(hosts) == {"mnist-vision.example.com"}


def test_proportions_and_colours_are_kept(tmp_path):
    """A red square on a wide white sheet stays square and red in a model of 32 x 32 colour images."""
    from trainyard.components.serve.predict import _read_image

    sheet = Image.new("RGB", (400, 200), "white")
    sheet.paste("red", (150, 50, 250, 150))
    sheet.save(tmp_path / "sheet.png")
    pixels = _read_image(tmp_path / "sheet.png", (32, 32, 3), invert=False)
    assert pixels.shape == (32, 32, 3)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
    assert red.any(axis=0).sum() == red.any(axis=1).sum() == 8
    assert (pixels[0] == 255).all()


def test_a_model_that_learned_from_stretched_images_gets_stretched_ones(predict, tmp_path):
    """From a file and from the data set the same, pixel for pixel as training brought them to that size."""
    random = np.random.default_rng(5)
    for split in ("train", "test"):
        for name, size in (("a", (60, 20)), ("b", (25, 45))):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            image = Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8))
            image.save(tmp_path / "data" / split / name / "1.png")
    told, bodies = signature(-1, 16, 24, 3), []
    told["metadata"]["card"] = {"input": {"shape": [16, 24, 3], "resized": True}, "classes": ["a", "b"]}
    with served(told, [[0.25, 0.75]], bodies=bodies) as url:
        for options in (["--data", tmp_path / "data", "--index", "1"], ["--image", tmp_path / "data/test/b/1.png"]):
            done = predict(url, *options)
            assert done.returncode == 0, done.stderr
    from_data, from_file = (np.array(body["instances"][0]) for body in bodies)
    learned = open_dataset(tmp_path / "data", image_size=(16, 24)).read("test").images[1]
    np.testing.assert_array_equal(from_data, learned)
    np.testing.assert_array_equal(from_file, learned)


@contextmanager
def served(metadata, predictions, hosts=None, bodies=None):
    """An endpoint that answers like TensorFlow Serving, for a model of which it knows nothing but the signature.

    The hosts that it was asked for are added to `hosts`, what it was sent to `bodies`.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(metadata)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if bodies is not None:
                bodies.append(json.loads(body))
            self._answer({"predictions": predictions})

        def _answer(self, content):
            if hosts is not None:
                hosts.append(self.headers["Host"])
            body = json.dumps(content or {"error": "Malformed request"}).encode()
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/models/mnist:predict"
        server.shutdown()


def signature(*shape):
    tensor = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": str(size)} for size in shape]}}
    signatures = {"serving_default": {"inputs": {"image": tensor}, "outputs": {}}}
    return {"model_spec": {"name": "mnist"}, "metadata": {"signature_def": {"signature_def": signatures}}}


def test_classes_without_names_are_numbered(predict, digit, tmp_path):
    Image.fromarray(digit[0]).save(tmp_path / "digit.png")
    with served(signature(-1, 8, 8, 1), [[0.1, 0.2, 0.7]]) as url:
        done = predict(url, "--image", tmp_path / "digit.png", "--result", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["probabilities"] == {"0": 0.1, "1": 0.2, "2": 0.7}


@pytest.mark.parametrize("channels", [2, 4, 10])
@pytest.mark.parametrize("width", [20, 80])  # as it is, and made smaller for a terminal
def test_an_image_of_many_channels_is_shown_by_its_first_ones(predict, tmp_path, channels, width):
    images = np.random.default_rng(1).integers(0, 256, (2, 20, width, channels), dtype=np.uint8)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "bands.npz", x_train=images, y_train=[0, 1], x_test=images, y_test=[0, 1])
    with served(signature(-1, 20, width, channels), [[0.25, 0.75]]) as url:
        done = predict(url, "--data", tmp_path / "data", "--index", "1", "--picture", tmp_path / "seen.png")
    assert done.returncode == 0, done.stderr
    shown = images[1, :, :, :3] if channels > 2 else images[1, :, :, :1].repeat(3, axis=2)
    scale, height = 560 // width, 560 * 20 // width
    with Image.open(tmp_path / "seen.png") as drawn:
        top = 48 + (560 - height) // 2
        seen = np.asarray(drawn)[top : top + height, 48:608]
    assert np.array_equal(seen[scale // 2 :: scale, scale // 2 :: scale], shown)


def test_the_data_set_names_the_classes_of_an_endpoint_without_metadata(predict, dataset, tmp_path):
    with served(None, [[0.0] * 9 + [1.0]]) as url:
        done = predict(url, "--data", dataset, "--index", "0", "--result", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["label"] == "9"


def test_an_endpoint_that_cannot_be_used_is_told_in_one_plain_line(predict, endpoint, dataset, digit, tmp_path):
    image = tmp_path / "digit.png"
    Image.fromarray(digit[0]).save(image)
    gone = "http://127.0.0.1:9/v1/models/mnist:predict"
    with served(None, []) as without, served(signature(-1, 13), [[1.0]]) as table, served({"x": 1}, ["a"]) as odd:
        for url, options, text in [
            (gone, ["--image", image], "does not answer (Connection refused)"),
            (gone, ["--data", dataset, "--index", "0"], "does not answer (Connection refused)"),
            (endpoint.replace("digits", "other"), ["--image", image], "404: Servable not found"),
            (without, ["--image", image], "answered 404"),
            (table, ["--image", image], "no grey or RGB image"),
            (odd, ["--data", dataset, "--index", "0"], "expected one probability per class"),
        ]:
            done = predict(url, *options)
            assert done.returncode == 1, done.stderr
            assert text in last_line(done)
            assert "Traceback" not in done.stderr


def test_bad_input_is_refused_in_one_plain_line(predict, endpoint, dataset, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    images, labels = np.zeros((2, 28, 28), np.uint8), np.array([0, 1])
    (tmp_path / "untested").mkdir()
    np.savez(tmp_path / "untested" / "data.npz", x_train=images, y_train=labels, x_test=images[:0], y_test=labels[:0])
    (tmp_path / "two.json").write_text(json.dumps({"instances": [[[[0]]], [[[0]]]]}))
    for url, options, text in [
        (endpoint, ["--data", dataset, "--index", "360"], "--index: expected 0 to 359"),
        (endpoint, ["--data", dataset, "--index", "-1"], "--index: expected 0 to 359"),
        (endpoint, ["--image", "x.png", "--index", "0"], "--index: expected --data with it"),
        (endpoint, [], "expected one of --image, --json"),
        (endpoint, ["--image", "x.png", "--data", dataset, "--index", "0"], "expected one of --image, --json"),
        (endpoint, ["--data", tmp_path, "--index", "0"], "expected"),
        (
            endpoint,
            ["--data", tmp_path / "untested"],
            "--data: expected a data set with test images, received none",
        ),
        (endpoint, ["--image", "x.png", "--json", "x.json"], "expected one of --image, --json"),
        (endpoint, ["--json", tmp_path / "text.png"], '--json: expected {"instances": [image]}'),
        (endpoint, ["--json", tmp_path / "two.json"], '--json: expected {"instances": [image]}'),
        (endpoint, ["--json", tmp_path / "none.json"], "--json: expected a file"),
        (endpoint, ["--image", tmp_path / "text.png"], "text.png: expected an image (PNG, JPEG, "),
        (endpoint, ["--image", tmp_path / "none.png"], f"--image: {tmp_path / 'none.png'} does not exist"),
        ("http://127.0.0.1:1/", ["--data", dataset, "--index", "0"], "--endpoint: expected a predict URL"),
    ]:
        done = predict(url, *options)
        assert done.returncode == 2, done.stderr
        assert text in last_line(done)
        assert "Traceback" not in done.stderr
