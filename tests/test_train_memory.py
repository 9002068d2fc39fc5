"""Training with less memory than the images take: the same result, from disk."""

import subprocess
import sys

import numpy as np
import pytest

from tests.training import npz, train_here, weights

PEAK = """
import os
from benchmarks.measure import memory
from trainyard.components.train.__main__ import main
try:
    main()
finally:
    print(memory(os.getpid(), "VmHWM"))
"""


def peak_memory(*options):
    """MiB that a training took at most."""
    done = subprocess.run([sys.executable, "-c", PEAK, *map(str, options)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


def colours(count, size):
    """Images whose class is their colour."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, count)
    images = random.integers(0, 80, (count, size, size, 3), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 100
    return images, labels


def test_memory_stays_within_the_budget_and_the_weights_are_the_same(tmp_path):
    """250 MB of images, 500 MB with TensorFlow's copy, in 40 MB; one part does not divide the epoch evenly."""
    data = npz(tmp_path / "data", *colours(9000, 96))
    options = ("--dataset", data, "--architecture", "dense", "--epochs", 1, "--batch-size", 100)
    roomy = peak_memory(*options, "--model", tmp_path / "roomy", "--memory-budget", 1000)
    tight = peak_memory(*options, "--model", tmp_path / "tight", "--memory-budget", 40)
    assert tight < roomy - 300
    for mine, reference in zip(weights(tmp_path / "tight"), weights(tmp_path / "roomy"), strict=True):
        np.testing.assert_array_equal(mine, reference)


@pytest.mark.parametrize("chosen", [{"validation_split": 0.2, "early_stopping": 2}, {"architecture": "cnn"}])
def test_reading_from_disk_changes_nothing_whatever_is_trained(dataset, tmp_path, chosen):
    train_here(dataset, tmp_path / "memory", epochs=2, batch_size=200, **chosen)
    lines = train_here(dataset, tmp_path / "disk", epochs=2, batch_size=200, memory_budget=1, **chosen)
    assert "images would take 2.3 MB: read from disk during training, using 1.0 MB" in lines
    for mine, reference in zip(weights(tmp_path / "disk"), weights(tmp_path / "memory"), strict=True):
        np.testing.assert_array_equal(mine, reference)


def test_a_step_takes_each_image_once_and_fills_the_last_batch_with_others():
    from trainyard.components.train.feed import order_of_steps

    order = order_of_steps(np.random.default_rng(0).permutation(23), batch=5, replicas=2)
    assert order.shape == (5, 6)
    assert sorted(order[order >= 0]) == list(range(23))
    assert ((order >= 0).sum(axis=1) == [5, 5, 5, 5, 3]).all()
    assert set(~order[order < 0]) <= set(range(23))


def test_a_negative_budget_is_refused(step, dataset, tmp_path):
    done = step("train", "--dataset", dataset, "--model", tmp_path / "model", "--memory-budget", "-1")
    assert done.returncode == 2
    assert "--memory-budget: expected megabytes, at least 0, received -1" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("limit", "available"),
    [("max", 8_000 * 1024), ("3000000", 2_000_000), ("500000", 0), (None, 8_000 * 1024)],
    ids=["no-limit", "limited", "used-up", "no-cgroup"],
)
def test_what_a_container_may_take_counts_and_files_in_its_cache_do_not(tmp_path, limit, available):
    """As a kernel with cgroup v2 tells it, which not every machine of ours has."""
    from trainyard.components.train.memory import available as available_memory

    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 16000 kB\nMemFree: 100 kB\nMemAvailable: 8000 kB\n")
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    if limit:
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.stat").write_text("anon 1000000\nfile 2000000\n")
    assert available_memory(tmp_path) == available
