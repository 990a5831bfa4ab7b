"""The store on a real S3 API: SeaweedFS, with signed requests over HTTP, and on a folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.embedded.ports import choose
from server.media.store import Missing, Store, StoreAway, key_of, open_store

KEY, SECRET = "AKIASWITCHBOARD", "a-secret-of-the-tests"
# More than one part of a multipart upload.
LARGE = 12 * 1024 * 1024 + 17


@dataclass
class S3:
    endpoint: str

    def store(self, *, secret: str = SECRET, bucket: str = "files") -> Store:
        return open_store(
            f"s3://{bucket}/inbox",
            folder=Path("unused"),
            endpoint=self.endpoint,
            region="us-east-1",
            access_key=KEY,
            secret_key=secret,
        )


def _made(bucket: str) -> bool:
    """Whether the folder that stands for a bucket is there, made by now."""
    try:
        urllib.request.urlopen(urllib.request.Request(bucket, method="POST"), timeout=2).close()
    except urllib.error.HTTPError as error:
        return error.code == 409
    except OSError:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    home = tmp_path_factory.mktemp("weed")
    # Each has two: left alone, the one for gRPC is 10,000 higher, where the kernel gives ports to whoever connects.
    names = [f"{name}.port{kind}" for name in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = choose(home / "ports.json", names, fixed={})
    access = {"name": "inbox", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (home / "s3.json").write_text(json.dumps({"identities": [access]}))
    (home / "data").mkdir()
    command = [
        *(str(Path(sys.executable).parent / "weed"), "server", f"-dir={home / 'data'}", "-ip=127.0.0.1"),
        *("-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.config={home / 's3.json'}", "-master.volumeSizeLimitMB=64"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with ExitStack() as held:
        log = held.enter_context((home / "log").open("wb"))
        child = subprocess.Popen(command, cwd=home, stdout=log, stderr=log, env={**os.environ, "HOME": str(home)})
        held.callback(child.wait)
        held.callback(child.kill)
        made = f"http://127.0.0.1:{ports['filer.port']}/buckets/files/"
        ends = time.monotonic() + 40
        while not (_made(made) and _listens(ports["s3.port"])):
            assert child.poll() is None, (home / "log").read_text()[-2000:]
            assert time.monotonic() < ends, (home / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield S3(f"http://127.0.0.1:{ports['s3.port']}")


@pytest.fixture(scope="module", params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    if request.param == "s3":
        made: S3 = request.getfixturevalue("s3")
        return made.store()
    folder = tmp_path_factory.mktemp("media")
    return open_store("", folder=folder, endpoint="", region="", access_key="", secret_key="")


async def read(store: Store, key: str, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, start=start, end=end)])


async def test_a_file_is_put_read_in_ranges_replaced_and_deleted(store: Store, tmp_path: Path) -> None:
    content, file, key = os.urandom(LARGE), tmp_path / "file", key_of(uuid.uuid4(), uuid.uuid4())
    file.write_bytes(content)
    await store.put(key, file)
    assert await read(store, key, 0, LARGE) == content
    assert await read(store, key, 5_000_000, 9_000_001) == content[5_000_000:9_000_001]
    assert await read(store, key, LARGE - 1, LARGE) == content[-1:]
    assert await read(store, key, 7, 7) == b""
    file.write_bytes(b"another")
    await store.put(key, file)
    assert await read(store, key, 0, 7) == b"another"
    await store.delete(key)
    await store.delete(key)
    with pytest.raises(Missing):
        await read(store, key, 0, 7)


async def test_a_wrong_secret_and_a_store_that_is_away_are_told_apart_from_nothing(s3: S3, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(StoreAway):
        await s3.store(secret="wrong").put("a/b", file)
    with pytest.raises(StoreAway):
        await read(s3.store(secret="wrong"), "a/b", 0, 1)


def test_addresses_of_other_kinds_are_refused(tmp_path: Path) -> None:
    for url in ("gs://bucket", "file://relative", "s3://", "/folder"):
        with pytest.raises(ValueError, match=r"must start|names no bucket"):
            open_store(url, folder=tmp_path, endpoint="", region="", access_key="", secret_key="")
