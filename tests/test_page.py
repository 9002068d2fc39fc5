"""The page of the model server, in a real browser: what is drawn, dropped, pasted or picked gets its answer."""

import base64
import io
import json
import math
import os
import subprocess
import sys
import urllib.error
import urllib.request
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from tests.browser import Browser
from tests.onnx_models import MEAN, STD, Network
from tests.serving import answers_of, ask, publish
from trainyard.components.common.datasets import open_dataset
from trainyard.components.common.datasets.decoding import read_image

PROJECT = Path(__file__).parent.parent
PHONE, DESKTOP = (360, 740), (1180, 900)
COLOURS = {
    "green": (40, 190, 60),
    "red, with no end of further words to tell": (210, 40, 40),
    "<b>blue</b>": (50, 60, 220),
}

# What a reader of the page sees of it. Texts that are hidden or stand on buttons out of use are left out.
MEASURE = r"""
(() => {
  const rgb = colour => colour.match(/[\d.]+/g).map(Number);
  const light = colour => rgb(colour).slice(0, 3).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at);
      if (rgb(backgroundColor)[3] !== 0) return backgroundColor;
    }
  };
  const texts = [...document.body.querySelectorAll("*")].filter(one => one.checkVisibility()
    && !one.closest(":disabled, noscript")
    && [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()));
  const contrasts = texts.map(one => {
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => b - a);
    return (a + .05) / (b + .05);
  });
  return {
    width: document.documentElement.scrollWidth,
    contrast: Math.min(...contrasts),
    smallest: Math.min(...texts.map(one => parseFloat(getComputedStyle(one).fontSize))),
    background: light(getComputedStyle(document.body).backgroundColor),
  };
})()
"""


def arc(x, y, width, height, start, end, steps=20):
    """Points of a part of an ellipse, angles in degrees clockwise from the right."""
    angles = np.radians(np.linspace(start, end, steps))
    return [(x + width * math.cos(angle), y + height * math.sin(angle)) for angle in angles]


def line(*corners, steps=6):
    """Points of a line with corners."""
    return [tuple(point) for start, end in pairwise(corners) for point in np.linspace(start, end, steps)]


DRAWN = {
    "0": [arc(0.5, 0.5, 0.2, 0.32, -90, 275)],
    "2": [arc(0.48, 0.34, 0.19, 0.17, -170, 30) + line((0.62, 0.45), (0.3, 0.8), (0.72, 0.79))],
    "3": [arc(0.46, 0.32, 0.18, 0.15, -160, 80) + arc(0.47, 0.64, 0.21, 0.18, -80, 150)],
    "5": [line((0.66, 0.2), (0.38, 0.2), (0.35, 0.47)) + arc(0.48, 0.62, 0.2, 0.18, -120, 140)],
}


class Server:
    """A model server of the tests' own.

    Attributes:
        root: Its address, ends in '/'.
    """

    def __init__(self, home):
        self._environment = {**os.environ, "TRAINYARD_HOME": str(home)}

    def command(self, *arguments):
        command = [sys.executable, "-m", "trainyard.components.serve", *map(str, arguments)]
        return subprocess.run(command, cwd=PROJECT, env=self._environment, check=True, capture_output=True, text=True)

    def serve(self, uri, *options):
        self.predict = self.command("--target", "process", "--model-uri", uri, *options).stdout.strip()
        self.root = self.predict.partition("v1/")[0]


@pytest.fixture(scope="module")
def evaluation(model, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    command = [sys.executable, "-m", "trainyard.components.evaluate", "--dataset", dataset, "--model", model]
    subprocess.run([*command, "--evaluation", folder], cwd=PROJECT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def three(model, evaluation, tmp_path_factory):
    """URI of version 3 of the digits."""
    return publish(model, tmp_path_factory.mktemp("published") / "3", 3, evaluation)


@pytest.fixture(scope="module")
def server(three, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("home"))
    server.serve(three, "--model-name", "digits")
    yield server
    server.command("stop")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def page(chromium, server):
    """The page of the digits on a desk; it must have had nothing to complain about, and asked nobody else."""
    chromium.look(*DESKTOP)
    opened(chromium, server)
    chromium.complaints.clear()
    chromium.requests.clear()
    yield chromium
    assert chromium.complaints == []
    assert all(url.startswith((server.root, "blob:", "data:")) for url in chromium.requests)


def opened(browser, server):
    browser.open(server.root, "document.querySelectorAll('#bars li').length > 0")


def answer(page):
    """What is told once there is an answer: its label and the rest."""
    page.wait("document.querySelector('#spoken').textContent !== ''")
    label, _, rest = page.run("document.querySelector('#spoken').textContent").partition(", ")
    assert page.text("#label") == label
    return label, rest


def bars(page):
    """The classes with their shares as they are shown, and how long each bar is."""
    return page.run(
        "[...document.querySelectorAll('#bars li')].map(row => [row.querySelector('.name').innerText,"
        " row.querySelector('.share').innerText, row.querySelector('.fill').style.width])"
    )


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "finger"])
def test_a_drawn_digit_is_recognised(page, server, touch):
    page.look(*(PHONE if touch else DESKTOP), touch=touch)
    for digit, strokes in DRAWN.items():
        page.draw("#pad", strokes, touch)
        label, rest = answer(page)
        assert label == digit
        assert float(rest.removesuffix(" %")) > 50
        page.click("#clear")
        page.wait("document.querySelector('#spoken').textContent === ''")


