"""Data sets of the four layouts, read without TensorFlow."""

import gzip
import io
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from components.common.cli import BadInput
from components.common.datasets import open_dataset
from components.common.images import decode_images
from components.common.png import decode_pngs


def pictures(count, height=12, width=9, channels=3, classes=3, seed=0):
    """Smooth random images (so that PNG encoders use all filters) and labels that hold every class."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)
    images = np.stack(
        [np.asarray(grey_or_rgb(one).resize((width, height))).reshape(height, width, channels) for one in small]
    )
    return images, np.arange(count) % classes


def grey_or_rgb(image):
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def png(image):
    file = io.BytesIO()
    grey_or_rgb(image).save(file, "PNG")
    return file.getvalue()


def write_npz(folder, train, test, **more):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data.npz", x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1], **more)
    return folder


def write_idx(folder, train, test, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if suffix else bytes
    for prefix, (images, labels) in (("train", train), ("t10k", test)):
        count, height, width, _ = images.shape
        head = struct.pack(">IIII", 0x803, count, height, width)
        (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(head + images.tobytes()))
        head = struct.pack(">II", 0x801, count)
        (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(head + labels.astype(np.uint8).tobytes()))
    return folder


def write_folders(folder, train, test, names="abc"):
    for split, (images, labels) in (("train", train), ("test", test)):
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / split / names[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{index:04d}.png").write_bytes(png(image))
    return folder


TFDS = """
import sys, numpy as np, tensorflow_datasets as tfds
folder, source = sys.argv[1:]
arrays = np.load(source)
class Shapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")
    def _info(self):
        shape = arrays["x_train"].shape[1:]
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"])}), supervised_keys=("image", "label"))
    def _split_generators(self, manager):
        return {split: self._generate_examples(split) for split in ("train", "test")}
    def _generate_examples(self, split):
        for index, (image, label) in enumerate(zip(arrays["x_" + split], arrays["y_" + split])):
            yield index, {"id": str(index), "image": image, "label": int(label)}
