"""A transfer ends whole, or is refused in one line and leaves nothing, whatever the network and the store do."""

import os
import signal
import time

import pytest

from tests.chaos.proxy import FaultProxy
from tests.conftest import RunningStore
from tests.test_download import FILES, contents, pack, write_files
from tests.test_export import make_model, published, same
from trainyard.components.common.store import s3
from trainyard.launch.store import start_store, stop_store
from trainyard.launch.store_folder import StoreFolder


@pytest.fixture
def folder(tmp_path):
    return write_files(tmp_path / "folder", FILES)


def test_a_download_through_faults_is_whole_or_refused(
    step, store, bucket, folder, tmp_path, chance, rounds, note, one_line
):
    archive = pack(tmp_path / "data.tar.gz")
    store.client.upload_file(str(archive), bucket, "data.tar.gz")
    for name, content in FILES.items():
        store.client.put_object(Bucket=bucket, Key=f"set/{name}", Body=content)
    for number in rounds(brief=4, full=60):
        source = chance.choice([f"s3://{bucket}/data.tar.gz", f"s3://{bucket}/set/"])
        output = tmp_path / "out" / str(number)
        with FaultProxy(store.environment["AWS_ENDPOINT_URL"], chance, spoiled=chance.uniform(0.1, 0.9)) as proxy:
            through = {"AWS_ENDPOINT_URL": proxy.url}
            done = step("download", "--source", source, "--dataset", output, env=through, timeout=300)
        if done.returncode:
            one_line(done)
            assert not output.exists()
        else:
            assert contents(output) == FILES
        assert not list(output.parent.glob(".*"))
        note("downloads through a faulty network", "refused in one line" if done.returncode else "whole")


def test_an_export_through_faults_is_whole_or_refused_and_can_be_repeated(
    step, store, bucket, tmp_path, chance, rounds, note, one_line
):
    for number in rounds(brief=2, full=40):
        model = make_model(tmp_path / str(number), seed=number)
        with FaultProxy(store.environment["AWS_ENDPOINT_URL"], chance, spoiled=chance.uniform(0.1, 0.7)) as proxy:
            options = ["--model", model, "--bucket", bucket, "--version", str(number + 1)]
            done = step("export", *options, env={"AWS_ENDPOINT_URL": proxy.url}, timeout=300)
        there = number + 1 in published(store, bucket)
        if done.returncode:
            one_line(done)
            again = step("export", *options)
            assert again.returncode == 0, again.stderr
        else:
            assert there
        assert same(store, bucket, f"mnist/{number + 1}/", model)
        note("exports through a faulty network", "refused, then completed" if done.returncode else "whole")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("RequestTimeTooSkewed", "clock"),
        ("ExpiredToken", "the credentials have expired"),
        ("AccessDenied", "denies access"),
    ],
)
def test_a_store_that_refuses_in_mid_transfer_is_told_as_what_it_says(
    step, store, bucket, folder, tmp_path, chance, rounds, note, one_line, code, words
):
    for name, content in FILES.items():
        store.client.put_object(Bucket=bucket, Key=f"set/{name}", Body=content)
    model = make_model(tmp_path / "model", seed=1)
    for number in rounds(brief=1, full=6):
        for options in (
            ["download", "--source", f"s3://{bucket}/set/", "--dataset", tmp_path / "out"],
            ["export", "--model", model, "--bucket", bucket, "--version", str(number + 1)],
        ):
            after = chance.randrange(2)
            with FaultProxy(store.environment["AWS_ENDPOINT_URL"], chance, error=code, after=after) as proxy:
                done = step(*options, env={"AWS_ENDPOINT_URL": proxy.url}, timeout=120)
            if done.returncode:
                assert done.returncode == 1
                assert words in one_line(done)
            else:  # all went through the connections that came before
                assert after
            assert not (tmp_path / "out").exists() or not done.returncode
            note(f"transfers that {code} ends", "told in one line" if done.returncode else "done before it")


def test_a_store_that_is_killed_and_restarted_in_mid_upload_loses_nothing(
    start_step, step, tmp_path, chance, rounds, note, one_line
):
    home = tmp_path / "home"
    environment = start_store(home).environment
    try:
        for number in rounds(brief=1, full=20):
            model = make_model(tmp_path / str(number), seed=number, files=25)
            options = ["export", "--model", model, "--bucket", "models", "--version", str(number + 1)]
            publisher = start_step(*options, env=environment)
            time.sleep(chance.uniform(0.2, 1.5))
            os.kill(StoreFolder(home / "store").running().pid, signal.SIGKILL)
            time.sleep(chance.uniform(0, 0.5))
            environment = start_store(home).environment
            publisher.communicate(timeout=120)
            done = step(*options, env=environment)
            assert done.returncode == 0, done.stderr
            store = RunningStore(environment, s3.client(environment))
            assert same(store, "models", f"mnist/{number + 1}/", model)
            note("kills of the store in an upload", "whole" if publisher.returncode == 0 else "refused, then completed")
        assert len(published(store, "models")) == number + 1
    finally:
        stop_store(home)


def test_of_exporters_of_several_contents_each_content_gets_one_version(
    start_step, store, bucket, tmp_path, chance, rounds, note
):
    published_so_far = 0
    for number in rounds(brief=1, full=12):
        models = [make_model(tmp_path / f"{number}-{which}", seed=f"{number} {which}") for which in range(2)]
        starting = []
        for model in chance.sample(models * 2, 4):
            starting.append(start_step("export", "--model", model, "--bucket", bucket))
            time.sleep(chance.uniform(0, 0.4))
        said = [one.communicate(timeout=120)[1].strip().split("\n")[-1] for one in starting]
        assert [one.returncode for one in starting] == [0] * 4, said
        assert len({line.split()[1] for line in said}) == 2, said
        published_so_far += 2
        assert len(published(store, bucket)) == published_so_far
        note("races of four exporters of two contents", "each published once")