def test_a_drawing_reaches_the_model_as_mnist_was_made(page):
    """Wherever and however large it is drawn: in a box of 20 x 20 pixels, with its mass in the middle of 28 x 28."""
    for size, x, y in ((1, 0, 0), (0.3, 0.65, 0.02), (0.4, 0.1, 0.5)):
        strokes = [[(x + size * u, y + size * v) for u, v in stroke] for stroke in DRAWN["3"]]
        page.draw("#pad", strokes)
        assert answer(page)[0] == "3"
        image = sent(page)[:, :, 0]
        rows, columns = np.nonzero(image)
        assert 18 <= rows.max() - rows.min() + 1 <= 21
        assert columns.max() - columns.min() + 1 <= 21
        middle = (np.indices(image.shape) + 0.5).reshape(2, -1) @ image.reshape(-1) / image.sum()
        assert np.allclose(middle, 14, atol=0.2)
        assert image.max() == 255
        assert len(np.unique(image)) > 20
        page.click("#clear")


def sent(page):
    """The image in the curl line."""
    body = page.run("document.querySelector('#curl').textContent").partition("-d '")[2].removesuffix("'")
    return np.array(json.loads(body)["instances"][0])


def test_the_curl_line_asks_the_same_and_gets_the_same(page, model):
    page.draw("#pad", DRAWN["5"])
    label, _ = answer(page)
    line = page.run("document.querySelector('#curl').textContent")
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    (probabilities,) = json.loads(done.stdout)["predictions"]
    assert np.allclose(probabilities, answers_of(model, sent(page)[None].astype(np.uint8))[0], atol=1e-5)
    assert label == str(np.argmax(probabilities))
    assert [(name, share) for name, share, _ in bars(page)] == [
        (str(digit), f"{100 * share:.1f} %") for digit, share in enumerate(probabilities)
    ]
    widths = [float(width.removesuffix("%")) for _, _, width in bars(page)]
    assert np.allclose(widths, 100 * np.array(probabilities), atol=0.01)


def test_undo_takes_the_last_stroke_back(page):
    page.draw("#pad", DRAWN["0"])
    answer(page)
    first = json.dumps(page.run("document.querySelector('#curl').textContent"))
    page.draw("#pad", [line((0.1, 0.1), (0.9, 0.9))])
    page.wait(f"document.querySelector('#curl').textContent !== {first}")
    page.click("#undo")
    page.wait(f"document.querySelector('#curl').textContent === {first}")
    page.click("#undo")
    assert page.run("document.querySelector('#clear').disabled")


def test_an_example_of_the_data_set_is_answered_and_judged(page, evaluation):
    examples = json.loads((evaluation / "examples.json").read_text())["examples"]
    for number, example in enumerate(examples, 1):
        page.click(f"#examples li:nth-child({number}) button")
        right = example["prediction"] == example["label"]
        share = f"{100 * max(example['probabilities']):.1f} %"
        told = f"{example['prediction']}, {share}, " + ("right" if right else f"it is {example['label']}")
        page.wait(f"document.querySelector('#spoken').textContent === '{told}'")
        assert np.array_equal(sent(page), example["instance"])


def test_everything_can_be_done_by_keyboard(page):
    """Draw a 1 with the arrow keys, clear it, and pick an example with Tab and Enter."""
    page.run("document.querySelector('#pad').focus()")
    assert "Arrow keys" in page.text("#keys")
    page.press(*["ArrowUp"] * 10, " ", *["ArrowDown"] * 20, " ")
    answer(page)
    image = sent(page)[:, :, 0]
    assert np.nonzero(image.sum(axis=0))[0].size <= 4
    assert np.nonzero(image.sum(axis=1))[0].size >= 18
    page.press("Delete")
    page.wait("document.querySelector('#clear').disabled")
    reached = []
    for _ in range(12):
        page.press("Tab")
        reached.append(page.run("document.activeElement.ariaLabel || document.activeElement.innerText"))
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.run(f"document.activeElement === document.body || {outline} === 'solid'")
        if reached[-1].startswith("Example"):
            break
    assert "Choose an image" in reached
    page.press("Enter")
    assert answer(page)[0].isdecimal()


