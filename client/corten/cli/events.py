"""`corten events`."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from corten.cli import moments
from corten.cli.filters import label_matches, parse_filters
from corten.cli.logs import MOMENT
from corten.cli.output import filter_option, format_option, render
from corten.cli.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.events import Event

_FILTERS = ("event", "type", "container", "image", "label")


@click.command("events", short_help="Show what happens")
@click.option("--since", type=MOMENT, metavar="TIME", help="From then on: 10m (ago), 2026-01-31T15:04:05")
@click.option("--until", type=MOMENT, metavar="TIME", help="Up to then, and end")
@click.option("--all-namespaces", is_flag=True, help="Of every namespace")
@filter_option
@format_option
@click.pass_obj
def events_command(
    session: Session,
    since: int | None,
    until: int | None,
    all_namespaces: bool,
    filters: tuple[str, ...],
    layout: str,
) -> None:
    """Show events as they come, or those between two times."""
    wanted = parse_filters(filters, _FILTERS)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    stream = session.client.events.subscribe(since_ns=since, until_ns=until, all_namespaces=all_namespaces)
    with stream:
        for event in stream:
            if _matches(event, wanted):
                print(render(layout, _fields(event)) if layout else _line(event))
                sys.stdout.flush()


def _matches(event: Event, wanted: dict[str, list[str]]) -> bool:
    kind, _, action = event.topic.partition(".")
    attributes = event.attributes
    tests = {
        "event": lambda values: event.topic in values or action in values,
        "type": lambda values: kind in values,
        "container": lambda values: any(event.id.startswith(v) or attributes.get("name") == v for v in values),
        "image": lambda values: any(v in (event.id, attributes.get("image"), attributes.get("name")) for v in values),
        "label": lambda values: label_matches(attributes, values),
    }
    return all(tests[key](values) for key, values in wanted.items())


def _fields(event: Event) -> dict[str, Any]:
    kind, _, action = event.topic.partition(".")
    return {
        "Cursor": event.cursor,
        "Time": event.time_ns // moments.SECOND,
        "TimeNano": event.time_ns,
        "Namespace": event.namespace,
        "Topic": event.topic,
        "Type": kind,
        "Action": action,
        "ID": event.id,
        "Actor": {"ID": event.id, "Attributes": dict(event.attributes)},
        "Attributes": dict(event.attributes),
    }


def _line(event: Event) -> str:
    told = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    return f"{moments.rfc3339(event.time_ns)} {event.topic} {event.id}{f' ({told})' if told else ''}"
