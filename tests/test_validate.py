"""The validate step, run as a process on small data sets with every fault it looks for."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser
from tests.conftest import PROJECT
from trainyard.components.validate.drift import (
    chi_square_p_value,
    kolmogorov_p_value,
    kolmogorov_smirnov,
)
from trainyard.components.validate.duplicates import similar_pairs

CLASSES = ("cat", "dog", "owl")


def photo(seed, size=(60, 80)):
    """A smooth coloured image, as photos are."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), "uint8")
    return Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Photos of three classes, ten to learn from and four to test with, and nothing wrong."""
    folder = tmp_path_factory.mktemp("clean") / "photos"
    for number, label in enumerate(CLASSES):
        for split, count in (("train", 10), ("test", 4)):
            (folder / split / label).mkdir(parents=True)
            for index in range(count):
                photo(1000 * number + 100 * len(split) + index).save(
                    folder / split / label / f"{index}.jpg", quality=92
                )
    return folder


@pytest.fixture(scope="module")
def faulty(clean, tmp_path_factory):
    """The same with one fault of every kind."""
    folder = tmp_path_factory.mktemp("faulty") / "photos"
    shutil.copytree(clean, folder)
    train, test = folder / "train", folder / "test"
    shutil.copy(train / "cat/0.jpg", test / "cat/copy.jpg")
    darker = Image.open(train / "dog/1.jpg").resize((40, 30)).point(lambda value: 0.8 * value + 10)
    darker.save(test / "dog/compressed.png")
    shutil.copy(train / "owl/2.jpg", train / "cat/owl.jpg")
    shutil.copy(train / "cat/3.jpg", train / "cat/again.jpg")
    Image.open(train / "cat/4.jpg").save(train / "cat/smaller.jpg", quality=60)
    Image.new("RGB", (80, 60), (200, 30, 30)).save(train / "dog/blank.jpg")
    photo(7).point(lambda value: value // 8).save(train / "dog/dark.jpg")
    photo(8, (4, 5)).save(train / "dog/tiny.png")
    (train / "owl/damaged.jpg").write_bytes((train / "owl/5.jpg").read_bytes()[:600])
    shutil.rmtree(test / "owl")
    return folder


@pytest.fixture(scope="module")
def found(faulty, tmp_path_factory):
    """What validate wrote about it: the folder with all outputs."""
    out = tmp_path_factory.mktemp("validated")
    done = validate(faulty, out)
    assert done.returncode == 0, done.stderr
    (out / "stderr").write_text(done.stderr)
    return out


def validate(dataset, out, *options):
    names = ("metrics", "report", "findings", "passed", "summary")
    outputs = [part for name in names for part in (f"--{name}", out / name)]
    command = [sys.executable, "-m", "trainyard.components.validate", "--dataset", dataset, *outputs, *options]
    command += ["--validation", out / "validation"]
    return subprocess.run(list(map(str, command)), cwd=PROJECT, capture_output=True, text=True)


def rows(out, kind):
    with (out / "findings").open() as file:
        return [row for row in csv.DictReader(file) if row["finding"] == kind]


def test_clean_data_has_no_findings(clean, tmp_path):
    done = validate(clean, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "validate  42 images of 3 classes, 0 findings; no threshold set\n"
    assert (tmp_path / "passed").read_text() == "true"
    assert len((tmp_path / "findings").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "images"),
    [
        ("leaked_test_images", {"test/cat/copy.jpg": "train/cat/0.jpg", "test/dog/compressed.png": "train/dog/1.jpg"}),
        ("conflicting_labels", {"train/owl/2.jpg": "train/cat/owl.jpg"}),
        ("exact_duplicates", {"train/cat/again.jpg": "train/cat/3.jpg", "train/owl/2.jpg": "train/cat/owl.jpg"}),
        ("near_duplicates", {"train/cat/smaller.jpg": "train/cat/4.jpg"}),
        ("damaged_images", {"train/owl/damaged.jpg": ""}),
        ("blank_images", {"train/dog/blank.jpg": ""}),
        ("dark_images", {"train/dog/dark.jpg": ""}),
        ("tiny_images", {"train/dog/tiny.png": ""}),
    ],
)
def test_every_fault_is_named_with_the_image_that_it_is_a_copy_of(found, kind, images):
    listed = {row["image"]: row["original_image"] for row in rows(found, kind)}
    pairs = {frozenset(pair) for pair in listed.items()}
    assert pairs == {frozenset(pair) for pair in images.items()}
    assert json.loads((found / "metrics").read_text())[kind] == len(images)


def test_a_class_without_test_images_is_named_and_classes_are_counted(found):
    assert [row["label"] for row in rows(found, "untested_classes")] == ["owl"]
    metrics = json.loads((found / "metrics").read_text())
    assert (metrics["images"], metrics["classes"], metrics["smallest_class"]) == (47, 3, 11)
    assert metrics["class_imbalance"] == pytest.approx(13 / 11)


def test_leakage_is_told_first(found):
    lines = (found / "stderr").read_text().splitlines()
    assert lines[0].startswith("validate  Leakage: test images that are copies of training or validation images: 2 (")
    assert "test/cat/copy.jpg = train/cat/0.jpg" in lines[0]
    report = (found / "report").read_text()
    assert report.index("Leakage") < report.index("different labels") < report.index("one colour")
    assert (found / "validation/report.html").read_text() == report


def test_a_rule_that_is_not_met_is_a_verdict_and_stops_only_if_asked_to(faulty, tmp_path):
    rule = ("--data-thresholds", '{"leaked_test_images": 0, "smallest_class": 5}')
    done = validate(faulty, tmp_path, *rule)
    assert done.returncode == 0
    assert done.stderr.endswith("leaked_test_images 2 <= 0: failed, smallest_class 11 >= 5: passed\n")
    assert (tmp_path / "passed").read_text() == "false"
    done = validate(faulty, tmp_path, *rule, "--stop-on-failure", "true")
    assert done.returncode == 2
    assert "does not meet leaked_test_images 2 <= 0" in done.stderr.splitlines()[-1]
    assert (tmp_path / "validation/report.html").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data-thresholds", '{"leaks": 0}'], "--data-thresholds: expected metrics among leaked_test_images, "),
        (["--data-thresholds", '{"class_drift": 0.1}'], "--data-thresholds: expected --baseline with class_drift"),
        (["--data-thresholds", '{"images": "many"}'], "--data-thresholds: expected a number"),
        (["--near-duplicate-similarity", "0.5"], "--near-duplicate-similarity: expected a number from 0.9 to 1"),
    ],
)
def test_a_rule_that_can_be_none_is_refused_in_one_line(tmp_path, options, said):
    done = validate(tmp_path, tmp_path, *options)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


def test_arrays_are_validated_as_files_are(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 10), "uint8")
    labels = np.arange(40) % 4
    images[35], images[3], images[8] = images[2], images[1], 128
    labels[:32][labels[:32] == 3] = 2
    folder = tmp_path / "data"
    folder.mkdir()
    names = np.array(list("abcd"))
    arrays = {"x_train": images[:32], "y_train": labels[:32], "x_test": images[32:], "y_test": labels[32:]}
    np.savez(folder / "data.npz", **arrays, class_names=names)
    assert validate(folder, tmp_path).returncode == 0
    assert [(row["image"], row["original_image"]) for row in rows(tmp_path, "leaked_test_images")] == [
        ("test[3]", "train[2]")
    ]
    assert [row["image"] for row in rows(tmp_path, "conflicting_labels")] == ["train[3]", "test[3]"]
    assert [row["label"] for row in rows(tmp_path, "empty_classes")] == ["d"]
    assert [row["image"] for row in rows(tmp_path, "blank_images")] == ["train[8]"]


def test_export_refuses_a_model_whose_data_did_not_pass_and_publishes_what_was_found(
    step, bucket, store, dataset, model, tmp_path
):
    destination = ("--model", model, "--bucket", bucket, "--model-name", "digits", "--model-uri", tmp_path / "uri")
    validate(dataset, tmp_path, "--data-thresholds", '{"images": 1000000}')
    done = step("export", *destination, "--validation", (tmp_path / "summary").read_text())
    assert done.returncode == 2
    assert "the data did not pass (images 1" in done.stderr.splitlines()[-1]
    validate(dataset, tmp_path)
    done = step("export", *destination, "--validation", tmp_path / "validation")
    assert done.returncode == 0, done.stderr
    there = store.client.get_object(Bucket=bucket, Key="digits/1/validation.json")["Body"].read()
    assert json.loads(there) == json.loads((tmp_path / "summary").read_text())


def test_data_is_compared_with_that_of_a_published_version(step, bucket, store, dataset, model, tmp_path):
    validate(dataset, tmp_path)
    uri = f"s3://{bucket}/digits/"
    first = ("--model", model, "--bucket", bucket, "--model-name", "digits")
    assert step("export", *first, "--validation", (tmp_path / "summary").read_text()).returncode == 0

    def drift(folder):
        rule = ("--data-thresholds", '{"brightness_drift": 0.2, "class_drift_p_value": 0.01}')
        done = step("validate", "--dataset", folder, "--validation", tmp_path / "v", "--baseline", uri, *rule)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "v/validation.json").read_text()), done.stderr

    same, told = drift(dataset)
    assert same["passed"]
    assert same["metrics"]["class_drift"] == same["metrics"]["brightness_drift"] == same["metrics"]["size_drift"] == 0
    assert same["metrics"]["brightness_drift_p_value"] == 1
    assert same["baseline"] == f"{uri}1/"
    with np.load(dataset / "digits.npz") as arrays:
        kept = arrays["y_train"] < 5
        changed = dict(arrays) | {"x_train": arrays["x_train"][kept] // 2, "y_train": arrays["y_train"][kept]}
    (tmp_path / "changed").mkdir()
    np.savez(tmp_path / "changed/digits.npz", **changed, class_names=np.array(list("0123456789")))
    other, told = drift(tmp_path / "changed")
    assert not other["passed"]
    assert other["metrics"]["class_drift"] == pytest.approx(0.5, abs=0.05)
    assert other["metrics"]["class_drift_p_value"] < 1e-9
    assert "class shares differ by 0." in told


def test_without_a_published_version_rules_on_drift_are_waived(step, bucket, dataset, tmp_path):
    options = ("--baseline", f"s3://{bucket}/digits/", "--data-thresholds", '{"class_drift": 0.1}')
    done = step("validate", "--dataset", dataset, "--validation", tmp_path / "v", *options)
    assert done.returncode == 0, done.stderr
    assert "no version published yet" in done.stderr
    assert json.loads((tmp_path / "v/validation.json").read_text())["passed"]


def test_the_p_values_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(3)
    for classes in (2, 3, 10, 11):
        first, second = random.integers(20, 60, (2, classes))
        expected = stats.chi2_contingency([first, second], correction=False).pvalue
        assert chi_square_p_value(first, second) == pytest.approx(expected, rel=1e-9)
    for shift in (0, 0.1, 0.3):
        first, second = random.normal(size=400), random.normal(shift, size=300)
        edges = np.unique(np.concatenate([first, second, [-9, 9]]))
        edges = np.append(edges, 10)
        distance = kolmogorov_smirnov(np.histogram(first, edges)[0], np.histogram(second, edges)[0])
        expected = stats.ks_2samp(first, second, method="exact")
        assert distance == pytest.approx(expected.statistic)
        assert kolmogorov_p_value(distance, 400, 300) == pytest.approx(expected.pvalue, abs=0.02)


@pytest.mark.parametrize("similarity", [0.9, 0.97, 0.995])
def test_no_similar_pair_is_missed(similarity):
    """The search by cells finds what comparing every image with every other finds."""
    random = np.random.default_rng(5)
    originals = random.normal(128, 40, (300, 64))
    noise = random.normal(0, 1, (3, 300, 64)) * np.array([2, 6, 14])[:, np.newaxis, np.newaxis]
    copies = np.concatenate([originals, *(originals + noise)]).clip(0, 255).astype("uint8").reshape(-1, 8, 8, 1)
    expected = np.corrcoef(copies.reshape(len(copies), -1))
    one, other = np.nonzero(np.triu(expected >= similarity, 1))
    pairs = list(similar_pairs(copies, similarity, lambda one, other: np.ones(len(one), bool)))
    found = {(int(a), int(b)) for first, second, _ in pairs for a, b in zip(first, second, strict=True)}
    assert found == set(zip(one.tolist(), other.tolist(), strict=True))
    assert len(found) >= 300


def test_the_report_fits_a_phone_and_needs_nothing_from_outside(found, tmp_path):
    browser = Browser(tmp_path / "profile")
    try:
        for width in (360, 1180):
            browser.look(width, 900)
            browser.open((found / "validation/report.html").as_uri())
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run("[...document.images].every(one => one.naturalWidth > 0)")
        assert browser.run("document.images.length") >= 14
        assert not browser.complaints
        assert all(address.startswith(("file:", "data:")) for address in browser.requests)
    finally:
        browser.close()
