"""`corten images`, `rmi` and `tag`."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import Any

import click
from corten_api.errors import NotFound

from corten.cli import moments
from corten.cli.filters import label_matches, parse_filters, truth
from corten.cli.output import filter_option, format_option, show
from corten.cli.session import Session
from corten.cli.sizes import format_bytes
from corten.cli.table import Columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.images import Image

_NONE = "<none>"
_FILTERS = ("reference", "label", "dangling", "before", "since")
_HEADINGS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "ContentSize": "CONTENT SIZE",
    "Platform": "PLATFORM",
    "Labels": "LABELS",
}


@click.command("images", short_help="List images")
@click.option("-a", "--all", "everything", is_flag=True, help="As in docker; there are no hidden ones here")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only")
@click.option("--no-trunc", is_flag=True, help="Print whole ids")
@click.option("--digests", is_flag=True, help="Show digests")
@filter_option
@format_option
@click.argument("reference", required=False)
@click.pass_obj
def images_command(
    session: Session,
    everything: bool,
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    filters: tuple[str, ...],
    layout: str,
    reference: str | None,
) -> None:
    """List images, or those whose name matches REFERENCE."""
    wanted = parse_filters(filters, _FILTERS)
    if reference:
        wanted.setdefault("reference", []).append(reference)
    images = sorted(session.client.images.list(), key=lambda image: -image.created_at_ns)
    images = [image for image in images if _between(session, image, wanted)]
    dangling = truth("dangling", wanted.get("dangling", ()))
    now = time.time_ns()
    rows = []
    for image in images:
        if not label_matches(image.labels, wanted.get("label", ())) or dangling is bool(image.names):
            continue
        rows += _rows(image, now, whole=no_trunc, patterns=wanted.get("reference", []))
    if quiet and not layout:
        for identity in dict.fromkeys(row["ID"] for row in rows):
            print(identity)
        return
    shown = ["Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size"]
    show(Columns(_HEADINGS, shown), rows, layout)


def _between(session: Session, image: Image, wanted: dict[str, list[str]]) -> bool:
    for key in ("before", "since"):
        for value in wanted.get(key, ()):
            other = session.client.images.get(value).created_at_ns
            if not (image.created_at_ns < other if key == "before" else image.created_at_ns > other):
                return False
    return True


def familiar(name: str) -> str:
    """A full name as users write it: `docker.io/library/busybox:latest` is `busybox:latest`."""
    return name.removeprefix("docker.io/library/").removeprefix("docker.io/")


def _rows(image: Image, now: int, *, whole: bool, patterns: list[str]) -> list[dict[str, Any]]:
    """One row a name; of a nameless image one with its digest's repository."""
    known = {digest.rpartition("@")[0]: digest.rpartition("@")[2] for digest in image.digests}
    pairs = [(name.rpartition(":")[0], name.rpartition(":")[2]) for name in image.names]
    pairs = pairs or [(repository, _NONE) for repository in known] or [(_NONE, _NONE)]
    found = []
    for repository, tag in pairs:
        short = familiar(repository)
        if patterns and not any(_named(pattern, short, repository, tag) for pattern in patterns):
            continue
        found.append(
            {
                "Repository": short,
                "Tag": tag,
                "Digest": known.get(repository, _NONE),
                "ID": image.id if whole else image.id.removeprefix("sha256:")[:12],
                "CreatedSince": moments.ago(image.created_at_ns, now),
                "CreatedAt": moments.local(image.created_at_ns),
                "Size": format_bytes(image.size),
                "ContentSize": format_bytes(image.content_size),
                "Platform": str(image.platform),
                "Labels": ",".join(f"{key}={value}" for key, value in sorted(image.labels.items())),
            }
        )
    return found


def _named(pattern: str, short: str, repository: str, tag: str) -> bool:
    names = (short, repository, f"{short}:{tag}", f"{repository}:{tag}")
    return any(fnmatchcase(name, pattern) for name in names)


@click.command("rmi", short_help="Remove images")
@click.option("-f", "--force", is_flag=True, help="Also with several names, or used by a container that has ended")
@click.argument("images", nargs=-1, required=True)
@click.pass_obj
def rmi_command(session: Session, images: tuple[str, ...], force: bool) -> int:
    """Remove names of images, and images with their last one."""

    def remove(reference: str) -> str | None:
        try:
            removed = session.client.images.remove(reference, force=force)
        except NotFound:
            if force:
                return None
            raise
        lines = [f"Untagged: {familiar(name)}" for name in removed.untagged]
        lines += [f"Deleted: {identity}" for identity in removed.deleted]
        return "\n".join(lines) or None

    return session.each(images, remove)


@click.command("tag", short_help="Give an image another name")
@click.argument("source")
@click.argument("target")
@click.pass_obj
def tag_command(session: Session, source: str, target: str) -> None:
    """Give the image SOURCE the name TARGET."""
    session.client.images.tag(source, target)
