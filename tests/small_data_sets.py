"""A small data set of each layout as files, for what damages them."""

import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile

import numpy as np
from PIL import Image

from trainyard.components.common.datasets.tfrecord import example_class

PIXELS = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
LABELS = np.array([0, 1], np.uint8)


def image(kind, pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def saved(save, *arrays, **named):
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def idx(pack):
    return {
        f"{split}-{kind}-ubyte{'.gz' if pack is gzip.compress else ''}": pack(content)
        for split in ("train", "t10k")
        for kind, content in (
            ("images-idx3", struct.pack(">IIII", 2051, 2, 8, 8) + PIXELS.tobytes()),
            ("labels-idx1", struct.pack(">II", 2049, 2) + LABELS.tobytes()),
        )
    }


def tfds():
    records = b""
    for pixels, label in zip(PIXELS, LABELS, strict=True):
        example = example_class()()
        example.features.feature["image"].bytes_list.value.append(image("PNG", pixels))
        example.features.feature["label"].int64_list.value.append(int(label))
        content = example.SerializeToString()
        records += struct.pack("<QI", len(content), 0) + content + bytes(4)
    splits = [{"name": split, "shardLengths": ["2"]} for split in ("train", "test")]
    shape = {"image": {"shape": {"dimensions": ["8", "8", "1"]}}}
    features = {"featuresDict": {"features": {"image": shape, "label": {"classLabel": {"numClasses": "2"}}}}}
    return {
        "dataset_info.json": json.dumps({"name": "made", "splits": splits}).encode(),
        "features.json": json.dumps(features).encode(),
        "made-train.tfrecord-00000-of-00001": records,
        "made-test.tfrecord-00000-of-00001": records,
    }


def cifar():
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": LABELS.tolist()}
    batches = {name: pickle.dumps(batch, protocol=2) for name in ("data_batch_1", "test_batch")}
    return {**batches, "batches.meta": pickle.dumps({b"label_names": [b"ant", b"bee"]}, protocol=2)}


def shard():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for index, pixels in enumerate(PIXELS):
            for ending, content in (("png", image("PNG", pixels)), ("cls", str(index).encode())):
                member = tarfile.TarInfo(f"{index}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def hugging_face():
    """As Parquet, and as `save_to_disk` writes it; none where pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        return {}
    features = {"image": {"_type": "Image"}, "label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}
    columns = {"image": [{"bytes": image("PNG", one), "path": None} for one in PIXELS], "label": LABELS.tolist()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    packed, plain = io.BytesIO(), io.BytesIO()
    parquet.write_table(table, packed)
    with pyarrow.ipc.new_stream(plain, table.schema) as writer:
        writer.write_table(table)
    state = {f"{split}/state.json": b"{}" for split in ("train", "test")}
    return {
        "parquet": {f"{split}-00000-of-00001.parquet": packed.getvalue() for split in ("train", "test")},
        "arrow": {
            "dataset_dict.json": b'{"splits": ["train", "test"]}',
            **state,
            **{f"{split}/data-00000-of-00001.arrow": plain.getvalue() for split in ("train", "test")},
        },
    }


def layouts():
    """The files of each data set by name, by the name of its layout."""
    arrays = {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS, "y_test": LABELS}
    kinds = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
    folders = {
        f"{split}/{label}/{number}.{kind.lower()}": image(kind, PIXELS[label])
        for split in ("train", "test")
        for label in (0, 1)
        for number, kind in enumerate(kinds)
    }
    table = {f"{number}.png": image("PNG", PIXELS[number % 2]) for number in range(4)}
    rows = [(f"{number}.png", "ab"[number % 2]) for number in range(4)]
    csv = "file_name,label\n" + "".join(f"{name},{label}\n" for name, label in rows)
    lines = "".join(json.dumps({"file_name": name, "label": label}) + "\n" for name, label in rows)
    return {
        "npz": {"digits.npz": saved(np.savez_compressed, **arrays)},
        "stored npz": {"digits.npz": saved(np.savez, **arrays)},
        "npy": {f"{name}.npy": saved(np.save, array) for name, array in arrays.items()},
        "idx": idx(bytes),
        "gzipped idx": idx(gzip.compress),
        "tfds": tfds(),
        "cifar": cifar(),
        "webdataset": {"train-000000.tar": shard(), "test-000000.tar": shard()},
        "folders": folders,
        "table": {**table, "labels.csv": csv.encode()},
        "json lines": {**table, "metadata.jsonl": lines.encode()},
        **hugging_face(),
    }


LAYOUTS = layouts()


def damaged(content, damages, kept):
    """Some bytes replaced (place, 0 to 1, and value), then cut to a share."""
    content = bytearray(content)
    for place, value in damages:
        if content:
            content[int(place * len(content))] = value
    return bytes(content[: int(kept * len(content))])


def write_damaged(folder, layout, which, damages, kept):
    """Write a data set of which one file is damaged."""
    shutil.rmtree(folder, ignore_errors=True)
    names = sorted(LAYOUTS[layout])
    hit = names[int(which * len(names))]
    for name, content in LAYOUTS[layout].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(damaged(content, damages, kept) if name == hit else content)
