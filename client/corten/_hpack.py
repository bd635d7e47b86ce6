"""HPACK (RFC 7541) as far as a gRPC client needs it: no dynamic table in either direction.

Owns header blocks: bytes to pairs and back. The peer is told a table size of 0, so that nothing it sends is ever
stored; a block that refers to a stored entry is an error. Literals are sent plain.
"""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[str, bytes]

_STATIC: tuple[Header, ...] = (
    *((":authority", b""), (":method", b"GET"), (":method", b"POST"), (":path", b"/"), (":path", b"/index.html")),
    *((":scheme", b"http"), (":scheme", b"https"), (":status", b"200"), (":status", b"204"), (":status", b"206")),
    *((":status", b"304"), (":status", b"400"), (":status", b"404"), (":status", b"500"), ("accept-charset", b"")),
    ("accept-encoding", b"gzip, deflate"),
    *(
        (name, b"")
        for name in (
            "accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
            "content-disposition content-encoding content-language content-length content-location content-range "
            "content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
            "if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range "
            "referer refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary "
            "via www-authenticate"
        ).split()
    ),
)
# Appendix B: the code is canonical, so that the symbols of each length, in order, say it all.
_SYMBOLS: tuple[tuple[int, bytes], ...] = (
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b'!"()?'),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (22, b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9"),
    (
        23,
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5"
        b"\xe7\xef",
    ),
    (24, b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (
        28,
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"
        b"\xdc\xf9",
    ),
    (30, b"\n\r\x16"),
)
_LONGEST_INTEGER = 1 << 28


class HeaderError(ValueError):
    """A header block that breaks RFC 7541, or that refers to a table the peer was told not to use."""


def encode(headers: Iterable[Header]) -> bytes:
    """Each header as a literal without indexing; names are in lower case."""
    block = bytearray()
    for name, value in headers:
        block.append(0)
        for part in (name.encode("ascii"), value):
            _put_integer(block, len(part))
            block += part
    return bytes(block)


def decode(block: bytes) -> list[Header]:
    """The headers of a whole block, in order. Raises HeaderError."""
    headers: list[Header] = []
    position = 0
    try:
        while position < len(block):
            first = block[position]
            if first & 0x80:
                index, position = _integer(block, position, 7)
                headers.append(_static(index))
            elif first & 0xE0 == 0x20:  # a new table size: there is no table
                _, position = _integer(block, position, 5)
            else:  # with indexing (stored in a table of size 0), without, or never indexed
                index, position = _integer(block, position, 6 if first & 0x40 else 4)
                if index:
                    name = _static(index)[0]
                else:
                    raw, position = _string(block, position)
                    name = raw.decode("ascii")
                value, position = _string(block, position)
                headers.append((name, value))
    except (IndexError, UnicodeDecodeError) as error:
        raise HeaderError("the header block ends in the middle, or a name is not ASCII") from error
    return headers


def _static(index: int) -> Header:
    if not 1 <= index <= len(_STATIC):
        raise HeaderError(f"header index {index} is not in the static table")
    return _STATIC[index - 1]


def _integer(block: bytes, position: int, bits: int) -> tuple[int, int]:
    limit = (1 << bits) - 1
    value = block[position] & limit
    position += 1
    if value < limit:
        return value, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if value > _LONGEST_INTEGER:
            raise HeaderError("an integer of the header block is too large")
        if not byte & 0x80:
            return value, position


def _put_integer(block: bytearray, value: int) -> None:
    if value < 0x7F:
        block.append(value)
        return
    block.append(0x7F)
    value -= 0x7F
    while value >= 0x80:
        block.append(value & 0x7F | 0x80)
        value >>= 7
    block.append(value)


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    huffman = block[position] & 0x80
    length, position = _integer(block, position, 7)
    end = position + length
    if end > len(block):
        raise HeaderError("a string of the header block is longer than the block")
    raw = block[position:end]
    return (unhuffman(raw) if huffman else raw), end


def _codes() -> dict[tuple[int, int], int]:
    codes: dict[tuple[int, int], int] = {}
    code, length = 0, _SYMBOLS[0][0]
    for next_length, symbols in _SYMBOLS:
        code <<= next_length - length
        length = next_length
        for symbol in symbols:
            codes[length, code] = symbol
            code += 1
    return codes


_decoding: dict[tuple[int, int], int] = {}


def unhuffman(raw: bytes) -> bytes:
    """`raw` decoded. Raises HeaderError for padding that is not the start of the end-of-string code."""
    if not _decoding:
        _decoding.update(_codes())
    decoded = bytearray()
    code = length = 0
    for byte in raw:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            length += 1
            symbol = _decoding.get((length, code))
            if symbol is not None:
                decoded.append(symbol)
                code = length = 0
            elif length >= 30:
                raise HeaderError("a Huffman code that does not exist")
    if length > 7 or code != (1 << length) - 1:
        raise HeaderError("the padding of a Huffman string is wrong")
    return bytes(decoded)
