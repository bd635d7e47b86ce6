"""Manifests and indexes: what is decoded, what is refused by its name, what is chosen."""

from __future__ import annotations

import json
from typing import Any

import pytest
from corten_api.errors import FailedPrecondition, InvalidArgument
from cortend.oci import manifest as m
from cortend.oci.platform import Platform

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
AMD64 = Platform("linux", "amd64")


def descriptor(media_type: str, digest: str = A, size: int = 7, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def image(**changes: Any) -> dict[str, Any]:
    layers = [descriptor(m.OCI_LAYER + "+gzip", B)]
    whole = {"schemaVersion": 2, "mediaType": m.OCI_MANIFEST, "config": descriptor(m.OCI_CONFIG), "layers": layers}
    return {**whole, **changes}


def index(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": list(entries)}


def decode(document: dict[str, Any], media_type: str | None = None) -> m.Manifest | m.Index:
    return m.decode(json.dumps(document).encode(), media_type, name=A)


def test_an_oci_manifest_is_decoded() -> None:
    found = decode(image())
    assert isinstance(found, m.Manifest)
    assert [str(layer.digest) for layer in found.layers] == [B]
    assert m.layer_compression(found.layers[0].media_type) is m.Compression.GZIP


def test_a_docker_manifest_is_decoded() -> None:
    layer = descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", B)
    found = decode(image(mediaType=m.DOCKER_MANIFEST, config=descriptor(m.DOCKER_CONFIG), layers=[layer]))
    assert found.media_type == m.DOCKER_MANIFEST


def test_the_media_type_may_be_left_to_the_header() -> None:
    document = image()
    del document["mediaType"]
    assert decode(document, m.OCI_MANIFEST + "; charset=utf-8").media_type == m.OCI_MANIFEST
    assert decode(document, "application/json").media_type == m.OCI_MANIFEST


@pytest.mark.parametrize(
    ("document", "media_type", "part"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, None, "schema 1"),
        (
            {"schemaVersion": 1, "fsLayers": []},
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "v1+pretty",
        ),
        (image(mediaType="application/vnd.cncf.helm.config.v1+json"), None, "helm"),
        ({"schemaVersion": 2, "mediaType": "application/vnd.example+json", "config": {}}, None, "vnd.example+json"),
        (image(), m.DOCKER_INDEX, "announced as"),
        (image(), "text/html", "text/html"),
        (image(config=descriptor("application/vnd.cncf.helm.config.v1+json")), None, "helm"),
        (image(layers=[descriptor("application/x-tar")]), None, "x-tar"),
        (image(layers=[descriptor(m.OCI_LAYER, size=-1)]), None, "-1"),
        (image(layers=[descriptor(m.OCI_LAYER, "sha256:short")]), None, "64"),
        (image(layers=[descriptor(m.OCI_LAYER)] * 1000), None, "layers"),
        (image(manifests=[]), None, "manifests"),
        ({"schemaVersion": 2, "mediaType": m.OCI_INDEX}, None, "without"),
        ({"schemaVersion": 3}, None, "schemaVersion is 3"),
        ({}, None, "schemaVersion"),
    ],
)
def test_what_is_no_image_is_refused_with_what_is_wrong(
    document: dict[str, Any], media_type: str | None, part: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(document, media_type)
    assert part in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b'{"schemaVersion": "2"}', b" " * (5 << 20)])
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="manifest"):
        m.decode(data)


def test_an_index_gives_the_image_for_the_platform() -> None:
    arm = descriptor(m.OCI_MANIFEST, A, platform={"os": "linux", "architecture": "arm64"})
    amd = descriptor(m.OCI_MANIFEST, B, platform={"os": "linux", "architecture": "amd64"})
    found = decode(index(arm, amd))
    assert isinstance(found, m.Index)
    assert str(found.select(AMD64).digest) == B


def test_attestations_are_passed_over() -> None:
    note = {"vnd.docker.reference.type": "attestation-manifest"}
    platform = {"os": "unknown", "architecture": "unknown"}
    found = decode(
        index(descriptor(m.OCI_MANIFEST, A, platform=platform, annotations=note), descriptor(m.OCI_MANIFEST, B))
    )
    assert isinstance(found, m.Index)
    assert str(found.select(AMD64).digest) == B


def test_an_index_without_the_platform_says_what_it_has() -> None:
    found = decode(index(descriptor(m.OCI_MANIFEST, platform={"os": "linux", "architecture": "s390x"})))
    assert isinstance(found, m.Index)
    with pytest.raises(FailedPrecondition, match="linux/amd64; it has linux/s390x"):
        found.select(AMD64, name="x")
