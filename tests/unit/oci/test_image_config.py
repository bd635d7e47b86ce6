"""Image configurations: what is read from them."""

from __future__ import annotations

import hashlib
import json

import pytest
from corten_api.errors import InvalidArgument
from cortend.oci.digest import Digest
from cortend.oci.image_config import ImageConfig, chain_ids

A, B, C = (Digest("sha256", each * 64) for each in "abc")


def test_a_configuration_is_decoded() -> None:
    run = {
        "User": "1000:100",
        "Env": ["A=1"],
        "Entrypoint": ["/e"],
        "Cmd": ["x"],
        "WorkingDir": "/w",
        "Volumes": {"/v": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"k": "v"},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5},
        "Unknown": 1,
    }
    document = {
        "os": "linux",
        "architecture": "amd64",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [str(A)]},
    }
    found = ImageConfig.decode(json.dumps(document).encode())
    assert (found.user, found.environment, found.entrypoint, found.command) == ("1000:100", ("A=1",), ("/e",), ("x",))
    assert (found.working_directory, found.volumes, found.exposed_ports) == ("/w", ("/v",), ("80/tcp",))
    assert found.health_check is not None
    assert found.health_check.interval_ns == 5
    assert found.diff_ids == (A,)


def test_null_stands_for_absent() -> None:
    run = {"Env": None, "Cmd": None, "Entrypoint": None, "Labels": None, "Volumes": None, "User": None}
    document = {"config": run, "history": None, "rootfs": {"type": "layers", "diff_ids": []}}
    found = ImageConfig.decode(json.dumps(document).encode())
    assert found.command == ()
    assert found.labels == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"rootfs":{"type":"other","diff_ids":[]}}',
        b'{"rootfs":{"type":"layers","diff_ids":["x"]}}',
        b'{"rootfs":{"type":"layers","diff_ids":[]},"config":{"Env":"A=1"}}',
        b" " * (9 << 20),
    ],
)
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        ImageConfig.decode(data, name=str(A))


def test_chain_ids_hash_the_chain_below_with_the_layer() -> None:
    second = Digest("sha256", hashlib.sha256(f"{A} {B}".encode()).hexdigest())
    third = Digest("sha256", hashlib.sha256(f"{second} {C}".encode()).hexdigest())
    assert chain_ids((A, B, C)) == (A, second, third)
    assert chain_ids(()) == ()
