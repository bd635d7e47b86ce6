"""Sizes and numbers as users of docker write and read them.

Owns the units, both ways: `512m` is 512 MiB when it is given, `4.27MB` are decimal when they are shown.
"""

from __future__ import annotations

_BINARY = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")


def parse_bytes(text: str) -> int:
    """Bytes of `64m`, `1.5GiB`, `1024`; units are powers of 1024 whatever their case. Raises ValueError."""
    lowered = text.strip().lower()
    digits = lowered.rstrip("bikmgtp ")
    unit = lowered[len(digits) :].strip()
    if len(unit) > 1:
        unit = unit.removesuffix("ib") if unit.endswith("ib") else unit.removesuffix("b")
    try:
        number = float(digits)
    except ValueError:
        number = -1.0
    if unit not in _BINARY or not 0 <= number < 1 << 63 or not digits[:1].isdigit():
        raise ValueError(f'"{text}" is no size: write a number with b, k, m, g or t, such as 64m')
    return int(digits) * _BINARY[unit] if digits.isdigit() else int(number * _BINARY[unit])


def parse_swap(text: str) -> int:
    """As `parse_bytes`; -1 is unlimited."""
    return -1 if text.strip() == "-1" else parse_bytes(text)


def parse_cpus(text: str) -> int:
    """Billionths of a CPU of `1.5`. Raises ValueError."""
    whole, _, part = text.partition(".")
    if not (whole + part).isdecimal() or not (whole + part).isascii() or len(part) > 9:
        raise ValueError(f'"{text}" is no number of CPUs: write a decimal number with up to nine places, such as 1.5')
    return int(whole or "0") * 1_000_000_000 + int(part.ljust(9, "0") or "0")


def format_bytes(size: int, digits: int = 3) -> str:
    """`size` with decimal units and `digits` significant digits: 4.27MB."""
    value = float(size)
    unit = 0
    while value >= 1000 and unit < len(_DECIMAL) - 1:
        value /= 1000
        unit += 1
    shown = f"{value:.{digits}g}"
    return f"{float(shown):g}{_DECIMAL[unit]}"


def format_binary(size: int) -> str:
    """`size` with binary units, as `corten info` shows memory: 7.752GiB."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.4g}{unit}"
        value /= 1024
    raise AssertionError("unreachable")
