"""Which server answers for the domain of an image name, and how it is reached.

Owns the mapping (docker.io is registry-1.docker.io), the choice of plain HTTP for loopback, and the proxies that the
environment names. Opens no connection.
"""

from __future__ import annotations

import ipaddress
import urllib.request

from yarl import URL

_ALIASES = {"docker.io": "registry-1.docker.io"}


def base_url(domain: str) -> URL:
    """The URL under which `domain` ("docker.io", "localhost:5000") serves `/v2/`; plain HTTP on loopback."""
    host = _ALIASES.get(domain, domain)
    url = URL(f"https://{host}")
    return url.with_scheme("http").with_port(url.explicit_port) if is_loopback(url.host or "") else url


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine: localhost, 127.0.0.0/8 or ::1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def may_carry_secrets(url: URL) -> bool:
    """Whether a password may be sent there: over TLS, or within this machine."""
    return url.scheme == "https" or is_loopback(url.host or "")


def shown(url: URL) -> str:
    """A URL's host as messages name it; never its path or query, which may hold a signature."""
    host = url.host or "?"
    host = f"[{host}]" if ":" in host else host
    return host if url.is_default_port() or url.port is None else f"{host}:{url.port}"


def proxy_for(url: URL) -> URL | None:
    """The proxy of HTTPS_PROXY, HTTP_PROXY and NO_PROXY for `url`; loopback is never asked through one."""
    host = url.host or ""
    if is_loopback(host):
        return None
    proxies = urllib.request.getproxies_environment()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(f"{host}:{url.port}", proxies):
        return None
    return URL(found if "://" in found else f"http://{found}")
