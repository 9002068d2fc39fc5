"""The model server and its clients: compressed bodies, binary tensors, image files, odd numbers, large requests."""

import asyncio
import base64
import gzip
import io
import json
import os
import random
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tritonclient.http as triton
from openapi_spec_validator import validate
from PIL import Image

from tests.serving import answers_of, ask
from trainyard.components.common.artifacts.classifier import load_classifier
from trainyard.components.common.datasets import open_dataset
from trainyard.components.common.datasets.decoding import decode_images
from trainyard.components.serve.here.service import WantedVersion
from trainyard.components.serve.server import worker
from trainyard.components.serve.server.metrics import ServerMetrics
from trainyard.components.serve.server.protocols import tensorflow_serving
from trainyard.components.serve.server.protocols.request import Refused
from trainyard.components.serve.server.worker import LoadedVersion

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def images(dataset):
    return open_dataset(dataset).read("test").images[:20]


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
    """Address of a server of the digits, as version 1 of `mnist`."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "trainyard.components.serve"]
    run = {"cwd": PROJECT, "env": {**os.environ, "TRAINYARD_HOME": str(home)}, "check": True, "capture_output": True}
    options = ["--target", "process", "--model-name", "mnist", "--model-uri", model, "--no-ui"]
    done = subprocess.run([*command, *options], text=True, **run)
    yield done.stdout.partition("/v1")[0]
    subprocess.run([*command, "stop"], **run)


def send(url, body, **headers):
    """Status, headers and body of an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def rows(images):
    return json.dumps({"instances": images.tolist()}).encode()


# Compressed bodies


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_answered_as_a_plain_one(base, model, images, encoding, compress):
    status, _, content = send(f"{base}/v1/models/mnist:predict", compress(rows(images)), Content_Encoding=encoding)
    assert status == 200
    assert np.allclose(json.loads(content)["predictions"], answers_of(model, images), atol=1e-5)


@pytest.mark.parametrize(
    ("encoding", "body", "status", "text"),
    [
        ("br", b"x", 415, "expected Content-Encoding gzip or deflate, received 'br'"),
        ("gzip", b'{"instances": []}', 400, "received something else"),
        ("gzip", gzip.compress(b"[]" * 1000, mtime=0)[:-9], 400, "cut off"),
        ("gzip", gzip.compress(b"[]", mtime=0) * 2, 400, "bytes behind it"),
        ("gzip", b"", 400, "cut off"),
        ("gzip", gzip.compress(bytes(70 * 2**20), mtime=0), 413, "expected a body of at most"),
    ],
)
def test_a_body_that_cannot_be_decompressed_is_refused_with_the_reason(base, encoding, body, status, text):
    answered, headers, content = send(f"{base}/v1/models/mnist:predict", body, Content_Encoding=encoding)
    assert answered == status
    assert text in json.loads(content)["error"]
    assert (headers["Accept-Encoding"] == "gzip, deflate") == (status == 415)


# Binary tensors, as Triton's client sends them


@pytest.fixture(scope="module")
def client(base):
    client = triton.InferenceServerClient(base.removeprefix("http://"))
    yield client
    client.close()


def tensor(images, datatype):
    made = triton.InferInput("image", list(images.shape), datatype)
    made.set_data_from_numpy(images.astype(np.float32 if datatype == "FP32" else np.uint8))
    return made


@pytest.mark.parametrize("datatype", ["FP32", "UINT8"])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("outputs", [None, [True], [False]], ids=["default", "binary", "json"])
def test_tritons_client_gets_the_models_own_numbers(client, model, images, datatype, compression, outputs):
    wanted = outputs and [triton.InferRequestedOutput("output_0", binary_data=binary) for binary in outputs]
    result = client.infer(
        "mnist",
        [tensor(images, datatype)],
        outputs=wanted,
        request_id="seven",
        request_compression_algorithm=compression,
    )
    assert np.allclose(result.as_numpy("output_0"), answers_of(model, images), atol=1e-5)
    assert result.get_response()["id"] == "seven"
    assert result.get_response()["model_version"] == "1"


