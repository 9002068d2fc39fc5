"""The predict step: batch prediction, run as a process on real images, models and a real store."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.conftest import PROJECT, outside_aws
from trainyard.components.common.artifacts.classifier import load_classifier
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset
from trainyard.components.common.datasets.unlabelled import open_images
from trainyard.components.common.statistics import chi_square_tail
from trainyard.components.predict.sources import open_source
from trainyard.components.predict.summary import stability_index


@pytest.fixture(scope="module")
def evaluation(dataset, model, tmp_path_factory):
    """The evaluation of the model, passed."""
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    run("evaluate", "--dataset", dataset, "--model", model, "--min-accuracy", 0.9, "--evaluation", folder)
    return folder


@pytest.fixture(scope="module")
def images(dataset):
    """The test images of the digits, and the names of their classes."""
    opened = open_dataset(dataset)
    split = opened.read("test")
    return split.images, [opened.class_names[label] for label in split.labels]


@pytest.fixture(scope="module")
def photos(images, tmp_path_factory):
    """Sixty test images as files without labels, in folders that mean nothing."""
    folder = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(images[0][:60]):
        path = folder / f"roll {index // 20}" / f"{index:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return folder


def run(step, *options):
    command = [sys.executable, "-m", f"trainyard.components.{step}", *map(str, options)]
    return subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)


def rows_of(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def lines_of(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def test_each_image_becomes_a_row_with_the_models_answer(step, model, evaluation, photos, images, tmp_path):
    out = tmp_path / "out"
    options = ["--model", model, "--evaluation", evaluation, "--source", photos, "--top-k", 2]
    done = step("predict", *options, "--predictions", out, "--report", tmp_path / "report", "--count", tmp_path / "n")
    assert done.returncode == 0, done.stderr
    expected = load_classifier(model).predict(images[0][:60])
    rows, lines = rows_of(out), lines_of(out)
    assert [row["name"] for row in rows] == [f"roll {index // 20}/{index:03}.png" for index in range(60)]
    assert [row["label"] for row in rows] == [str(best) for best in expected.argmax(axis=1)]
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected.max(axis=1).tolist(), abs=1e-5)
    assert [row["label_2"] for row in rows] == [str(order[-2]) for order in expected.argsort(axis=1)]
    assert "truth" not in rows[0]
    assert {row["model_version"] for row in rows} == {""}
    told = json.loads((evaluation / "evaluation.json").read_text())["model_sha256"]
    assert {row["model_sha256"] for row in rows} == {line["model_sha256"] for line in lines} == {told}
    assert [line["top"][1]["label"] for line in lines] == [row["label_2"] for row in rows]
    assert (tmp_path / "n").read_text() == "60"
    assert (tmp_path / "report").read_text() == (out / "report.html").read_text()
    assert summary_of(out)["counts"] == {
        str(digit): [row["label"] for row in rows].count(str(digit)) for digit in range(10)
    }


def test_a_published_version_answers_with_its_number_and_the_newest_is_taken(
    step, store, bucket, model, evaluation, photos, tmp_path
):
    options = ["--model", model, "--evaluation", evaluation, "--bucket", bucket, "--model-name", "digits"]
    assert step("export", *options, "--version", 7).returncode == 0
    for path in sorted(photos.rglob("*.png")):
        store.client.upload_file(str(path), bucket, f"inbox/{path.relative_to(photos)}")
    source = ["--source", f"s3://{bucket}/inbox/"]
    done = step("predict", "--model", f"s3://{bucket}/digits/", *source, "--predictions", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 60
    assert {row["model_version"] for row in rows} == {"7"}
    assert rows[0]["name"] == "roll 0/000.png"
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]


@pytest.mark.parametrize("kind", ["zip", "tar", "npy", "npz", "idx", "one file"])
def test_images_are_taken_however_they_come(step, model, evaluation, photos, images, tmp_path, kind):
    pixels = images[0][:60]
    source = tmp_path / {"zip": "a.zip", "tar": "a.tar.gz", "npy": "a.npy", "npz": "a.npz"}.get(kind, "a")
    count = 60
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(photos.rglob("*.png")):
                archive.write(path, path.relative_to(photos))
    elif kind == "tar":
        with tarfile.open(source, "w:gz") as archive:
            archive.add(photos, ".")
    elif kind == "npy":
        np.save(source, pixels)
    elif kind == "npz":
        np.savez_compressed(source, images=pixels[..., 0])
    elif kind == "idx":
        source.mkdir()
        header = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in pixels.shape[:3])
        (source / "t10k-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    else:
        source, count = photos / "roll 1" / "020.png", 1
    options = ["--model", model, "--evaluation", evaluation, "--source", source, "--predictions", tmp_path / "out"]
    done = step("predict", *options)
    assert done.returncode == 0, done.stderr
    expected = load_classifier(model).predict(pixels).argmax(axis=1).tolist()
    answered = [row["label"] for row in rows_of(tmp_path / "out")]
    assert answered == [str(label) for label in (expected if count == 60 else expected[20:21])]


def test_images_with_labels_are_scored_too(step, model, evaluation, dataset, tmp_path):
    """With the numbers that evaluate has, for a data set and for folders that are named as the classes."""
    known = json.loads((evaluation / "evaluation.json").read_text())
    opened = open_dataset(dataset)
    split = opened.read("test")
    folders = tmp_path / "folders"
    for index, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        (folders / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folders / str(label) / f"{index}.png")
    for number, source in enumerate((dataset, folders)):
        out = tmp_path / f"out-{number}"
        done = step("predict", "--model", model, "--evaluation", evaluation, "--source", source, "--predictions", out)
        assert done.returncode == 0, done.stderr
        scores = summary_of(out)["scores"]
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            assert scores[name] == pytest.approx(known[name], abs=1e-9), (source, name)
        assert scores["accuracy_interval"] == pytest.approx(known["accuracy_interval"])
        assert summary_of(out)["drift"]["stability_index"] == pytest.approx(0, abs=1e-12)
        assert f"accuracy {known['accuracy']:.4f}" in done.stderr


def test_other_images_than_those_of_the_test_are_told_as_drift(step, model, evaluation, images, tmp_path):
    np.save(tmp_path / "ones.npy", images[0][[label == "1" for label in images[1]]])
    options = ["--source", tmp_path / "ones.npy", "--predictions", tmp_path / "out"]
    done = step("predict", "--model", model, "--evaluation", evaluation, *options)
    assert done.returncode == 0, done.stderr
    assert "strong drift from the test split" in done.stderr
    assert "Strong drift" in (tmp_path / "out" / "report.html").read_text()


def test_shares_make_up_the_whole(step, model, evaluation, photos, tmp_path):
    options = ["--model", model, "--evaluation", evaluation, "--source", photos]
    assert step("predict", *options, "--predictions", tmp_path / "whole").returncode == 0
    shares = []
    for number in range(1, 8):
        done = step("predict", *options, "--shard", f"{number}/7", "--predictions", tmp_path / str(number))
        assert done.returncode == 0, done.stderr
        shares.append(rows_of(tmp_path / str(number)))
    assert [row["name"] for share in shares for row in share] == [row["name"] for row in rows_of(tmp_path / "whole")]
    assert [row["label"] for share in shares for row in share] == [row["label"] for row in rows_of(tmp_path / "whole")]
    assert {len(share) for share in shares} == {8, 9}


def test_damaged_images_fail_or_are_left_out_up_to_a_number(step, model, evaluation, photos, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(photos, mixed)
    for name in ("roll 0/005.png", "roll 2/041.png"):
        (mixed / name).write_bytes(b"no image")
    options = ["--model", model, "--evaluation", evaluation, "--source", mixed, "--predictions", tmp_path / "out"]
    done = step("predict", *options)
    assert done.returncode == 2
    assert "roll 0/005.png: expected an image" in done.stderr.splitlines()[-1]
    done = step("predict", *options, "--on-corrupt", "skip", "--max-errors", 1)
    assert done.returncode == 2
    assert "--max-errors: expected at most 1 damaged image, received 2 among 60" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    done = step("predict", *options, "--on-corrupt", "skip", "--max-errors", 2)
    assert done.returncode == 0, done.stderr
    assert "58 images predicted, 2 damaged images skipped" in done.stderr
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 58
    assert rows[5]["name"] == "roll 0/006.png"
    assert (tmp_path / "out" / "skipped.csv").read_text() == "name\nroll 0/005.png\nroll 2/041.png\n"


def test_a_run_that_was_killed_goes_on_where_it_was(step, start_step, model, evaluation, images, tmp_path):
    many = np.concatenate([images[0]] * 200)[:60_000]
    np.save(tmp_path / "many.npy", many)
    options = ["--model", model, "--evaluation", evaluation, "--source", tmp_path / "many.npy"]
    command = ["predict", *options, "--predictions", tmp_path / "out"]
    unfinished = tmp_path / ".out.unfinished"
    process = start_step(*command)
    while not (unfinished / "progress.json").is_file() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    done = json.loads((unfinished / "progress.json").read_text())["done"]
    with (unfinished / "predictions.csv").open("a") as file:
        file.write("half a row")
    again = step(*command)
    assert again.returncode == 0, again.stderr
    assert f"resuming after {done:,} of {len(many):,} images" in again.stderr
    rows = rows_of(tmp_path / "out")
    assert [row["name"] for row in rows] == [f"images[{index}]" for index in range(len(many))]
    assert len(lines_of(tmp_path / "out")) == len(many)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.npy", "out"]


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_model_that_did_not_pass_is_refused_unless_told(step, model, evaluation, photos, tmp_path, evaluated):
    failed = []
    if evaluated:
        shutil.copytree(evaluation, tmp_path / "failed")
        told = json.loads((evaluation / "evaluation.json").read_text())
        rules = [rule | {"passed": False, "text": "accuracy 0.9 >= 0.95: failed"} for rule in told["rules"]]
        (tmp_path / "failed" / "evaluation.json").write_text(json.dumps(told | {"passed": False, "rules": rules}))
        failed = ["--evaluation", tmp_path / "failed"]
    options = ["--model", model, *failed, "--source", photos, "--predictions", tmp_path / "out"]
    done = step("predict", *options)
    assert done.returncode == 2
    words = (
        "did not pass (accuracy 0.9 >= 0.95: failed)" if evaluated else "one without an evaluation; pass --evaluation"
    )
    assert words in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.unfinished").exists()
    done = step("predict", *options, "--require-passed", "false")
    assert done.returncode == 0, done.stderr
    assert "used because of --require-passed false" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard", "9/8"], "--shard: expected NUMBER/COUNT from 1/8 to 8/8, received '9/8'"),
        (["--top-k", "0"], "--top-k: expected 1 or more"),
        (["--source", "ftp://x/y.zip"], "--source: expected s3, http, https or file before '://'"),
        (["--model", "https://x/y"], "--model: expected s3://bucket/name/[version/] or a model folder"),
        (["--split", "test"], "--split: expected a split of"),
        (["--max-errors", "-2"], "--max-errors: expected 0 or more, or -1 for no limit"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(step, model, evaluation, photos, tmp_path, options, words):
    given = ["--model", model, "--evaluation", evaluation, "--source", photos, "--predictions", tmp_path / "out"]
    done = step("predict", *given, *options)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_images_of_another_size_are_refused_in_one_line(step, model, evaluation, tmp_path):
    np.save(tmp_path / "large.npy", np.zeros((3, 40, 40, 1), np.uint8))
    options = ["--source", tmp_path / "large.npy", "--predictions", tmp_path / "out"]
    done = step("predict", "--model", model, "--evaluation", evaluation, *options)
    assert done.returncode == 2
    assert "expected images of 28 x 28 x 1, which the model takes, received 40 x 40 x 1" in done.stderr.splitlines()[-1]


def test_a_hostile_name_does_nothing_in_the_report(step, model, evaluation, images, tmp_path):
    name = "<script>alert(1)<"
    (tmp_path / "in").mkdir()
    Image.fromarray(images[0][0, ..., 0]).save(tmp_path / "in" / name, format="PNG")
    options = ["--source", tmp_path / "in", "--predictions", tmp_path / "out"]
    assert step("predict", "--model", model, "--evaluation", evaluation, *options).returncode == 0
    report = (tmp_path / "out" / "report.html").read_text()
    assert name not in report
    assert "&lt;script&gt;alert(1)&lt;" in report
    assert rows_of(tmp_path / "out")[0]["name"] == name


def one_picture(folder):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8))
    folder.mkdir(exist_ok=True)
    image.save(folder / "a.png")
    return folder


def test_what_is_no_image_among_images_is_told_and_alone_is_named(tmp_path):
    folder = one_picture(tmp_path / "images")
    (folder / "b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._c.npy").write_bytes(b"\0\5\x16\7")
    selection = open_images(folder, (8, 8, 1), True, "")
    assert (selection.names, selection.dataset.notes) == (["a.png"], ["1 file left out, no image: b.heic"])
    np.save(folder / "c.npy", np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(BadInput, match=r"expected image files or an array of images, received a.png, c.npy; pass one"):
        open_images(folder, (8, 8, 1), True, "")
    (folder / "a.png").unlink()
    (folder / "c.npy").unlink()
    with pytest.raises(BadInput, match=r"expected image files, received HEIC, the format of iPhones, as b.heic; save"):
        open_images(folder, (8, 8, 1), True, "")


def test_the_images_of_a_webdataset_are_taken_from_its_tar(tmp_path):
    folder = one_picture(tmp_path / "images")
    (folder / "a.cls").write_text("1")
    with tarfile.open(tmp_path / "test-000000.tar", "w") as archive:
        archive.add(folder / "a.cls", "a.cls")
        archive.add(folder / "a.png", "a.png")
    (tmp_path / "scratch").mkdir()
    selection = open_source(str(tmp_path / "test-000000.tar"), (8, 8, 1), True, "", tmp_path / "scratch")
    assert selection.names == ["a.png"]


def test_the_numbers_of_the_drift_are_those_of_their_definitions():
    assert stability_index([50, 50], [50, 50]) == 0
    p, q = (90.5 / 101, 10.5 / 101), (50.5 / 101, 50.5 / 101)
    expected = sum((a - b) * np.log(a / b) for a, b in zip(p, q, strict=True))
    assert stability_index([90, 10], [50, 50]) == pytest.approx(expected)
    for value, freedom, tail in ((16.919, 9, 0.05), (21.666, 9, 0.01), (3.841, 1, 0.05), (123.225, 99, 0.05)):
        assert chi_square_tail(value, freedom) == pytest.approx(tail, rel=0.08)


def test_the_example_predicts_in_shares(model, evaluation, photos, store, bucket, step, tmp_path):
    options = ["--model", model, "--evaluation", evaluation, "--bucket", bucket, "--model-name", "digits"]
    assert step("export", *options).returncode == 0
    command = [sys.executable, "-m", "examples.batch_predict", "run", "--shards", "3", "--runs", tmp_path / "runs"]
    done = subprocess.run(
        [
            *command,
            "--model",
            f"s3://{bucket}/digits/",
            "--source",
            photos,
            "--shards",
            "3",
            "--runs",
            tmp_path / "runs",
        ],
        cwd=tmp_path,
        env=outside_aws() | store.environment | {"PYTHONPATH": str(PROJECT), "TRAINYARD_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[:2] for line in done.stdout.splitlines()] == [
        [f"share {n}/3", "20 images"] for n in (1, 2, 3)
    ]
