"""Templates: the part of Go's that users of docker write in `--format`.

Owns `{{.A.B}}`, `{{json .}}`, `{{index .X "key"}}`, `{{if}}`, `{{range}}`, `{{else}}`, `{{end}}`, pipes and
a few functions. Data are dicts, lists and scalars. Sans-IO.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.S)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|\||-?\d+|\$?\.?[\w.]*[\w]|\.|\S')
_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\\\": "\\"}


class TemplateError(ValueError):
    """The template cannot be read, or asks for what is not there."""


def unescape(text: str) -> str:
    """`\\t` and `\\n` as users type them between single quotes."""
    return re.sub(r"\\[tn\\]", lambda found: _ESCAPES[found[0]], text)


def show(value: Any) -> str:
    """A value as Go prints it."""
    if value is None:
        return "<no value>"
    if value is True or value is False:
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{show(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(show(item) for item in value)}]"
    return str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, (list, tuple)) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            raise TemplateError(f"index: {show(value)} has no element {show(key)}")
    return value


def _compare(name: str) -> Callable[..., bool]:
    return {
        "eq": lambda first, *others: any(first == other for other in others),
        "ne": lambda first, second: bool(first != second),
        "and": lambda *values: all(values),
        "or": lambda *values: any(values),
    }[name]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json,
    "index": _index,
    "upper": lambda value: show(value).upper(),
    "lower": lambda value: show(value).lower(),
    "title": lambda value: show(value).title(),
    "len": len,
    "join": lambda values, separator: separator.join(show(value) for value in values),
    "split": lambda value, separator: show(value).split(separator),
    "truncate": lambda value, length: show(value)[:length],
    "println": lambda *values: " ".join(show(value) for value in values) + "\n",
    "print": lambda *values: "".join(show(value) for value in values),
    "not": lambda value: not value,
    **{name: _compare(name) for name in ("eq", "ne", "and", "or")},
}


class Template:
    """A template that was read; `render` it with data. Raises TemplateError when it cannot be read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._body, _ = _read(_pieces(text), 0, text)

    def render(self, data: Any) -> str:
        """The text for `data`. Raises TemplateError for a field that is not there."""
        return "".join(_run(self._body, data))


Piece = tuple[str, str]
Node = tuple[str, Any, list[Any], list[Any]]


def _pieces(text: str) -> list[Piece]:
    """("text", ...) and ("action", ...), in order."""
    found: list[Piece] = []
    at = 0
    for action in _ACTION.finditer(text):
        before = text[at : action.start()]
        if found and found[-1][0] == "trim":
            found.pop()
            before = before.lstrip()
        found.append(("text", before.rstrip() if action[1] else before))
        found.append(("action", action[2]))
        if action[3]:
            found.append(("trim", ""))
        at = action.end()
    rest = text[at:].lstrip() if found and found[-1][0] == "trim" else text[at:]
    found = [piece for piece in found if piece[0] != "trim"]
    if "{{" in rest:
        raise TemplateError(f'"{text}": an action is not closed by }}}}')
    return [*found, ("text", rest)]


def _read(pieces: list[Piece], at: int, text: str, *, inside: bool = False) -> tuple[list[Any], int]:
    """Nodes up to the `else` or `end` of the block (or the end), and where that is."""
    nodes: list[Any] = []
    while at < len(pieces):
        kind, value = pieces[at]
        at += 1
        if kind == "text":
            nodes.append(value)
            continue
        word, _, rest = value.partition(" ")
        if word in ("else", "end"):
            if not inside:
                raise TemplateError(f'"{text}": {word} without a block')
            return nodes, at - 1
        if word in ("if", "range"):
            body, at = _read(pieces, at, text, inside=True)
            other: list[Any] = []
            if pieces[at][1] == "else":
                other, at = _read(pieces, at + 1, text, inside=True)
            at += 1
            nodes.append((word, _pipeline(rest, text), body, other))
        else:
            nodes.append(("show", _pipeline(value, text), [], []))
    if inside:
        raise TemplateError(f'"{text}": a block is not closed by {{{{end}}}}')
    return nodes, at


def _pipeline(action: str, text: str) -> list[list[str]]:
    """Commands of one action, each a list of tokens."""
    commands: list[list[str]] = [[]]
    for word in _TOKEN.findall(action):
        if word == "|":
            commands.append([])
        elif word[0] in '"`.-' or word[0].isdigit() or word in FUNCTIONS or word in ("true", "false"):
            commands[-1].append(word)
        else:
            known = ", ".join(sorted(FUNCTIONS))
            raise TemplateError(f'"{text}": "{word}" is not known: fields begin with a dot, functions are {known}')
    if not all(commands):
        raise TemplateError(f'"{text}": an action is empty')
    return commands


def _run(nodes: list[Any], data: Any) -> list[str]:
    out: list[str] = []
    for node in nodes:
        if isinstance(node, str):
            out.append(node)
            continue
        word, pipeline, body, other = node
        value = _evaluate(pipeline, data)
        if word == "show":
            out.append(show(value))
        elif word == "if":
            out += _run(body if value else other, data)
        else:
            items = list(value.values()) if isinstance(value, Mapping) else list(value or ())
            for item in items:
                out += _run(body, item)
            if not items:
                out += _run(other, data)
    return out


def _evaluate(pipeline: list[list[str]], data: Any) -> Any:
    value: Any = None
    for number, command in enumerate(pipeline):
        piped = [value] if number else []
        head, *rest = command
        if head in FUNCTIONS:
            arguments = [_operand(word, data) for word in rest]
            try:
                value = FUNCTIONS[head](*arguments, *piped)
            except (TypeError, AttributeError) as error:
                raise TemplateError(f"{head}: {error}") from None
        elif rest or piped:
            raise TemplateError(f'"{head}" is no function: there are {", ".join(sorted(FUNCTIONS))}')
        else:
            value = _operand(head, data)
    return value


def _operand(word: str, data: Any) -> Any:
    if word[0] in '"`':
        return json.loads(word) if word[0] == '"' else word[1:-1]
    if word in ("true", "false"):
        return word == "true"
    if word[0] != ".":
        return int(word)
    value = data
    for name in filter(None, word.split(".")):
        if not isinstance(value, Mapping):
            raise TemplateError(f'"{word}": {show(value)} has no field "{name}"')
        if name not in value:
            raise TemplateError(f'"{word}": there is no field "{name}"; there are {", ".join(value)}')
        value = value[name]
    return value
