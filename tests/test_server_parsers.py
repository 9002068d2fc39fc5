"""Whatever a client sends, the parsers of the model server read images of the right shape or refuse it with a reason.

`FUZZ_CASES=2000` tries more than the 100 cases of each kind.
"""

import base64
import io
import json
import os
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from tests.made_up import made_up_card
from trainyard.components.serve.server.access import Access, host_name
from trainyard.components.serve.server.limits import _inflated
from trainyard.components.serve.server.protocols import open_inference, pictures, tensorflow_serving
from trainyard.components.serve.server.protocols.request import Refused

CARD = made_up_card()
SHAPE = CARD.input.shape
FUZZ = settings(
    max_examples=int(os.environ.get("FUZZ_CASES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 255)
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(max_size=5)
WORDS = st.sampled_from(
    [
        "instances",
        "inputs",
        "image",
        "b64",
        "signature_name",
        "name",
        "shape",
        "datatype",
        "data",
        "parameters",
        "outputs",
    ]
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=30
)
IMAGES = arrays(np.float32, st.tuples(st.integers(1, 3), *map(st.just, SHAPE)), elements=st.floats(0, 255, width=32))


def read_v1(body):
    return tensorflow_serving.read(body, SHAPE)


def read_v2(body, json_length=None):
    return open_inference.read(body, json_length, CARD, "digits", 1)


def outcome(work):
    """What it returns, or how it refuses."""
    try:
        return work(), None
    except Refused as error:
        return None, error


def read_or_refused(read, *body):
    """The images of a request, or None when it is refused as clients are to be told."""
    images, error = outcome(lambda: read(*body).images)
    if error:
        assert error.status in (400, 413)
        assert str(error).isprintable()
        assert len(str(error)) < 400
        return None
    assert images.shape[1:] == SHAPE
    assert len(images)
    assert images.dtype in (np.float32, np.uint8)
    assert np.isfinite(images).all()
    return images


def damaged(content, cuts):
    for at, length, instead in cuts:
        at %= len(content) + 1
        content = content[:at] + instead + content[at + length :]
    return content


CUTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=4)


@FUZZ
@given(st.fixed_dictionaries({}, optional={"instances": JSON, "inputs": JSON, "signature_name": JSON}) | JSON)
@example({"instances": ["a" * 1000, "b"]})
@example({"instances": [{"b64": "="}]})
def test_any_json_is_read_or_refused_as_tensorflow_servings(value):
    read_or_refused(read_v1, json.dumps(value).encode())


TENSOR = st.fixed_dictionaries(
    {"name": st.just("image") | JSON},
    optional={
        "shape": st.lists(st.integers(-1, 2**70), max_size=5) | st.just([1, *SHAPE]) | JSON,
        "datatype": st.sampled_from(["FP32", "UINT8", "BYTES"]) | JSON,
        "data": JSON | st.just([0] * int(np.prod(SHAPE))),
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "classification"]), LEAVES) | JSON,
    },
)
OUTPUT = st.fixed_dictionaries(
    {"name": st.just("output_0") | JSON},
    optional={"parameters": st.dictionaries(st.sampled_from(["binary_data", "classification"]), LEAVES) | JSON},
)


@FUZZ
@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(TENSOR, max_size=2) | JSON},
        optional={"id": JSON, "outputs": st.lists(OUTPUT, max_size=2) | JSON, "parameters": JSON},
    ),
    st.binary(max_size=100),
    st.none() | st.integers(0, 200),
)
def test_any_tensor_is_read_or_refused_as_the_open_inference_protocols(value, behind, json_length):
    text = json.dumps(value).encode()
    read_or_refused(read_v2, text)
    read_or_refused(read_v2, text + behind, len(text))
    read_or_refused(read_v2, text + behind, json_length)


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(body):
    assert read_or_refused(read_v1, body) is None
    assert read_or_refused(read_v2, body) is None
    assert read_or_refused(read_v2, body, len(body) // 2) is None


@FUZZ
@given(IMAGES, CUTS)
def test_a_damaged_request_is_read_or_refused(images, cuts):
    flat = {"name": "image", "shape": images.shape, "datatype": "FP32", "data": images.ravel().tolist()}
    read_or_refused(read_v1, damaged(json.dumps({"instances": images.tolist()}).encode(), cuts))
    read_or_refused(read_v2, damaged(json.dumps({"inputs": [flat]}).encode(), cuts))


@FUZZ
@given(arrays(np.float32, (2, *SHAPE), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_every_float32_arrives_as_it_was_sent(images):
    head = {"name": "image", "shape": images.shape, "datatype": "FP32"}
    flat = json.dumps({"inputs": [{**head, "data": images.ravel().tolist()}]}).encode()
    binary = json.dumps({"inputs": [{**head, "parameters": {"binary_data_size": images.nbytes}}]}).encode()
    for arrived in (
        read_v1(json.dumps({"instances": images.tolist()}).encode()).images,
        read_v1(json.dumps({"instances": [{"image": one} for one in images.tolist()]}).encode()).images,
        read_v2(flat).images,
        read_v2(binary + images.tobytes(), len(binary)).images,
    ):
        assert np.array_equal(arrived, images)


@FUZZ
@given(st.binary(max_size=300))
@example(b"\x89PNG\r\n\x1a\n")
@example(b"\xff\xd8\xff")
def test_any_file_in_base64_is_read_or_refused(content):
    value = {"b64": base64.b64encode(content).decode()}
    read_or_refused(read_v1, json.dumps({"instances": [value, {"b64": base64.b64encode(content).decode()}]}).encode())


@FUZZ
@given(st.binary(max_size=2_000), CUTS)
def test_a_compressed_body_is_inflated_or_refused(content, cuts):
    whole = zlib.compress(content)
    assert b"".join(_inflated(whole)) == content
    _, error = outcome(lambda: b"".join(_inflated(damaged(whole, cuts))))
    assert not error or error.status == 400


@FUZZ
@given(st.binary(max_size=50), st.none() | st.binary(max_size=50))
@example(b"[]", None)
def test_no_host_but_the_servers_own_is_let_in(host, origin):
    headers = [(b"host", host), *([] if origin is None else [(b"origin", origin)])]
    rules = Access(("127.0.0.1", "localhost", "::1"))
    _, error = outcome(lambda: rules.check({"headers": headers, "method": "POST"}))
    if error:
        assert error.status == 403
        assert str(error).isprintable()
    else:
        assert not host or host_name(host.decode("latin-1").lower()) in rules.hosts


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
def test_deep_json_is_refused(depth):
    for body in (b"[" * depth, b'{"instances":' * depth, b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"):
        assert read_or_refused(read_v1, body) is None
        assert read_or_refused(read_v2, body) is None


def test_small_files_that_would_decode_to_gigabytes_are_refused():
    tiny = io.BytesIO()
    Image.new("RGB", (1, 1)).save(tiny, "PNG")
    value = {"b64": base64.b64encode(tiny.getvalue()).decode()}
    assert pictures.decoded([value] * 2, (224, 224, 3), "instances").shape == (2, 224, 224, 3)
    with pytest.raises(Refused, match="instances: expected at most 445 images in base64, received 2,400") as refused:
        pictures.decoded([value] * 2400, (224, 224, 3), "instances")
    assert refused.value.status == 413
