"""Ogg files (RFC 3533): their pages, and what of them is not the coded sound."""

from __future__ import annotations

from zlib import crc32

from mpq_fixtures.codecs import Ledger

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def pages(data: bytes) -> list[bytes]:
    """Return the pages of an Ogg file (RFC 3533, section 6); raises `ValueError` where one is cut, or begins otherwise."""
    found, place = [], 0
    while place < len(data):
        head = data[place : place + 27]
        segments = head[26] if len(head) == 27 and head.startswith(b"OggS") else 0
        size = 27 + segments + sum(data[place + 27 : place + 27 + segments])
        if not head.startswith(b"OggS") or place + size > len(data):
            raise ValueError("no whole Ogg page")
        found.append(data[place : place + size])
        place += size
    return found


def checksum(page: bytes) -> bytes:
    """Return the checksum of an Ogg page with serial number 0.

    Ogg's CRC has zlib's polynomial with the bits the other way round, and no inversion before and after.
    """
    page = page[:14] + bytes(4) + page[18:22] + bytes(4) + page[26:]
    reflected = crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2).to_bytes(4, "little")


def ogg_ledger(data: bytes, headers: int) -> Ledger:
    """Return the ledger of a file whose first ``headers`` packets, and the heads of all its pages, are the container."""
    container = 0
    for page in pages(data):
        segments = page[27 : 27 + page[26]]
        container += 27 + len(segments)
        for size in segments:
            container += size if headers > 0 else 0
            headers -= size < 255  # a packet ends with the first segment that is not full
    return Ledger(len(data) - container, container)