@pytest.fixture(scope="module")
def digit(dataset):
    """A test image, (28, 28) uint8, that the model is sure of, and its label."""
    test = open_dataset(dataset).read("test")
    index = int(np.flatnonzero(test.labels == 6)[0])
    return test.images[index, :, :, 0], "6"


def png(image):
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def given(page, content, how, name="digit.png", kind="image/png"):
    """Drop or paste a file onto the page."""
    event = {
        "drop": "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})",
        "paste": "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})",
    }[how]
    encoded = base64.b64encode(content).decode()
    page.run(
        f"(() => {{ const bytes = Uint8Array.from(atob('{encoded}'), one => one.charCodeAt(0));"
        f" const data = new DataTransfer(); data.items.add(new File([bytes], '{name}', {{type: '{kind}'}}));"
        f" document.body.dispatchEvent({event}); }})()"
    )


def test_an_image_is_taken_however_it_comes(page, digit, tmp_path):
    image, label = digit
    paper = ImageOps.invert(Image.fromarray(image)).resize((280, 280)).convert("RGB")
    ink = Image.new("RGBA", (28, 28), "black")
    ink.putalpha(Image.fromarray(image))
    for drawn, swapped in ((Image.fromarray(image), False), (paper, True), (ink.resize((140, 140)), True)):
        (tmp_path / "digit.png").write_bytes(png(drawn))
        for how in ("drop", "paste", "choose"):
            if how == "choose":
                page.give_file("#file", tmp_path / "digit.png")
            else:
                given(page, png(drawn), how)
            assert answer(page)[0] == label
            assert page.run("document.querySelector('#swap').checked") is swapped
            page.click("#clear")
    given(page, png(Image.fromarray(image)), "drop")
    answer(page)
    assert np.array_equal(sent(page)[:, :, 0], image)
    page.click("#swap")
    page.wait(f"document.querySelector('#curl').textContent.includes('[[[[{255 - image[0, 0]}]')")
    assert np.array_equal(sent(page)[:, :, 0], 255 - image)


def test_a_phone_is_asked_for_its_camera_and_a_desk_is_not(page, server, digit, tmp_path):
    image, label = digit
    shown = "getComputedStyle(document.querySelector('#photograph')).display !== 'none'"
    assert not page.run(shown)
    page.look(*PHONE, touch=True)
    opened(page, server)
    assert page.run(shown)
    assert page.run("document.querySelector('#camera').getAttribute('capture')") == "environment"
    page.run("document.querySelector('#camera').onclick = event => { event.preventDefault(); window.asked = true }")
    page.click("#photograph")
    page.wait("window.asked")
    (tmp_path / "photo.png").write_bytes(png(Image.fromarray(image)))
    page.give_file("#camera", tmp_path / "photo.png")
    assert answer(page)[0] == label
    assert page.run(MEASURE)["width"] == PHONE[0]


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("kind", ["EXIF, JPEG", "EXIF, PNG", "EXIF, WebP", "XMP", "16 bits", "LA", "P", "ICC"])
def test_the_page_reads_the_pixels_that_training_reads(page, digit, kind):
    image, _ = digit
    grey = Image.fromarray(image)
    exif, xmp = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112] = 8
    xmp.add_itxt("XML:com.adobe.xmp", XMP)
    transparent = Image.fromarray(np.dstack([image, image.T]))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    drawn, form, options = {
        "EXIF, JPEG": (grey, "JPEG", {"exif": exif}),
        "EXIF, PNG": (grey, "PNG", {"exif": exif}),
        "EXIF, WebP": (grey, "WEBP", {"exif": exif, "lossless": True}),
        "XMP": (grey, "PNG", {"pnginfo": xmp}),
        "16 bits": (Image.fromarray(image.astype(np.uint16) * 257), "PNG", {}),
        "LA": (transparent, "PNG", {}),
        "P": (grey.convert("RGB").quantize(8), "PNG", {"transparency": 0}),
        "ICC": (grey.convert("RGB"), "PNG", {"icc_profile": profile}),
    }[kind]
    file = io.BytesIO()
    drawn.save(file, form, **options)
    given(page, file.getvalue(), "drop", name="picture", kind=f"image/{form.lower()}")
    answer(page)
    expected = np.asarray(read_image(file.getvalue(), kind, 1)).astype(int)
    swapped = page.run("document.querySelector('#swap').checked")
    seen = sent(page)[:, :, 0].astype(int)
    assert np.abs((255 - seen if swapped else seen) - expected).max() <= 8  # decoders of JPEG differ


