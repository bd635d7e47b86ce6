"""`corten content`: the blobs themselves, for debugging."""

from __future__ import annotations

import sys

import click

from corten.cli import moments
from corten.cli.output import format_option, render, show
from corten.cli.session import Session
from corten.cli.sizes import format_bytes
from corten.cli.table import Columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.content import Blob

_COLUMNS = Columns(
    {"Digest": "DIGEST", "Size": "SIZE", "Bytes": "BYTES", "CreatedAt": "CREATED AT", "CreatedSince": "CREATED"},
    ("Digest", "Size", "CreatedSince"),
)


@click.group("content", short_help="Blobs of the content store, for debugging")
def content_command() -> None:
    """Look at the blobs of the content store."""


@content_command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print digests only")
@format_option
@click.pass_obj
def list_blobs(session: Session, quiet: bool, layout: str) -> None:
    """List blobs, ordered by digest."""
    blobs = session.client.content.list()
    if quiet:
        for blob in blobs:
            print(blob.digest)
        return
    show(_COLUMNS, [_row(blob) for blob in blobs], layout)


@content_command.command("get")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="BYTES")
@click.option("--length", type=click.IntRange(min=0), default=0, metavar="BYTES", help="0: to the end")
@click.argument("digest")
@click.pass_obj
def get_blob(session: Session, digest: str, offset: int, length: int) -> None:
    """Write a blob to stdout."""
    with session.client.content.read(digest, offset=offset, length=length) as pieces:
        for piece in pieces:
            sys.stdout.buffer.write(piece)


@content_command.command("info")
@click.argument("digest")
@click.pass_obj
def blob_info(session: Session, digest: str) -> None:
    """Show size and age of a blob as JSON."""
    print(render("json", _row(session.client.content.info(digest))))


def _row(blob: Blob) -> dict[str, Any]:
    return {
        "Digest": blob.digest,
        "Size": format_bytes(blob.size),
        "Bytes": blob.size,
        "CreatedAt": moments.rfc3339(blob.created_at_ns),
        "CreatedSince": moments.ago(blob.created_at_ns),
    }