def test_tritons_client_finds_server_and_model(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mnist")
    assert client.is_model_ready("mnist", "1")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("mnist")["inputs"][0]["shape"] == [-1, 28, 28, 1]


@pytest.mark.parametrize("binary", [True, False])
def test_as_many_classes_as_asked_for_come_in_place_of_probabilities(client, model, images, binary):
    wanted = [triton.InferRequestedOutput("output_0", binary_data=binary, class_count=3)]
    answered = client.infer("mnist", [tensor(images, "UINT8")], outputs=wanted).as_numpy("output_0")
    assert answered.shape == (20, 3)
    expected = answers_of(model, images)
    for row, probabilities in zip(answered, expected, strict=True):
        told = [(one.decode() if binary else one).split(":") for one in row]
        best = np.argsort(-probabilities)[:3]
        assert [int(index) for _, index, _ in told] == best.tolist()
        assert [name for _, _, name in told] == [str(index) for index in best]
        assert np.allclose([float(value) for value, _, _ in told], probabilities[best], atol=1e-5)


def test_more_classes_than_there_are_are_all_of_them(client, images):
    wanted = [triton.InferRequestedOutput("output_0", class_count=99)]
    assert client.infer("mnist", [tensor(images, "UINT8")], outputs=wanted).as_numpy("output_0").shape == (20, 10)


def binary_request(size=784, told=784, datatype="UINT8", **more):
    parameters = {"binary_data_size": told}
    head = {"name": "image", "shape": [1, 28, 28, 1], "datatype": datatype, "parameters": parameters}
    text = json.dumps({"inputs": [head], **more}).encode()
    return text + bytes(size), {"Inference_Header_Content_Length": str(len(text))}


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (
            binary_request(size=783),
            "expected 784 bytes for UINT8 of shape [1, 28, 28, 1], received binary_data_size 784",
        ),
        (binary_request(size=785), "and 785 bytes"),
        (binary_request(told=10**18), "received binary_data_size 1000"),
        (binary_request(told="784"), "expected binary_data_size of type int, received '784'"),
        (binary_request(told=None), "expected binary_data_size of the tensor behind the JSON, received none"),
        ((binary_request()[0], {"Inference_Header_Content_Length": "99999"}), "expected 99999 bytes of JSON"),
        ((binary_request()[0], {"Inference_Header_Content_Length": "-1"}), "expected a number of bytes, received '-1'"),
        ((binary_request()[0], {"Inference_Header_Content_Length": "3"}), "expected JSON"),
        ((binary_request()[0], {}), "expected JSON"),
        (
            (lambda body, headers: (body[:-3136] + struct.pack("<784f", *[np.nan] * 784), headers))(
                *binary_request(3136, 3136, "FP32")
            ),
            "expected finite numbers",
        ),
        (binary_request(outputs=[{"name": "output_0", "parameters": {"classification": -1}}]), "of at least 1"),
        (binary_request(outputs=[{"name": "output_0", "parameters": {"classification": True}}]), "of type int"),
        (binary_request(outputs=[{"name": "output_0", "parameters": {"classification": 1.5}}]), "of type int"),
        (binary_request(outputs=[{"name": "output_0"}] * 2), "expected output_0 once"),
        (
            binary_request(outputs=[{"name": "output_0", "parameters": {"shared_memory_region": "r"}}]),
            "received a region of shared memory",
        ),
    ],
)
def test_a_binary_request_that_is_none_gets_400_and_the_reason(base, request_, text):
    body, headers = request_
    status, _, content = send(f"{base}/v2/models/mnist/infer", body, **headers)
    assert status == 400
    assert text in json.loads(content)["error"]


# Image files


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_base64(content):
    return {"b64": base64.b64encode(content).decode()}


