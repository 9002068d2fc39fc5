"""Training on several devices: real workers on loopback, and two devices of one process."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.training import train_here, weights
from trainyard.components.common.artifacts.model import read_card
from trainyard.components.train.devices import Workers

OPTIONS = ("--epochs", "2", "--batch-size", "100")  # 1,437 images: the last batch is not full
TWO_DEVICES = """
import sys, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from trainyard.components.train import devices
devices.strategy = lambda cluster: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
from trainyard.components.train.__main__ import main
main()
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def start_workers():
    """Start two workers of one training, each with its own options."""
    running = []

    def start(*options_of_each):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
        for index, options in enumerate(options_of_each):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            command = [sys.executable, "-m", "trainyard.components.train", *map(str, options)]
            environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
            running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return running

    yield start
    for process in running:
        process.kill()
        process.communicate()


def curve(model):
    return [(epoch.loss, epoch.accuracy) for epoch in read_card(model).history]


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory):
    """What one worker learns."""
    model = tmp_path_factory.mktemp("alone") / "model"
    train_here(dataset, model, epochs=2, batch_size=100)
    return model


def test_two_workers_learn_what_one_learns_at_the_same_batch_size(start_workers, dataset, alone, tmp_path):
    """One has little memory, so that both read from disk; the chief writes, the other does not."""
    given = ("--dataset", dataset, *OPTIONS)
    workers = start_workers(
        (*given, "--model", tmp_path / "model"),
        (*given, "--model", tmp_path / "other" / "model", "--memory-budget", 1),
    )
    told = [worker.communicate(timeout=100)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    np.testing.assert_allclose(curve(tmp_path / "model"), curve(alone), rtol=1e-4)
    for mine, reference in zip(weights(tmp_path / "model"), weights(alone), strict=True):
        np.testing.assert_allclose(mine, reference, atol=1e-4)
    assert all("read from disk during training, using 1.0 MB" in lines for lines in told)
    assert not (tmp_path / "other").exists()


def test_a_lost_worker_ends_the_others_and_all_go_on_when_started_again(start_workers, dataset, tmp_path):
    options = ("--dataset", dataset, "--model", tmp_path / "model", "--batch-size", 100)
    chief, other = start_workers(*[(*options, "--epochs", 100_000)] * 2)
    for line in chief.stderr:
        if "epoch 3/" in line:
            break
    other.send_signal(signal.SIGKILL)
    last = chief.communicate(timeout=100)[1].splitlines()[-1]
    assert chief.returncode == 1
    assert "expected all 2 workers until the end, one was lost" in last
    assert [path.name for path in tmp_path.iterdir()] == [".model.checkpoint.npz"]
    again = start_workers(*[(*options, "--epochs", 100_000)] * 2)[-2:]
    for worker in again:
        assert any("resuming after epoch" in line for line in worker.stderr)


def test_workers_that_do_not_train_the_same_are_told(start_workers, dataset, tmp_path):
    options = ("--dataset", dataset, *OPTIONS, "--model", tmp_path / "model")
    workers = start_workers((*options, "--seed", 1), (*options, "--seed", 2))
    for worker in workers:
        assert "expected all workers to train the same" in worker.communicate(timeout=100)[1].splitlines()[-1]
        assert worker.returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory", [0, 1], ids=["in-memory", "from-disk"])
def test_two_devices_of_one_process_learn_what_one_learns(dataset, alone, tmp_path, memory):
    options = ("--dataset", dataset, *OPTIONS, "--model", tmp_path / "model", "--memory-budget", memory)
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, *map(str, options)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(curve(tmp_path / "model"), curve(alone), rtol=1e-4)


def test_batch_normalisation_sees_the_whole_batch_on_two_devices(dataset, tmp_path):
    """A device that looked at its share alone would learn something else."""
    import keras

    layers = keras.layers
    network = keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(16), layers.BatchNormalization(), layers.Dense(10)]
    )
    (tmp_path / "network.json").write_text(network.to_json())
    chosen = {"epochs": 2, "batch_size": 24, "model_config": str(tmp_path / "network.json"), "learning_rate": 0.01}
    train_here(dataset, tmp_path / "one", **chosen)
    options = [str(part) for name, value in chosen.items() for part in (f"--{name.replace('_', '-')}", value)]
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, "--dataset", dataset, *options, "--model", tmp_path / "two"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(curve(tmp_path / "two"), curve(tmp_path / "one"), rtol=0.01)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "TF_CONFIG: expected JSON with 'cluster' and 'task'"),
        ('["a"]', "TF_CONFIG: expected JSON with 'cluster' and 'task'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "chief or worker, received ps 0"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "received worker 1 of 0 chiefs"),
    ],
)
def test_a_wrong_tf_config_is_told_in_one_sentence(step, dataset, tmp_path, monkeypatch, config, words):
    monkeypatch.setenv("TF_CONFIG", config)
    done = step("train", "--dataset", dataset, "--model", tmp_path / "model")
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]


def test_a_pod_of_an_indexed_job_finds_the_others_through_the_headless_service(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "my-train-1")
    job = {"TRAIN_WORKERS": "2", "TRAIN_SERVICE": "workers", "JOB_COMPLETION_INDEX": "1", "TF_CONFIG": ""}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    assert Workers.from_environment() == Workers(2, chief=False)
    assert json.loads(os.environ["TF_CONFIG"]) == {
        "cluster": {"worker": ["my-train-0.workers:2222", "my-train-1.workers:2222"]},
        "task": {"type": "worker", "index": 1},
    }


@pytest.mark.parametrize(
    "job",
    [
        {"TRAIN_WORKERS": "2"},
        {"TRAIN_WORKERS": "two", "TRAIN_SERVICE": "workers", "JOB_COMPLETION_INDEX": "0"},
        {"TRAIN_WORKERS": "2", "TRAIN_SERVICE": "workers", "JOB_COMPLETION_INDEX": "2"},
    ],
)
def test_workers_that_are_no_indexed_job_are_told_in_one_sentence(step, dataset, tmp_path, job):
    done = step("train", "--dataset", dataset, "--model", tmp_path / "model", env=job)
    assert done.returncode == 2
    assert "TRAIN_WORKERS: expected an Indexed Job" in done.stderr.splitlines()[-1]


def test_an_indexed_job_for_another_reason_trains_alone(monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    assert Workers.from_environment() == Workers(1, chief=True)
