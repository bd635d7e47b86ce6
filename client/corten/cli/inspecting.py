"""`corten inspect`."""

from __future__ import annotations

import json
from typing import Any

import click
from corten_api.errors import CortenError, InvalidArgument, NotFound

from corten.cli.output import render
from corten.cli.session import FAILED, Session, complain


@click.command("inspect", short_help="Show everything about containers and images")
@click.option("-f", "--format", "layout", default="", metavar="TEMPLATE", help='"json" or {{.Field}}')
@click.option("--type", "kind", type=click.Choice(["container", "image"]), help="Look for one of them only")
@click.option("-s", "--size", is_flag=True, hidden=True)
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def inspect_command(session: Session, names: tuple[str, ...], layout: str, kind: str | None, size: bool) -> int:
    """Show containers and images as one JSON array, or each by a template."""
    found: list[dict[str, Any]] = []
    failed = 0
    for name in names:
        try:
            found.append(_document(session, name, kind))
        except CortenError as error:
            complain(str(error))
            failed = FAILED
    if layout:
        for document in found:
            print(render(layout, document))
    else:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    return failed


def _document(session: Session, name: str, kind: str | None) -> dict[str, Any]:
    from corten.cli import documents

    if kind != "image":
        try:
            return documents.container_document(session.client.containers.get(name))
        except (NotFound, InvalidArgument):
            if kind == "container":
                raise
    try:
        return documents.image_document(session.client.images.get(name))
    except (NotFound, InvalidArgument):
        if kind == "image":
            raise
        raise NotFound("object", name, "neither a container nor an image has that name or id") from None
