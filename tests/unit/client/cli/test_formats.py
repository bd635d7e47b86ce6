"""Tables and `--format`: what users of docker write there, and clear errors for the rest."""

from __future__ import annotations

from typing import Any

import pytest
from corten.cli.table import Columns, align
from corten.cli.template import Template, TemplateError, unescape

DATA: dict[str, Any] = {
    "ID": "abc",
    "Names": ["a", "b"],
    "State": {"Running": True, "Pid": 7, "Error": ""},
    "Labels": {"com.example": "x", "n": "1"},
    "Mounts": [{"Source": "/a"}, {"Source": "/b"}],
    "Nothing": None,
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{.ID}}", "abc"),
        ("{{ .ID }}: {{.State.Pid}}", "abc: 7"),
        ("{{json .State}}", '{"Running":true,"Pid":7,"Error":""}'),
        ("{{json .ID}}", '"abc"'),
        ('{{index .Labels "com.example"}}', "x"),
        ("{{index .Names 1}}", "b"),
        ("{{.State.Running}}", "true"),
        ("{{.Names}}", "[a b]"),
        ("{{.Labels}}", "map[com.example:x n:1]"),
        ("{{.Nothing}}", "<no value>"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Error}}up{{else}}down{{end}}", "down"),
        ("{{range .Mounts}}{{.Source}};{{end}}", "/a;/b;"),
        ('{{join .Names ","}}', "a,b"),
        ("{{.ID | upper}}", "ABC"),
        ("{{upper .ID}}{{len .Names}}", "ABC2"),
        ("a {{- .ID -}} b", "aabcb"),
        ("no actions }}", "no actions }}"),
        ("", ""),
    ],
)
def test_a_template_is_rendered(text: str, shown: str) -> None:
    assert Template(text).render(DATA) == shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{.Nope}}", 'there is no field "Nope"'),
        ("{{.ID.X}}", 'has no field "X"'),
        ("{{.State.Pid", "not closed"),
        ("{{if .ID}}x", "not closed by"),
        ("{{end}}", "without a block"),
        ("{{frobnicate .ID}}", '"frobnicate" is not known'),
        ("{{}}", "is empty"),
        ("{{.ID | }}", "is empty"),
        ("{{index .Names 9}}", "has no element"),
        ("{{len 5}}", "len"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(TemplateError, match=complaint):
        Template(text).render(DATA)


def test_backslashes_become_tabs_and_newlines() -> None:
    assert unescape(r"{{.A}}\t{{.B}}\n") == "{{.A}}\t{{.B}}\n"


def test_columns_are_aligned_and_lines_have_no_trailing_space() -> None:
    lines = align([["ID", "NAME", "X"], ["1", "a long name", ""], ["12345678901234", "b", "y"]])
    assert [line.find(word) for line, word in zip(lines, ("NAME", "a long", "b"), strict=True)] == [17, 17, 17]
    assert all(line == line.rstrip() for line in lines)


COLUMNS = Columns({"ID": "CONTAINER ID", "Names": "NAMES"}, ["ID", "Names"])
ROWS = [{"ID": "1", "Names": "x"}, {"ID": "2", "Names": "y"}]


@pytest.mark.parametrize(
    ("layout", "lines"),
    [
        ("", ["CONTAINER ID   NAMES", "1              x", "2              y"]),
        ("table", ["CONTAINER ID   NAMES", "1              x", "2              y"]),
        ("json", ['{"ID":"1","Names":"x"}', '{"ID":"2","Names":"y"}']),
        ("{{.Names}}", ["x", "y"]),
        (r"table {{.Names}}\t{{.ID}}", ["NAMES     CONTAINER ID", "x         1", "y         2"]),
    ],
)
def test_a_list_is_shown_as_asked(layout: str, lines: list[str]) -> None:
    assert COLUMNS.lines(ROWS, layout) == lines