def test_a_file_that_is_no_image_is_told(page):
    given(page, b"no picture", "drop", name="notes.txt", kind="text/plain")
    page.wait("document.querySelector('#label').className === 'wrong'")
    assert "notes.txt is no image" in page.text("#label")


def test_the_page_tells_what_answers(page, model, evaluation):
    card = json.loads((model / "model.json").read_text())
    accuracy = json.loads((evaluation / "evaluation.json").read_text())["accuracy"]
    assert page.text("h1") == "digits"
    assert page.text("#versions") == "version 3"
    text = page.text("#card")
    for told in (f"{card['parameters']:,} parameters", "28 × 28 grey", "Classes\n10\n", "1,437 images", "LiteRT"):
        assert told in text
    assert f"{100 * accuracy:.2f} % of 360 test images" in text


def test_a_screen_reader_finds_its_way_and_hears_the_answer(page):
    page.draw("#pad", DRAWN["2"])
    answer(page)
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    seen = [(one["role"]["value"], one.get("name", {}).get("value", "")) for one in nodes if not one["ignored"]]
    names = {role: [name for other, name in seen if other == role] for role, _ in seen}
    assert all(name for role in ("button", "application", "image", "region", "heading") for name in names[role])
    assert names["heading"][0] == "digits"
    assert {"Clear", "Undo", "Choose an image", "Copy"} <= set(names["button"])
    (status,) = (one for one in nodes if one["role"]["value"] == "status")
    live = {one["name"]: one["value"]["value"] for one in status["properties"]}
    assert live["live"] == "polite"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_can_be_read_on_every_screen(page, server, size, scheme):
    """WCAG AA asks for a contrast of 4.5."""
    page.look(*size, scheme)
    page.draw("#pad", DRAWN["3"])
    answer(page)
    seen = page.run(MEASURE)
    assert seen["width"] == size[0]
    assert seen["contrast"] >= 4.5
    assert seen["smallest"] >= 12
    assert (seen["background"] > 0.7) == (scheme == "light")


def test_nothing_foreign_can_run_on_the_page(page, server):
    with urllib.request.urlopen(server.root) as root:
        policy = root.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = true\">')")
    page.run("new Promise(done => setTimeout(done, 100))")
    assert page.run("window.owned") is None
    assert page.complaints
    page.complaints.clear()


def test_a_server_that_has_gone_is_told(chromium, three, tmp_path):
    server = Server(tmp_path / "home")
    server.serve(three)
    opened(chromium, server)
    server.command("stop")
    chromium.draw("#pad", DRAWN["3"])
    chromium.wait("document.querySelector('#label').className === 'wrong'")
    assert "does not answer" in chromium.text("#label")


def test_the_page_is_off_where_it_is_not_wanted(three, tmp_path):
    server = Server(tmp_path / "home")
    try:
        for options, shown in ((["--no-ui"], False), ([], True), (["--ui", "false"], False)):
            server.serve(three, *options)
            for path in ("", "page/page.js", "page/model.json"):
                assert status_of(server.root + path) == (200 if shown else 404)
            assert ask(server.predict.removesuffix(":predict"))[0] == 200
    finally:
        server.command("stop")


