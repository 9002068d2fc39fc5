"""The evaluation report: what stands in it, and how a real browser shows it with the network off."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.photos import write_photos
from trainyard.components.common.artifacts.model import Card, Epoch, Input, TrainedOn
from trainyard.components.common.datasets import ImageDataset, Options
from trainyard.components.common.report.templates import environment
from trainyard.components.common.rules import Threshold, Verdict
from trainyard.components.evaluate.baseline import Baseline, McNemar
from trainyard.components.evaluate.gate import Change
from trainyard.components.evaluate.metrics import measure
from trainyard.components.evaluate.report.page import FOLDER, PAGE, render
from trainyard.components.evaluate.run import Outcome
from trainyard.components.evaluate.scoring import EvaluationSet, Scored
from trainyard.components.evaluate.slices import measure_slices

PROJECT = Path(__file__).parent.parent
HOSTILE = ["</script><script>document.title='owned'</script>", 'a "quoted" & <b>bold</b> name', "<img src=//evil/x>"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE, DESKTOP = 360, 1180
REPORTS = ("digits", "hostile", "two", "hundred", "long", "perfect")


class MadeUp(ImageDataset):
    """A data set of random images."""

    def _read(self, split, places):
        images = np.random.default_rng(2).integers(0, 256, (self.counts[split], *self.image_shape), "uint8")
        return images[places], self._labels(split)[places]

    def _labels(self, split):
        return np.zeros(self.counts[split], "int64")


def report(
    classes, shape=(28, 28, 1), examples=600, sharpness=3.0, epochs=5, bar=0.9, gained=None, columns=(), **history
):
    """A report on made-up answers; with `gained`, compared with a baseline that answers so many more images wrongly.

    `bar` is the accuracy that is asked, 0: none; `columns` are names, each of a column that puts a handful of images
    apart; `history` goes into each epoch.
    """
    random = np.random.default_rng(1)
    labels = random.integers(0, len(classes), examples)
    scores = np.exp(random.normal(size=(examples, len(classes))) + sharpness * np.eye(len(classes))[labels])
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype("float32")
    course = [
        Epoch(epoch=n + 1, loss=2 / (n + 1), accuracy=1 - 0.5 / (n + 1), seconds=9, learning_rate=0.001, **history)
        for n in range(epochs)
    ]
    known = TrainedOn(
        name="things",
        layout="npz",
        source="s3://" + "long/" * 40 + "x.npz",
        sha256="0f" * 32,
        train_examples=7,
        test_examples=examples,
        train_counts=[10 * index for index in range(len(classes))],
    )
    metrics = measure(labels, probabilities)
    values = ["" if index < 20 else "<i>dark</i>" if index < 200 else "bright" for index in range(examples)]
    dataset = MadeUp(Path("things"), "things", "npz", classes, {"test": examples}, shape, Options())
    scored = Scored(
        card=Card(
            architecture="cnn",
            input=Input(shape=(28, 28, 1)),
            classes=classes,
            parameters=11689512,
            hyperparameters={"epochs": epochs, "learning_rate": 0.001},
            dataset=known,
            history=course,
            libraries={"tensorflow": "2.21.0"},
        ),
        model_sha256="a1" * 32,
        backend="LiteRT",
        examples=EvaluationSet(dataset),
        labels=labels,
        probabilities=probabilities,
        metrics=metrics,
        slices=measure_slices(dict.fromkeys(columns, values), labels, probabilities),
    )
    rules = [Threshold("accuracy", metrics.accuracy, bar)] if bar else []
    if gained is None:
        return render(Outcome(scored, Verdict(rules)))
    rules += [Change("loss", metrics.loss, metrics.loss + 0.1, 0), Threshold("recall[<cat>]", 0.5, 0.4)]
    baseline = Baseline("s3://models/things/3/", scored, McNemar(gained, 5))
    return render(Outcome(scored, Verdict(rules), baseline))


@pytest.fixture(scope="module")
def evaluation(dataset, model, tmp_path_factory):
    """Evaluation folder of the digits."""
    folder = tmp_path_factory.mktemp("evaluation") / "evaluation"
    command = [sys.executable, "-m", "trainyard.components.evaluate", "--dataset", dataset, "--model", model]
    subprocess.run([*command, "--min-accuracy=0.9", "--evaluation", folder], cwd=PROJECT, check=True)
    return folder


@pytest.fixture(scope="module")
def pages(evaluation):
    """HTML of reports on the digits, and on data that is harder to show."""
    made = {
        "digits": (evaluation / "report.html").read_text(),
        "hostile": report(HOSTILE, shape=(60, 200, 3), epochs=0, columns=("light<b>", "camera")),
        "two": report(["cat", "dog"], shape=(224, 224, 4), examples=100, epochs=1, sharpness=1, gained=60),
        "hundred": report([f"species number {index}" for index in range(100)], examples=5000, epochs=100),
        "long": report([f"{name}_and_no_end_of_it_in_sight" for name in "abcdefghi"]),
        "perfect": report(
            ["a", "b", "c"], (8, 8, 2), sharpness=60, bar=0, validation_loss=1.5, validation_accuracy=0.625
        ),
    }
    assert set(made) == set(REPORTS)
    return made


class Page(HTMLParser):
    """Elements of a page with their attributes; complains about what is not closed in order."""

    WITHOUT_END = frozenset({"meta", "link", "br", "img", "path", "circle"})

    def __init__(self, html):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.WITHOUT_END:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.WITHOUT_END:
            assert self._open.pop() == tag

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.mark.parametrize("name", REPORTS)
def test_the_file_needs_nothing_from_outside(pages, name):
    page = Page(pages[name])
    addresses = [one[key] for _, one in page.elements for key in ("src", "href", "srcset", "action") if key in one]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert not page.all("script", "iframe", "object", "base")
    style = re.search(r"<style>(.*)</style>", pages[name], re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = (one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


@pytest.mark.parametrize("name", REPORTS)
def test_the_file_is_small(pages, name):
    assert len(pages[name].encode()) < 1_000_000


@pytest.mark.parametrize("name", REPORTS)
def test_a_screen_reader_finds_its_way(pages, name):
    page = Page(pages[name])
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert next(tag for tag, _ in page.elements if tag in ("h1", "h2")) == "h1"
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(one.get("scope") in ("row", "col") for one in page.all("th"))
    assert page.all("svg")
    assert all(one["role"] == "img" and one["aria-label"] for one in page.all("svg"))
    assert all(one["alt"] for one in page.all("img"))


def test_the_worst_mistakes_are_shown_as_pictures(pages):
    assert len(Page(pages["hundred"]).all("img")) == 24
    assert not Page(pages["perfect"]).all("img")
    assert "all 600 predictions are correct" in pages["perfect"]


def test_mistakes_on_photos_are_shown_as_the_photos_look_and_not_as_the_model_sees_them(step, tmp_path):
    data = write_photos(tmp_path / "photos", {"train": 15, "test": 15}, (150, 600))
    model, evaluation = tmp_path / "model", tmp_path / "evaluation"
    chosen = ("--image-size", 16, "--architecture", "dense", "--epochs", 1)
    assert step("train", "--dataset", data, "--model", model, *chosen).returncode == 0
    assert step("evaluate", "--dataset", data, "--model", model, "--evaluation", evaluation).returncode == 0
    shown = Page((evaluation / "report.html").read_text()).all("img")
    pictures = [Image.open(io.BytesIO(base64.b64decode(one["src"].partition(",")[2]))) for one in shown]
    assert pictures
    assert {one.size for one in pictures} == {(240, 60)}
    originals = [np.asarray(Image.open(path).resize((240, 60)), int) for path in data.glob("test/*/*.jpg")]
    for one in pictures:
        distances = [np.abs(np.asarray(one, int) - original).mean() for original in originals]
        assert min(distances) < 10 < sorted(distances)[1]


def test_both_models_are_told_with_every_rule(pages):
    page = pages["two"]
    assert "compared with s3://models/things/3/ on the same test images: 60 images gained and 5 lost" in page
    assert page.count("✓ passed") == 2
    assert "recall[&lt;cat&gt;] 0.5000 ≥ 0.4" in page
    assert re.search(r"Loss</th><td>[\d.]+</td><td>[\d.]+</td><td>0\.0000<", page)
    assert "Gate" not in pages["hundred"]


def test_balance_of_the_classes_and_calibration_are_drawn(pages):
    page = pages["hundred"]
    assert "--share:1.000" in page
    assert '">990</span>' in page
    assert "<h2>Precision and recall, one class against the rest</h2>" in page
    assert len(re.findall('aria-label="Precision-recall curve of [^"]+: average precision 0', page)) == 23
    assert re.search(r'aria-label="Calibration: \d+ % sure and \d+ % right', page)
    assert "Training images" in pages["digits"]  # as train counted them


def test_slices_are_told_the_worst_first_and_small_ones_are_marked(pages):
    page = pages["hostile"]
    assert "<h2>Slices</h2>" in page
    assert "<caption>light&lt;b&gt;</caption>" in page
    told = re.findall(r'<th scope="row">([^<]+)</th><td>([\d.]+) %<small>[\d.]+ to [\d.]+</small>', page)
    assert sorted(name for name, _ in told[:3]) == ["&lt;i&gt;dark&lt;/i&gt;", "(empty) *", "bright"]
    assert told[:3] == told[3:] == sorted(told[:3], key=lambda one: float(one[1]))
    assert "* marks fewer than 30 images" in page
    assert "Slices" not in pages["digits"]


def test_learning_curves_show_validation_where_there_was_some(pages):
    assert (
        'aria-label="Accuracy by epoch: 50 % after the first, 90 % after epoch 5; 62.5 % on the validation images;'
        in (pages["perfect"])
    )
    assert pages["perfect"].count('class="line validation"') == 2
    assert "on the validation images" not in pages["digits"]


def test_of_many_classes_the_worst_comes_first(pages):
    table = re.search(
        r"<caption>Metrics of each class[^<]*, lowest F1 first</caption>.*?</table>", pages["hundred"], re.DOTALL
    )
    scores = [float(score) for score in re.findall(r"(?:<td>[\d.]+</td>){2}<td>([\d.]+)</td><td>", table[0])]
    assert len(scores) == 101
    assert scores[:100] == sorted(scores[:100])


def test_templates_are_compiled_once_and_a_folder_that_takes_no_files_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    environment(FOLDER, tmp_path).get_template(PAGE)
    kept = {file: file.stat().st_ino for file in tmp_path.iterdir()}
    environment(FOLDER, tmp_path).get_template(PAGE)
    assert {file: file.stat().st_ino for file in tmp_path.iterdir()} == kept != {}
    assert environment(FOLDER, next(iter(kept))).get_template(PAGE).name == PAGE
    assert set(tmp_path.iterdir()) == set(kept)


# What the page looks like to the browser, measured inside a frame as narrow as a phone or as wide as a desk.
MEASURE = r"""
const channels = colour => [...colour.match(/[\d.]+/g).map(Number), 1].slice(0, 4);
const over = (top, below) => top.slice(0, 3).map((value, i) => value * top[3] + below[i] * (1 - top[3]));
const luminance = rgb => rgb.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
function contrast(view, element) {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.unshift(channels(view.getComputedStyle(at).backgroundColor));
  const behind = layers.reduce((below, top) => over(top, below), [255, 255, 255]);
  const style = view.getComputedStyle(element);
  const ink = over(channels(element.closest('svg') ? style.fill : style.color), behind);
  const [light, dark] = [luminance(ink), luminance(behind)].sort((a, b) => b - a);
  return (light + .05) / (dark + .05);
}
function measured(frame) {
  const view = frame.contentWindow, page = frame.contentDocument;
  const texts = [...page.body.querySelectorAll('*')].filter(one => [...one.childNodes].some(
    node => node.nodeType === 3 && node.textContent.trim()));
  return {
    text: page.body.innerText, title: page.title,
    width: page.documentElement.scrollWidth,
    background: view.getComputedStyle(page.body).backgroundColor,
    pictures: [...page.images].map(image => image.naturalWidth),
    requests: view.performance.getEntriesByType('resource').map(entry => entry.name),
    contrast: Math.min(...texts.map(one => contrast(view, one))),
    smallest: Math.min(...texts.filter(one => !one.closest('svg')).map(
      one => parseFloat(view.getComputedStyle(one).fontSize))),
  };
}
addEventListener('load', () => {
  const all = Object.fromEntries([...document.querySelectorAll('iframe')].map(frame => [frame.id, measured(frame)]));
  document.getElementById('result').textContent = JSON.stringify(all).replaceAll('<', '\\u003c');
});
"""


@pytest.fixture(scope="module", params=["light", "dark"])
def browsed(request, pages, tmp_path_factory):
    """Every report as a frame of a page in a real browser without network: {(report, width): what was measured}."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        pytest.skip("no Chromium on this machine; on Debian: apt-get install --no-install-recommends chromium")
    folder = tmp_path_factory.mktemp("browsed")
    frames = "".join(
        f'<iframe id="{name} {width}" width="{width}" height="900" frameborder="0" sandbox="allow-same-origin" '
        f'srcdoc="{html.replace("&", "&amp;").replace(chr(34), "&quot;")}"></iframe>'
        for name, html in pages.items()
        for width in (PHONE, DESKTOP)
    )
    result = '<script type="application/json" id="result"></script>'
    (folder / "all.html").write_text(f"<!doctype html><meta charset=utf-8>{frames}{result}<script>{MEASURE}</script>")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1600,1200",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            f"--blink-settings=preferredColorScheme={0 if request.param == 'dark' else 1}",
            "--dump-dom",
            f"file://{folder / 'all.html'}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'id="result">(.*?)</script>', done.stdout, re.DOTALL)
    assert found, done.stderr
    frames = {tuple(key.split()): value for key, value in json.loads(found.group(1)).items()}
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return request.param, frames, console


