"""A training step of another team: a small convolutional network in PyTorch, from a data set folder to `model.onnx`.

It runs where PyTorch is, in an image or a virtual environment of its own. What makes its output a model folder for
evaluate, select, export, predict and serve is two files: `model.onnx`, and `model.json` that describes it.

    pip install torch onnx onnxscript pillow trainyard
    python examples/pytorch_train.py DATASET MODEL EPOCHS

In a pipeline it gets KFP's description of its outputs as a fourth argument: kfp.local wants to be told of them.
"""

# ruff: noqa: T201
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trainyard.components.common.datasets import open_dataset
from trainyard.components.common.kfp_outputs import record_artifacts

MEAN, STD = 0.1307, 0.3081
BATCH = 64


def train(dataset: Path, model: Path, epochs: int) -> None:
    """Train on the training split, and write the network and its description."""
    torch.manual_seed(0)
    data = open_dataset(dataset)
    height, width, channels = data.image_shape
    split = data.read("train")
    network = nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * (height // 4) * (width // 4), 64), nn.ReLU()),
        nn.Linear(64, len(data.class_names)),
    )
    optimizer = torch.optim.Adam(network.parameters())
    labels = torch.from_numpy(split.labels)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(labels)).split(BATCH):
            loss = nn.functional.cross_entropy(network(prepared(split.images[batch.numpy()])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        print(f"pytorch   epoch {epoch + 1}/{epochs}  loss {total / len(labels):.4f}", file=sys.stderr)
    model.mkdir(parents=True, exist_ok=True)
    export(network.eval(), prepared(split.images[:2]), model / "model.onnx")
    description = {
        "architecture": "small-cnn (PyTorch)",
        "parameters": sum(weights.numel() for weights in network.parameters()),
        "input": {"shape": [height, width, channels]},
        "classes": data.class_names,
        "dataset": {
            "name": data.name,
            "layout": data.layout,
            "source": None,
            "sha256": None,
            "train_examples": len(labels),
            "test_examples": data.counts.get("test", 0),
            "train_counts": np.bincount(split.labels, minlength=len(data.class_names)).tolist(),
        },
        "hyperparameters": {"epochs": epochs, "batch_size": BATCH},
        "libraries": {"torch": torch.__version__},
        "onnx": {"input": "images", "layout": "NCHW", "mean": [MEAN] * channels, "std": [STD] * channels},
    }
    (model / "model.json").write_text(json.dumps(description, indent=2))


def prepared(images: np.ndarray) -> torch.Tensor:
    """Images as the network takes them: NCHW, scaled to 0..1, mean and deviation removed."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - MEAN) / STD


def export(network: nn.Module, example: torch.Tensor, file: Path) -> None:
    """Write ONNX for any number of images at a time."""
    images = torch.export.Dim("count")
    names = {"input_names": ["images"], "output_names": ["logits"]}
    torch.onnx.export(network, (example,), str(file), dynamic_shapes=({0: images},), verbose=False, **names)


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    record_artifacts(*sys.argv[4:] or [""])
