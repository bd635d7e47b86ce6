"""What answers and broken connections become."""
# ruff: noqa: S106

from __future__ import annotations

import pytest
from corten_api import errors
from cortend.registry import failures
from cortend.registry.credentials import Credentials
from cortend.registry.failures import Transient

BODY = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}'


def answer(status: int, body: bytes = b"", **headers: str) -> errors.CortenError | Transient:
    return failures.from_answer(status, body, headers, host="r.example", subject=("image", "r.example/a:x"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Unauthenticated),
        (403, errors.PermissionDenied),
        (404, errors.NotFound),
        (400, errors.InvalidArgument),
        (418, errors.Internal),
        (501, errors.Unavailable),
    ],
)
def test_an_answer_is_an_error_that_is_not_tried_again(status: int, kind: type[errors.CortenError]) -> None:
    assert type(answer(status)) is kind


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(answer(status), Transient)


def test_the_registrys_own_words_are_told() -> None:
    error = answer(404, BODY)
    assert isinstance(error, errors.NotFound)
    assert error.name == "r.example/a:x"
    assert "manifest_unknown: manifest unknown" in error.detail


def test_words_that_are_no_document_are_left_out() -> None:
    assert failures.message_of(b"<html>") == ""
    assert failures.message_of(b"[1]") == ""
    assert failures.message_of(b'{"details":"a\\u001b[2Jb"}') == "a [2Jb"
    assert len(failures.message_of(b'{"message":"' + b"x" * 5000 + b'"}')) < 400


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("99999", 60.0),
        ("Thu, 01 Jan 1970 00:00:12 GMT", 2.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert failures.retry_after(value, now=10.0) == seconds


def test_credentials_show_nothing_of_themselves() -> None:
    credentials = Credentials(username="corten", password="hunter22", identity_token="tok-3")
    assert "hunter22" not in repr(credentials) + str(credentials) + f"{[credentials]}"
    assert credentials.redact("wrong: hunter22 and tok-3") == "wrong: *** and ***"


def test_a_user_name_with_a_colon_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match='must not hold ":"'):
        Credentials(username="a:b", password="c")