def test_the_browser_has_nothing_to_complain_about_and_asks_for_nothing(browsed):
    _, frames, console = browsed
    assert not console
    assert len(frames) == 2 * len(REPORTS)
    assert not any(page["requests"] for page in frames.values())


def test_no_page_scrolls_sideways(browsed):
    _, frames, _ = browsed
    assert {key: page["width"] for key, page in frames.items()} == {key: int(key[1]) for key in frames}


def test_a_confusion_matrix_without_numbers_names_its_axes_and_some_of_its_classes(browsed):
    text = browsed[1]["hundred", str(PHONE)]["text"]
    assert "answer →" in text
    assert "truth ↓" in text
    assert all(name in text for name in ("speci…mber 5", "speci…ber 10", "speci…ber 95"))


def test_every_picture_is_drawn(browsed):
    _, frames, _ = browsed
    assert all(0 < width <= 240 for page in frames.values() for width in page["pictures"])
    assert len(frames["hundred", str(PHONE)]["pictures"]) == 24


def test_the_numbers_are_on_the_page(browsed, evaluation):
    text = browsed[1]["digits", str(PHONE)]["text"]
    results = json.loads((evaluation / "evaluation.json").read_text())
    low, high = results["accuracy_interval"]
    assert f"{100 * results['accuracy']:.2f} %" in text
    assert f"{100 * low:.2f} to {100 * high:.2f} %" in text
    assert f"{results['loss']:.4f}" in text
    assert results["rules"][0]["text"].replace(">=", "≥") in text
    assert results["model_sha256"] in text
    for one in results["classes"]:
        figures = (one["name"], f"{one['precision']:.3f}", f"{one['recall']:.3f}", f"{one['f1']:.3f}")
        assert re.search(r"\s+".join(map(re.escape, figures)), text)


def test_text_can_be_read_in_both_colour_schemes(browsed):
    """WCAG AA asks for a contrast of 4.5; no text of the page itself is smaller than 8 pixels."""
    scheme, frames, _ = browsed
    for key, page in frames.items():
        assert page["contrast"] >= 4.5, key
        assert page["smallest"] >= 8, key
        brightness = sum(map(int, re.findall(r"\d+", page["background"])[:3])) / 3
        assert (brightness < 64) if scheme == "dark" else (brightness > 192)


def test_hostile_class_names_are_shown_and_not_obeyed(browsed):
    page = browsed[1]["hostile", str(DESKTOP)]
    assert all(name in page["text"] for name in HOSTILE)
    assert page["title"] == "cnn on things: evaluation"
