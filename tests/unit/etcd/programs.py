"""Small programs for tests of releases: real ones of this machine, that tell a version and end."""

from __future__ import annotations

import struct

_BASE, _HEADERS = 0x400000, 64 + 56  # an ELF header and one program header
_AMD64 = 62


def program(version: str = "3.5.99", machine: int = _AMD64, filler: bytes = b"") -> bytes:
    """An ELF program for Linux on amd64 that says to be etcd, etcdctl and etcdutl of a version.

    Args:
        version: what it tells.
        machine: what its header says that it is for.
        filler: bytes behind it that do nothing.
    """
    names = ("etcd Version", "etcdctl version", "etcdutl version")
    text = "".join(f"{name}: {version}\n" for name in names).encode()
    length = 34  # bytes of the code below
    code = b"\xb8\x01\x00\x00\x00"  # mov eax, 1 (write)
    code += b"\xbf\x01\x00\x00\x00"  # mov edi, 1
    code += b"\xbe" + struct.pack("<I", _BASE + _HEADERS + length)  # mov esi, text
    code += b"\xba" + struct.pack("<I", len(text))  # mov edx, its length
    code += b"\x0f\x05"  # syscall
    code += b"\xb8\x3c\x00\x00\x00"  # mov eax, 60 (exit)
    code += b"\xbf\x00\x00\x00\x00"  # mov edi, 0
    code += b"\x0f\x05"  # syscall
    assert len(code) == length
    size = _HEADERS + len(code) + len(text) + len(filler)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code + text + filler
