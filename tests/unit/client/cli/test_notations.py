"""What users write on the command line: sizes, times, mounts, variables, limits. Everything wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from corten.cli import assignments, keys, moments, mounts, sizes
from corten.containers import MountPoint, Ulimit
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("2GiB", 2 << 30),
        ("512MB", 512 << 20),
        ("1b", 1),
        ("0", 0),
    ],
)
def test_a_size_is_in_powers_of_1024(text: str, size: int) -> None:
    assert sizes.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.2.3m", "nan", "inf", "0x10", "1 m m"])
def test_a_size_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        sizes.parse_bytes(text)


@pytest.mark.parametrize(("text", "nanos"), [("1.5", 1_500_000_000), (".5", 500_000_000), ("2", 2_000_000_000)])
def test_cpus_are_exact(text: str, nanos: int) -> None:
    assert sizes.parse_cpus(text) == nanos


@pytest.mark.parametrize("text", ["", "-1", "1,5", "one", "0.0000000001"])
def test_cpus_that_are_none_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="CPUs"):
        sizes.parse_cpus(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (999, "999B"), (4_270_000, "4.27MB"), (1_000_000, "1MB"), (46_500_000, "46.5MB")]
)
def test_sizes_are_shown_in_decimal_units(size: int, text: str) -> None:
    assert sizes.format_bytes(size) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), ("24h", 86400)]
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert moments.parse_duration(text) == seconds * 1_000_000_000


@pytest.mark.parametrize("text", ["", "10", "m", "1d", "1..5s", "-5m"])
def test_a_duration_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        moments.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1700000000", NOW),
        ("1700000000.000000001", NOW + 1),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20.5Z", NOW + 500_000_000),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("10m", NOW - 600_000_000_000),
    ],
)
def test_a_moment_is_seconds_a_date_or_a_span_ago(text: str, moment: int) -> None:
    assert moments.parse_moment(text, now_ns=NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2023-13-01", "2023-11-14T25:00:00Z", "1.x"])
def test_a_moment_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time"):
        moments.parse_moment(text, now_ns=NOW)


@given(st.integers(1, 4_000_000_000_000_000_000))
def test_a_time_that_is_shown_is_read_back(time_ns: int) -> None:
    assert moments.parse_moment(moments.rfc3339(time_ns)) == time_ns


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (150, "2 minutes")),
        *((3600, "About an hour"), (7200, "2 hours"), (86400 * 3, "3 days"), (86400 * 21, "3 weeks")),
        *((86400 * 90, "3 months"), (86400 * 365 * 3, "3 years")),
    ],
)
def test_spans_are_said_as_docker_says_them(seconds: int, text: str) -> None:
    assert moments.span(seconds * 1_000_000_000) == text


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/a:/b", MountPoint(source="/a", target="/b", create_source=True)),
        ("/a:/b:ro", MountPoint(source="/a", target="/b", create_source=True, read_only=True)),
        (
            "/a:/b:ro,rslave",
            MountPoint(source="/a", target="/b", create_source=True, read_only=True, propagation="rslave"),
        ),
    ],
)
def test_a_volume_is_a_bind_that_makes_its_source(text: str, mount: MountPoint) -> None:
    assert mounts.parse_volume(text) == mount


def test_a_relative_source_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mounts.parse_volume("./x:/b").source == f"{tmp_path}/x"


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("type=bind,source=/a,target=/b", MountPoint(source="/a", target="/b")),
        ("type=bind,src=/a,dst=/b,readonly", MountPoint(source="/a", target="/b", read_only=True)),
        ("type=bind,src=/a,dst=/b,bind-recursive=disabled", MountPoint(source="/a", target="/b", non_recursive=True)),
        (
            "type=bind,src=/a,dst=/b,ro=false,bind-propagation=shared",
            MountPoint(source="/a", target="/b", propagation="shared"),
        ),
        (
            "type=tmpfs,destination=/t,tmpfs-size=64m,tmpfs-mode=1777",
            MountPoint(type="tmpfs", target="/t", options=("size=64m", "mode=1777")),
        ),
    ],
)
def test_a_mount_never_makes_its_source(text: str, mount: MountPoint) -> None:
    assert mounts.parse_mount(text) == mount


def test_a_tmpfs_has_options() -> None:
    assert mounts.parse_tmpfs("/run:size=64m,ro") == MountPoint(
        type="tmpfs", target="/run", read_only=True, options=("size=64m",)
    )


@pytest.mark.parametrize("text", ["/a", "a:/b", "/a:b", ":/b", "/a:", "/a:/b:rx", "/a:/b:ro:x", ""])
def test_a_volume_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f'"{text}"'):
        mounts.parse_volume(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "type=volume,target=/b",
            "type=x,target=/b",
            "type=bind,target=/b",
            "type=bind,source=/a",
            "source=/a,target=b",
        ),
        *("type=bind,source=/a,target=/b,size=1", "type=tmpfs,source=/a,target=/b", "source=/a,target=/b,ro=maybe"),
    ],
)
def test_a_mount_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f'"{text}"'):
        mounts.parse_mount(text)


def test_a_variable_without_a_value_is_passed_on_or_left_out() -> None:
    assert assignments.parse_environment("A=b=c", {}) == "A=b=c"
    assert assignments.parse_environment("A=", {}) == "A="
    assert assignments.parse_environment("A", {"A": "here"}) == "A=here"
    assert assignments.parse_environment("A", {}) is None
    with pytest.raises(ValueError, match="is no variable"):
        assignments.parse_environment("=b", {})


def test_a_file_of_variables_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbf# a comment\n\nA=1\r\n  B=two words # kept\nHERE\nNOT_HERE\n")
    assert assignments.read_environment(str(file), {"HERE": "x"}) == ["A=1", "B=two words # kept", "HERE=x"]
    file.write_text("A=1\nB C=2\n")
    with pytest.raises(ValueError, match=r'env, line 2: "B C"'):
        assignments.read_environment(str(file), {})
    with pytest.raises(ValueError, match="no such file"):
        assignments.read_environment(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=1024:2048", Ulimit(name="nofile", soft=1024, hard=2048)),
        ("nproc=512", Ulimit(name="nproc", soft=512, hard=512)),
        ("core=unlimited", Ulimit(name="core", soft=-1, hard=-1)),
        ("core=0:-1", Ulimit(name="core", soft=0, hard=-1)),
    ],
)
def test_a_ulimit_is_read(text: str, limit: Ulimit) -> None:
    assert assignments.parse_ulimit(text) == limit


@pytest.mark.parametrize("text", ["nofile", "nope=1", "nofile=a", "nofile=2:1", "nofile=-1:5", "nofile="])
def test_a_ulimit_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f'"{text}"'):
        assignments.parse_ulimit(text)


def test_labels_have_keys() -> None:
    assert assignments.parse_label("a=b=c") == ("a", "b=c")
    assert assignments.parse_label("a") == ("a", "")
    with pytest.raises(ValueError, match="is no label"):
        assignments.parse_label("=x")


@pytest.mark.parametrize(
    ("text", "sequence"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("a", b"a"), ("ctrl-@,x", b"\0x"), ("ctrl-],Z", b"\x1dZ"), ("", b"")],
)
def test_detach_keys_are_read(text: str, sequence: bytes) -> None:
    assert keys.parse_keys(text) == sequence


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "ctrl-pp", "é"])
def test_detach_keys_that_are_none_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        keys.parse_keys(text)


@given(st.lists(st.binary(max_size=6)), st.binary(min_size=1, max_size=4))
def test_the_detach_keys_are_found_however_the_input_is_cut(pieces: list[bytes], sequence: bytes) -> None:
    matcher = keys.DetachMatcher(sequence)
    passed = b"".join(matcher.feed(piece) for piece in pieces) + matcher.finish()
    whole = b"".join(pieces)
    assert matcher.detached == (sequence in whole)
    assert passed == whole.partition(sequence)[0]


def test_a_key_that_begins_the_sequence_waits_for_the_next() -> None:
    matcher = keys.DetachMatcher(b"\x10\x11")
    assert matcher.feed(b"ls\x10") == b"ls"
    assert matcher.feed(b"x") == b"\x10x"
    assert matcher.feed(b"\x10\x10") == b"\x10"
    assert matcher.feed(b"\x11rest") == b""
    assert matcher.detached