def status_of(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """URI of a model of colour images with named classes."""
    folder = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(3)
    names = list(COLOURS)
    labels = np.arange(90) % len(names)
    images = random.normal(0, 12, (90, 24, 32, 3)) + np.array(list(COLOURS.values()))[labels, None, None]
    images = images.clip(0, 255).astype(np.uint8)
    split = {"x_train": images[:60], "y_train": labels[:60], "x_test": images[60:], "y_test": labels[60:]}
    (folder / "dataset").mkdir()
    np.savez(folder / "dataset" / "colours.npz", class_names=np.array(names), **split)
    run = {"cwd": PROJECT, "check": True, "capture_output": True}
    step = [sys.executable, "-m"]
    data = ["--dataset", folder / "dataset", "--model", folder / "model"]
    options = ["--epochs", "8", "--batch-size", "8", "--image-size", "24x32"]
    subprocess.run([*step, "trainyard.components.train", *data, *options], **run)
    subprocess.run([*step, "trainyard.components.evaluate", *data, "--evaluation", folder / "evaluation"], **run)
    return publish(folder / "model", folder / "published", 1, folder / "evaluation")


def test_a_model_of_colour_images_takes_pictures_and_no_drawings(chromium, colours, tmp_path):
    server = Server(tmp_path / "home")
    server.serve(colours, "--model-name", "colours")
    try:
        chromium.look(*PHONE)
        opened(chromium, server)
        chromium.complaints.clear()
        assert "an image" in chromium.text("#invitation")
        chromium.draw("#pad", [line((0.2, 0.2), (0.8, 0.8))])
        assert chromium.run("document.querySelector('#clear').disabled")
        for name, colour in COLOURS.items():
            given(chromium, png(Image.new("RGB", (300, 200), colour)), "drop")
            chromium.wait(f"document.querySelector('#label').textContent === {json.dumps(name)}")
            assert sent(chromium).shape == (24, 32, 3)
            assert sent(chromium)[12, 16].tolist() == list(colour)
        wide = Image.new("RGB", (600, 60), COLOURS["green"])  # it fills the model's image, as those it learned from did
        wide.paste("white", (0, 0, 40, 10))
        given(chromium, png(wide), "drop")
        chromium.wait("document.querySelector('#label').textContent === 'green'")
        assert sent(chromium)[[0, 23], 31].tolist() == [list(COLOURS["green"])] * 2
        assert sorted(name for name, _, _ in bars(chromium)) == sorted(COLOURS)
        name = "[...document.querySelectorAll('#bars .name')]"
        assert chromium.run(f"{name}.every(one => one.scrollWidth <= one.clientWidth)")
        _, _, width, height = chromium.box("#pad")
        assert width / height == pytest.approx(32 / 24, rel=0.01)
        assert "24 × 32 colour" in chromium.text("#card")
        assert chromium.run(MEASURE)["width"] == PHONE[0]
        assert chromium.complaints == []
    finally:
        server.command("stop")


def test_the_page_of_a_model_in_onnx_answers_as_the_network(chromium, dataset, tmp_path):
    """What is dropped reaches it as raw pixels, and its logits come back as shares."""
    train, test = (open_dataset(dataset).read(split) for split in ("train", "test"))
    network = Network(train.images, train.labels)
    network.save(tmp_path / "net.onnx")
    command = [sys.executable, "-m", "trainyard", "import-model", tmp_path / "net.onnx", "--model", tmp_path / "model"]
    options = ["--classes", ",".join("0123456789"), "--range", "0,1", "--mean", str(MEAN), "--std", str(STD)]
    subprocess.run([*command, *options], cwd=PROJECT, check=True, capture_output=True)
    server = Server(tmp_path / "home")
    server.serve(publish(tmp_path / "model", tmp_path / "1", 1), "--model-name", "net")
    try:
        chromium.look(*DESKTOP)
        opened(chromium, server)
        chromium.complaints.clear()
        assert "ONNX Runtime" in chromium.text("#card")
        right = network.probabilities(test.images).argmax(1) == test.labels
        for index in np.flatnonzero(right)[:3]:
            given(chromium, png(Image.fromarray(test.images[index, :, :, 0])), "drop")
            label, _ = answer(chromium)
            shares = network.probabilities(test.images[index : index + 1])[0]
            assert label == str(test.labels[index])
            assert [share for _, share, _ in bars(chromium)] == [f"{100 * share:.1f} %" for share in shares]
            chromium.click("#clear")
        chromium.draw("#pad", DRAWN["0"])
        label, _ = answer(chromium)
        assert label == str(network.probabilities(sent(chromium)[None])[0].argmax())
        assert chromium.complaints == []
    finally:
        server.command("stop")


def test_the_page_follows_a_canary_and_what_comes_after(chromium, three, model, tmp_path):
    server = Server(tmp_path / "home")
    server.serve(three)
    try:
        four = publish(model, tmp_path / "4", 4)
        server.command("--target", "process", "--model-uri", four, "--canary-percent", 50)
        chromium.look(*DESKTOP)
        opened(chromium, server)
        assert chromium.text("#versions") == "version 3: 50 %, version 4: 50 %"
        said = set()
        for _ in range(40):
            chromium.draw("#pad", DRAWN["0"])
            said.add(answer(chromium)[1].rpartition(", ")[2])
            chromium.click("#clear")
            if len(said) == 2:
                break
        assert said == {"version 3", "version 4"}
        server.command("--target", "process", "--action", "promote", "--model-name", "digits")
        chromium.run("dispatchEvent(new Event('focus'))")
        chromium.wait("document.querySelector('#versions').textContent === 'version 4'")
        server.serve(three)
        chromium.draw("#pad", DRAWN["0"])
        chromium.wait("document.querySelector('#versions').textContent === 'version 3'")
    finally:
        server.command("stop")
