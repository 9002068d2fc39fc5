"""The model server under load while its versions change, under attack, and over thousands of requests."""

import random
import subprocess
import sys

import pytest

from tests.chaos import model_server
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def other(dataset, tmp_path_factory):
    """A model whose answers differ."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    command = [sys.executable, "-m", "trainyard.components.train", "--dataset", dataset, "--model", folder]
    subprocess.run([*command, "--epochs", "1", "--seed", "9"], cwd=PROJECT, check=True, capture_output=True)
    return folder


@pytest.fixture
def number(seed):
    """The seed as a number."""
    return random.Random(seed).randrange(2**32)


def test_no_request_is_lost_while_versions_change(model, other, number, rounds, note):
    figures = model_server.swaps(
        (model, other),
        number,
        requests=len(rounds(1_000, 50_000)),
        changes=len(rounds(2, 50)),
        canaries=len(rounds(2, 20)),
    )
    note_all(note, "requests while versions change", figures, "failed", "wrong", answered="requests")
    assert figures["failed"] == figures["wrong"] == 0


def test_no_attack_harms_the_next_request(model, number, rounds, note):
    figures = model_server.attacks(model, number, len(rounds(40, 2_000)))
    note_all(note, "attacks on the model server", figures, "answered", "refused", "closed", "unexpected")
    assert figures["unexpected"] == figures["harmed"] == 0


def test_memory_stays_over_thousands_of_requests(model, number, rounds, note):
    figures = model_server.memory(model, number, len(rounds(1_000, 20_000)))
    grown = (figures["end"] - figures["start"]) / 2**20
    note(f"memory over {figures['requests']:,} requests", f"grown by {grown:.1f} MiB")
    assert grown < 20


def note_all(note, tried, figures, *outcomes, **rest):
    """Note counts; `rest` names the total of which what is left over is noted."""
    for outcome in outcomes:
        for _ in range(figures[outcome]):
            note(tried, outcome)
    for outcome, total in rest.items():
        for _ in range(figures[total] - sum(figures[one] for one in outcomes)):
            note(tried, outcome)