Shapes(data_dir=folder).download_and_prepare()
"""


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A data set that TFDS itself prepared: 60 + 15 colour images in three named classes."""
    folder = tmp_path_factory.mktemp("tfds")
    write_npz(folder / "source", pictures(60), pictures(15, seed=1))
    source, target = folder / "source" / "data.npz", folder / "prepared"
    done = subprocess.run([sys.executable, "-c", TFDS, target, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def as_set(split):
    return sorted((image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True))


def test_a_folder_that_tfds_prepared_is_read_bit_for_bit_without_tensorflow(tfds_folder):
    dataset = open_dataset(tfds_folder)
    assert (dataset.layout, dataset.name, dataset.class_names) == ("tfds", "shapes", ["cat", "dog", "eel"])
    assert dataset.image_shape == (12, 9, 3)
    assert dataset.counts == {"train": 60, "test": 15}
    for split, seed in (("train", 0), ("test", 1)):
        images, labels = pictures(dataset.counts[split], seed=seed)
        expected = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
        assert as_set(dataset.read(split)) == expected


def test_tfds_and_this_reader_agree_on_what_is_in_a_folder(tfds_folder):
    program = f"""
import sys, numpy as np, tensorflow_datasets as tfds
builder = tfds.builder_from_directory({str(next(tfds_folder.rglob("dataset_info.json")).parent)!r})
rows = list(tfds.as_numpy(builder.as_dataset(split="test", as_supervised=True)))
np.savez(sys.argv[1], images=np.stack([row[0] for row in rows]), labels=np.array([row[1] for row in rows]))
"""
    answer = tfds_folder.parent / "answer.npz"
    done = subprocess.run([sys.executable, "-c", program, answer], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs, ours = np.load(answer), open_dataset(tfds_folder).read("test")
    np.testing.assert_array_equal(ours.images, theirs["images"])
    np.testing.assert_array_equal(ours.labels, theirs["labels"])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", ["npz", "folders"])
def test_images_come_out_as_they_went_in(tmp_path, layout, channels):
    train, test = pictures(30, channels=channels), pictures(9, channels=channels, seed=1)
    {"npz": write_npz, "folders": write_folders}[layout](tmp_path / "deep" / "er", train, test)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.image_shape) == (layout, (12, 9, channels))
    assert dataset.class_names == (["a", "b", "c"] if layout == "folders" else ["0", "1", "2"])
    assert as_set(dataset.read("test")) == sorted((i.tobytes(), int(k)) for i, k in zip(*test, strict=True))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_packed_or_not(tmp_path, suffix):
    train, test = pictures(30, channels=1), pictures(9, channels=1, seed=1)
    dataset = open_dataset(write_idx(tmp_path, train, test, suffix))
    assert (dataset.layout, dataset.counts) == ("idx", {"train": 30, "test": 9})
    np.testing.assert_array_equal(dataset.read("train").images, train[0])
    np.testing.assert_array_equal(dataset.read("test").labels, test[1])


def test_a_tfds_folder_wins_over_an_npz_beside_it(tmp_path, tfds_folder):
    write_npz(tmp_path, pictures(6), pictures(3))
    assert open_dataset(tmp_path).layout == "npz"
    prepared = next(tfds_folder.rglob("dataset_info.json")).parent
    (tmp_path / "copy").mkdir()
    for file in prepared.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    assert open_dataset(tmp_path).layout == "tfds"


def test_class_names_may_stand_in_the_npz_and_numbered_folders_sort_as_numbers(tmp_path):
    named = write_npz(tmp_path / "npz", pictures(6), pictures(3), class_names=np.array(["red", "green", "blue"]))
    assert open_dataset(named).class_names == ["red", "green", "blue"]
    images = pictures(11, classes=11)
    numbered = write_folders(tmp_path / "folders", images, images, [str(number) for number in range(11)])
    assert open_dataset(numbered).class_names == [str(number) for number in range(11)]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_every_kind_of_png_decodes_as_pillow_decodes_it(mode):
    images, _ = pictures(5, height=20, width=20)
    encoded = []
    for image in images:
        source = Image.fromarray(image)
        source = source.convert(mode)
        file = io.BytesIO()
        source.save(file, "PNG")
        encoded.append(file.getvalue())
    target = "L" if mode in ("L", "LA", "1") else "RGB"
    expected = np.stack([np.asarray(Image.open(io.BytesIO(one)).convert(target)) for one in encoded])
    np.testing.assert_array_equal(decode_images(encoded, "here").squeeze(), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (28, 28, 1), (64, 48, 3)])
def test_the_fast_decoder_undoes_every_png_filter(shape):
    random = np.random.default_rng(3)
    noise = random.integers(0, 256, (20, *shape), dtype=np.uint8)
    slope = np.add.outer(np.arange(20), np.arange(np.prod(shape))).reshape(20, *shape).astype(np.uint8)
    smooth, _ = pictures(20, shape[0], shape[1], shape[2])
    for images in (noise, slope, smooth):
        np.testing.assert_array_equal(decode_pngs([png(image) for image in images]), images)
    filters = {kind for image in (*noise, *slope, *smooth) for kind in used_filters(png(image), shape)}
    assert shape == (1, 1, 1) or filters >= {1, 2, 4}


def used_filters(content, shape):
    import zlib

    length = int.from_bytes(content[33:37])
    return zlib.decompress(content[41 : 41 + length])[:: 1 + shape[1] * shape[2]]


def test_sixteen_bit_images_are_refused_rather_than_cut(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(file, "PNG")
    with pytest.raises(BadInput, match="8 bits"):
        decode_images([file.getvalue()], "here")


def broken(tmp_path):
    """Folders that are no data sets, and a word of the sentence each must end in."""
    train, test = pictures(12, channels=1), pictures(6, channels=1)

    empty = tmp_path / "empty"
    empty.mkdir()
    yield empty, "an empty folder"

    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("no data")
    yield other, "received notes.txt"

    yield tmp_path / "missing", "received nothing"

    keys = tmp_path / "keys"
    keys.mkdir()
    np.savez(keys / "digits.npz", images=train[0], labels=train[1])
    yield keys, "expected x_train, y_train, x_test, y_test, received images, labels"

    damaged = write_npz(tmp_path / "damaged", train, test)
    (damaged / "data.npz").write_bytes((damaged / "data.npz").read_bytes()[:500])
    yield damaged, "damaged"

    yield write_npz(tmp_path / "beyond", train, (test[0], test[1] + 7)), "expected labels 0 to 2 (3 classes)"
    yield write_npz(tmp_path / "negative", (train[0], train[1] - 1), test), "expected labels"
    yield write_npz(tmp_path / "words", (train[0], np.array(["a"] * 12)), test), "labels as whole numbers"
    yield write_npz(tmp_path / "fractions", (train[0] / 255, train[1]), test), "whole numbers 0 to 255"
    yield write_npz(tmp_path / "fewer", (train[0][:5], train[1]), test), "received 5 and 12 labels"
    yield write_npz(tmp_path / "none", train, (test[0][:0], test[1][:0])), "expected a split 'test'"

    two = tmp_path / "two"
    write_npz(two / "one", train, test)
    write_npz(two / "other", train, test)
    yield two, "expected one data set, received 2"

    cut = write_idx(tmp_path / "cut", train, test)
    file = cut / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    yield cut, "expected an IDX file"

    uneven = write_folders(tmp_path / "uneven", train, test)
    (uneven / "train" / "a" / "zz.png").write_bytes(png(pictures(1, height=40)[0][0]))
    yield uneven, "zz.png: expected images of one size"

    corrupt = write_folders(tmp_path / "corrupt", train, test)
    (corrupt / "train" / "b" / "zz.png").write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")
    yield corrupt, "zz.png: expected a PNG or JPEG image"


def read_all(folder):
    dataset = open_dataset(folder)
    return dataset.read("train"), dataset.read("test")


def test_what_is_no_data_set_is_named_in_one_sentence(tmp_path):
    for folder, words in broken(tmp_path):
        with pytest.raises(BadInput) as caught:
            read_all(folder)
        assert words in str(caught.value), folder.name


def test_a_truncated_or_incomplete_tfds_folder_is_refused(tmp_path, tfds_folder):
    prepared = next(tfds_folder.rglob("dataset_info.json")).parent
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in prepared.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    shard = next(copy.glob("*train.tfrecord*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-30])
    with pytest.raises(BadInput, match="truncated"):
        open_dataset(copy).read("train")
    shard.unlink()
    with pytest.raises(BadInput, match=r"lacks .*train\.tfrecord|train\.tfrecord"):
        open_dataset(copy).read("train")
    info = json.loads((copy / "dataset_info.json").read_text())
    info["fileFormat"] = "array_record"
    (copy / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(BadInput, match="TFRecord"):
        open_dataset(copy)
    (copy / "features.json").unlink()
    with pytest.raises(BadInput, match=r"features\.json"):
        open_dataset(copy)
