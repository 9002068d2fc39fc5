"""The seed, how much is tried, and the summary."""

import random
import re
import time
from collections import Counter

import pytest

from trainyard.components.common.cli import LONGEST_LINE

FIGURES = {}
"""By what was tried: how often each outcome was seen."""


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=int(time.time()), help="What all random choices begin with.")
    parser.addoption("--brief", action="store_true", help="A part of it, in less than two minutes.")


def pytest_report_header(config):
    return f"seed {config.getoption('seed')}, {'brief' if config.getoption('brief') else 'all of it'}"


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.section(f"seed {config.getoption('seed')}, {time.strftime('%Y-%m-%d')}")
    for name, outcomes in FIGURES.items():
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
        terminalreporter.write_line(f"{sum(outcomes.values()):7,}  {name}: {told}")


@pytest.fixture
def seed(request):
    """The seed of one test."""
    return f"{request.config.getoption('seed')} {request.node.name}"


@pytest.fixture
def chance(seed):
    """Random choices of one test."""
    return random.Random(seed)


@pytest.fixture
def rounds(pytestconfig):
    """How often to try: `rounds(brief=3, full=40)`."""
    return lambda brief, full: range(brief if pytestconfig.getoption("brief") else full)


@pytest.fixture
def note():
    """Note an outcome for the summary: `note("kills of train", "whole")`."""
    return lambda tried, outcome: FIGURES.setdefault(tried, Counter()).update([outcome])


@pytest.fixture
def one_line():
    """Make sure that a failed call said one plain line last, of a length to read."""

    def check(done):
        assert done.returncode in (1, 2), done.stderr
        last = done.stderr.strip().split("\n")[-1]
        assert "Traceback" not in done.stderr
        assert "unexpected" not in last, last
        assert len(last) <= LONGEST_LINE + 10, last
        assert re.sub(r"[\n\t]", "", last).isprintable()
        return last

    return check
