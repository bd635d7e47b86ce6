"""`corten pull` and `corten load`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import click
from corten_api.errors import InvalidArgument

from corten.cli.progress import follow, short
from corten.cli.session import Session

_CHUNK = 1 << 20


@click.command("pull", short_help="Get an image from its registry")
@click.option("--platform", metavar="OS/ARCH", help="Instead of this machine's")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress")
@click.option("--username", metavar="NAME", help="At the registry")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin")
@click.argument("reference")
@click.pass_obj
def pull_command(
    session: Session,
    reference: str,
    platform: str | None,
    quiet: bool,
    username: str | None,
    password_stdin: bool,
) -> None:
    """Get the image REFERENCE names, and print its full name."""
    from corten.images import Credentials, Platform

    credentials = None
    if username:
        password = sys.stdin.read().rstrip("\r\n") if password_stdin else _ask(username)
        credentials = Credentials(username=username, password=password)
    steps = session.client.images.pull(
        reference, platform=Platform.parse(platform) if platform else None, credentials=credentials
    )
    image = follow(steps, reference, quiet=quiet)
    if not quiet:
        print(f"Digest: {image.target.digest}")
    print(_full_name(reference, image.names, image.digests) or image.id)


def _ask(username: str) -> str:
    import getpass

    return getpass.getpass(f"Password of {username}: ")


def _full_name(reference: str, names: tuple[str, ...], digests: tuple[str, ...]) -> str:
    """The name among those of the image that the user meant."""
    for name in (*names, *digests):
        if f"/{name}".endswith((f"/{reference}", f"/{reference}:latest")):
            return name
    return (names or digests or ("",))[0]


@click.command("load", short_help="Load images from an archive")
@click.option("-i", "--input", "path", metavar="FILE", help="Instead of stdin")
@click.option("-q", "--quiet", is_flag=True, help="Print the names only")
@click.pass_obj
def load_command(session: Session, path: str | None, quiet: bool) -> None:
    """Load the images of an archive: `docker save`'s or an OCI layout's, plain, gzip or zstd."""
    if path is None and sys.stdin.isatty():
        raise InvalidArgument("archive", "stdin", "it is a terminal: give a file with -i, or send the archive to stdin")
    fd = 0 if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    found = 0
    for step in session.client.images.load(_pieces(fd)):
        if step.image is None:
            continue
        found += 1
        for name in step.image.names or (f"sha256:{short(step.image.id)}",):
            print(name if quiet else f"Loaded image: {name}")
    if not found:
        raise InvalidArgument("archive", path or "stdin", "it holds no image")


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, _CHUNK):
        yield piece