@pytest.fixture(scope="module")
def photos():
    """A colour JPEG, a PNG with transparency, and a PNG of the model's own size."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    smooth = Image.fromarray(noise).resize((300, 200), Image.Resampling.BILINEAR)
    drawing = smooth.convert("RGBA")
    drawing.putalpha(Image.linear_gradient("L").resize(drawing.size))
    return [
        encoded(smooth, "JPEG", quality=90),
        encoded(drawing, "PNG"),
        encoded(smooth.convert("L").resize((28, 28)), "PNG"),
    ]


@pytest.mark.parametrize(
    "write",
    [
        lambda files: {"instances": files},
        lambda files: {"instances": [{"image": one} for one in files]},
        lambda files: {"inputs": files},
        lambda files: {"inputs": {"image": files}},
    ],
    ids=["rows", "named rows", "columns", "named columns"],
)
def test_image_files_in_base64_are_read_as_the_other_steps_read_them(base, model, photos, write):
    pixels = np.concatenate([decode_images([one], (28, 28, 1), str, resize=True) for one in photos])
    status, answer = ask(f"{base}/v1/models/mnist:predict", write([as_base64(one) for one in photos]))
    assert status == 200
    (probabilities,) = answer.values()
    assert np.allclose(probabilities, answers_of(model, pixels), atol=1e-5)


def bomb(width, height):
    """A small PNG of many pixels."""
    return encoded(Image.new("1", (width, height)), "PNG")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (lambda files: [{"b64": "%%%"}], "instances[0]: expected base64"),
        (lambda files: [{"b64": 7}], 'instances[0]: expected {"b64": base64}'),
        (lambda files: [as_base64(files[0]), [[[0]]]], "instances[1]: expected"),
        (lambda files: [as_base64(files[0]), as_base64(b"hello")], "instances[1]: expected an image"),
        (lambda files: [as_base64(files[0][: len(files[0]) // 2])], "instances[0]: expected an image"),
        (lambda files: [as_base64(bomb(10_000, 10_000))], "at most 25,000,000 pixels, received 10000 x 10000"),
        (lambda files: [{"image_bytes": as_base64(files[0])}], 'an image file in base64 as {"b64": ...}'),
        (lambda files: [as_base64(files[0])["b64"]], "expected numbers of shape [-1,28,28,1]"),
    ],
)
def test_what_is_no_image_file_is_refused_with_its_place(base, photos, values, text):
    status, answer = ask(f"{base}/v1/models/mnist:predict", {"instances": values(photos)})
    assert status == 400
    assert text in answer["error"]
    assert "--on-corrupt" not in answer["error"]


# Numbers


def written(value, datatype="FP32"):
    """Requests of each form with one number that is no pixel."""
    plain = json.dumps(np.zeros((1, 28, 28, 1), int).tolist()).replace("0", value, 1)
    flat = f"[{value}{', 0' * 783}]"
    v2 = '{"inputs": [{"name": "image", "shape": [1, 28, 28, 1], "datatype": "%s", "data": %s}]}'
    return [
        ("v1/models/mnist:predict", f'{{"instances": {plain}}}'),
        ("v1/models/mnist:predict", f'{{"inputs": {{"image": {plain}}}}}'),
        ("v2/models/mnist/infer", v2 % (datatype, flat)),
        ("v2/models/mnist/infer", v2 % (datatype, plain)),
    ]


@pytest.mark.parametrize("value", ["1e39", "-1e39", "1e400", "NaN", "Infinity", "null", "true", '"0"', "[]", "{}"])
def test_a_value_that_is_no_number_for_the_model_is_refused(base, value):
    for path, body in written(value):
        status, answer = ask(f"{base}/{path}", raw=body.encode())
        assert status == 400, body[:100]
        assert "expected" in answer["error"] or "JSON Parse error" in answer["error"]


def read(body, version):
    return tensorflow_serving.read(body, version.shape)


def test_a_batch_of_any_size_gets_the_same_answers(model, images):
    classifier = load_classifier(model, few=True)
    expected = answers_of(model, images)
    for count in (1, 3, 8, 20, 2, *[1] * 250, 5):
        answer = classifier.predict(images[:count])
        assert answer.shape == (count, 10)
        assert np.allclose(answer, expected[:count], atol=1e-6)


@pytest.fixture(params=["quick", "slow"])
def pace(request, monkeypatch):
    """Whether the model runs in the event loop or in a thread of its own."""
    monkeypatch.setattr(worker, "_seconds", {"quick": lambda call: 0.0, "slow": lambda call: 1.0}[request.param])
    return request.param


async def loaded(model, pace):
    """A version that is available."""
    version = LoadedVersion(WantedVersion(1, "", "", 100), model, ServerMetrics())
    await version.load()
    assert version.quick is (pace == "quick")
    return version


def test_requests_that_wait_are_answered_each_with_its_own(model, images, pace):
    async def asked():
        version = await loaded(model, pace)
        counts = [1, 40, 3, 1, 33, 8, 20, 1]
        bodies = [rows(np.resize(images[index:], (count, 28, 28, 1))) for index, count in enumerate(counts)]
        return await asyncio.gather(*(version.predict(body, read) for body in [*bodies, b"{}"]), return_exceptions=True)

    *answers, refused = asyncio.run(asked())
    assert isinstance(refused, Refused)
    for index, answer in enumerate(answers):
        expected = answers_of(model, answer.images)
        assert np.array_equal(answer.images[0], images[index])
        assert np.allclose(json.loads(answer.content)["predictions"], expected, atol=1e-5)


def test_a_version_that_goes_answers_the_large_requests_it_was_given(model, images, pace):
    """Their bodies are read elsewhere before the model gets them."""

    async def asked():
        version = await loaded(model, pace)
        body = rows(np.tile(images, (20, 1, 1, 1)))
        answers = [
            asyncio.create_task(
                version.predict(body, lambda body, version: tensorflow_serving.read(body, version.shape))
            )
            for _ in range(6)
        ]
        await asyncio.sleep(0)
        await version.unload()
        return await asyncio.wait_for(asyncio.gather(*answers), 20)

    expected = np.tile(answers_of(model, images), (20, 1))
    for answer in asyncio.run(asked()):
        assert np.allclose(json.loads(answer.content)["predictions"], expected, atol=1e-5)


class Overflowing:
    """A model whose sums leave float32."""

    backend = "LiteRT"

    def predict(self, images):
        return np.full((len(images), 10), np.nan, np.float32)


@pytest.mark.parametrize("count", [1, 40])
def test_numbers_too_large_for_the_model_are_refused_rather_than_answered_with_null(model, count, pace):
    async def asked():
        version = await loaded(model, pace)
        version._classifier = Overflowing()
        body = rows(np.full((count, 28, 28, 1), 3e38))
        return await version.predict(body, read)

    with pytest.raises(Refused, match="expected numbers from 0 to 255"):
        asyncio.run(asked())


@pytest.mark.parametrize("value", ["0.5", "-1", "256"])
def test_uint8_takes_whole_numbers_from_0_to_255(base, value):
    for path, body in written(value, "UINT8")[2:]:
        assert ask(f"{base}/{path}", raw=body.encode())[0] == 400


@pytest.mark.parametrize("count", [2**31, 2**62, 2**64, 10**30])
def test_a_shape_beyond_all_numbers_is_refused(base, count):
    tensor = {"name": "image", "shape": [count, 28, 28, 1], "datatype": "UINT8", "data": [0] * 784}
    status, answer = ask(f"{base}/v2/models/mnist/infer", {"inputs": [tensor]})
    assert status == 400
    assert "shape" in answer["error"]


# Large requests


def memory(base):
    """Resident memory of the server, now and at its most, in bytes."""
    _, _, content = send(f"{base}/metrics", None)
    (line,) = [line for line in content.decode().splitlines() if line.startswith("process_resident_memory_bytes ")]
    return float(line.split()[1])


SMALL_BUT_HEAVY = {
    "a long string among short ones": lambda: {"instances": ["a" * 200_000, *["b"] * 10_000]},
    "empty lists": lambda: {"instances": [[]] * 80_000},
    "empty objects": lambda: {"instances": [{}] * 80_000},
    "lists of unequal length": lambda: {"instances": [[0] * 100_000, [0]]},
    "deep lists": lambda: {"instances": json.loads("[" * 500 + "]" * 500)},
}


@pytest.mark.parametrize("body", SMALL_BUT_HEAVY.values(), ids=SMALL_BUT_HEAVY)
def test_a_small_body_takes_little_memory(base, body):
    before, most, answered = memory(base), 0.0, threading.Event()

    def watch():
        nonlocal most
        while not answered.is_set():
            most = max(most, memory(base))

    watching = threading.Thread(target=watch)
    watching.start()
    assert ask(f"{base}/v1/models/mnist:predict", body())[0] == 400
    answered.set()
    watching.join()
    assert most - before < 100 * 2**20


def test_json_of_too_many_values_is_refused_unread(base):
    status, answer = ask(f"{base}/v1/models/mnist:predict", raw=b'{"instances": [' + b"{}," * 10**6 + b"{}]}")
    assert status == 413
    assert "other JSON of at most 1,000,000 values" in answer["error"]


def test_a_large_request_is_answered_with_others_in_between(base, model, images):
    """2,000 images in one request: a client that asks for one image at a time is answered meanwhile."""
    large = np.tile(images, (100, 1, 1, 1))
    done, between = threading.Event(), 0

    def ask_for_many():
        status, _, content = send(f"{base}/v1/models/mnist:predict", body)
        answers.append((status, json.loads(content)["predictions"]))
        done.set()

    body, answers = rows(large), []
    asking = threading.Thread(target=ask_for_many)
    asking.start()
    while not done.is_set():
        assert ask(f"{base}/v1/models/mnist:predict", {"instances": images[:1].tolist()})[0] == 200
        between += 1
    asking.join()
    status, predictions = answers[0]
    assert status == 200
    assert np.allclose(predictions, np.tile(answers_of(model, images), (100, 1)), atol=1e-5)
    assert between > 3


def test_memory_stays_after_thousands_of_mixed_requests(base, images, photos):
    """Here 800; `make chaos` sends 20,000."""
    pick = random.Random(0)
    bodies = [
        ("v1/models/mnist:predict", rows(images[:1])),
        ("v1/models/mnist:predict", rows(np.tile(images, (10, 1, 1, 1)))),
        ("v1/models/mnist:predict", json.dumps({"instances": [as_base64(one) for one in photos]}).encode()),
        ("v1/models/mnist:predict", b'{"instances": [[1,'),
        ("v2/models/mnist/infer", written("7")[2][1].encode()),
        ("metrics", None),
        ("openapi.json", None),
    ]
    before = 0.0
    for number in range(800):
        path, body = pick.choice(bodies)
        send(f"{base}/{path}", body)
        if number == 200:
            before = memory(base)
    assert memory(base) - before < 20 * 2**20


# The description


@pytest.fixture(scope="module")
def description(base):
    return ask(f"{base}/openapi.json")[1]


def test_the_interface_is_described_by_valid_openapi(description):
    validate(description)
    assert description["info"]["title"] == "mnist"


def conforms(description, schema, value):
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{schema}", "components": description["components"]})


def test_every_described_path_is_there_and_answers_as_described(base, description):
    for path, operations in description["paths"].items():
        asked = path.replace("{version}", "1")
        status, headers, content = send(f"{base}{asked}", b"{}" if "post" in operations else None)
        assert status == (400 if "post" in operations else 200), path
        (operation,) = [operation for name, operation in operations.items() if name != "parameters"]
        described = operation["responses"][str(status)]["content"]
        media_type = headers["Content-Type"].partition(";")[0]
        if media_type == "application/json":
            conforms(description, described[media_type]["schema"]["$ref"].rpartition("/")[2], json.loads(content))
        else:
            assert media_type in described


def test_requests_and_answers_conform_to_the_description(base, description, images, photos):
    pixels, file = images[0].tolist(), as_base64(photos[0])
    v1 = [
        {"instances": [pixels]},
        {"instances": [{"image": pixels}], "signature_name": "serving_default"},
        {"instances": [file]},
        {"inputs": [pixels]},
        {"inputs": {"image": [file]}},
    ]
    for request in v1:
        conforms(description, "PredictRequest", request)
        status, answer = ask(f"{base}/v1/models/mnist:predict", request)
        assert status == 200
        conforms(description, "PredictResponse", answer)
    for request in ({"instances": [[[0]]]}, {"instances": []}, {"instances": [{"image_bytes": file}]}):
        with pytest.raises(jsonschema.ValidationError):
            conforms(description, "PredictRequest", request)
        assert ask(f"{base}/v1/models/mnist:predict", request)[0] == 400
    request = json.loads(written("7")[2][1])
    conforms(description, "InferRequest", request)
    conforms(description, "InferResponse", ask(f"{base}/v2/models/mnist/infer", request)[1])
