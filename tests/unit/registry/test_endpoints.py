"""Where a domain is asked, and through which proxy."""

from __future__ import annotations

import pytest
from cortend.registry import endpoints
from yarl import URL


@pytest.mark.parametrize(
    ("domain", "url"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("quay.io", "https://quay.io"),
        ("registry.example:5000", "https://registry.example:5000"),
        ("localhost:5000", "http://localhost:5000"),
        ("localhost", "http://localhost"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("127.9.9.9:80", "http://127.9.9.9"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("128.0.0.1:5000", "https://128.0.0.1:5000"),
        ("localhost.example:5000", "https://localhost.example:5000"),
    ],
)
def test_loopback_is_plain_http_and_everything_else_is_not(domain: str, url: str) -> None:
    assert str(endpoints.base_url(domain)).rstrip("/") == url


def test_a_url_is_shown_without_path_and_query() -> None:
    assert endpoints.shown(URL("https://cdn.example/blob?signature=secret")) == "cdn.example"
    assert endpoints.shown(URL("http://[::1]:5000/v2/")) == "[::1]:5000"


def test_proxies_come_from_the_environment_but_never_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert endpoints.proxy_for(URL("https://quay.io/")) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "intern.example")
    assert str(endpoints.proxy_for(URL("https://quay.io/"))).rstrip("/") == "http://proxy.example:3128"
    assert endpoints.proxy_for(URL("http://localhost:5000/")) is None
    assert endpoints.proxy_for(URL("http://127.0.0.1:5000/")) is None
    assert endpoints.proxy_for(URL("https://a.intern.example/")) is None
