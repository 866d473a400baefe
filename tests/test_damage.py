"""Damaged streams: what is done to them, and that decoders of this project survive a few of each codec; `tox run -e fuzz` tries more."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import soundfile

from mpq_fixtures import codecs
from mpq_fixtures.codecs._ogg import checksum, pages
from mpq_fixtures.conformance import fuzz
from mpq_fixtures.conformance.damage import damaged, with_checksums
from mpq_fixtures.signals import Audio


@pytest.fixture(scope="module")
def stream() -> bytes:
    """An Ogg file of several pages."""
    sound = np.random.default_rng(4).normal(0, 0.1, (1, 64000)).astype(np.float32)
    data = codecs.instance("vorbis").encode(Audio(sound, 16000), "q6")
    return data[data.index(b"OggS") :]


def frames(data: bytes) -> int:
    try:
        return len(soundfile.read(io.BytesIO(data))[0])
    except soundfile.LibsndfileError:
        return 0


class TestChecksums:
    def test_of_a_whole_stream_stay(self, stream):
        assert len(pages(stream)) > 3
        assert with_checksums(stream) == stream

    def test_are_made_anew_so_that_a_decoder_looks_at_what_was_damaged(self, stream):
        last = pages(stream)[-1]
        changed = bytearray(stream)
        changed[-len(last) // 2] ^= 0x10
        assert frames(bytes(changed)) < frames(stream)  # libogg passes over a page whose checksum is wrong
        assert frames(with_checksums(bytes(changed))) > frames(bytes(changed))

    def test_of_streams_that_are_no_ogg_are_left_alone(self):
        for data in (b"", b"OggS", b"OggSOggS" * 9, random.Random(3).randbytes(500), b"x" * 30 + b"OggS" + b"\xff" * 40):
            assert with_checksums(data) == data or b"OggS" in data
            assert len(with_checksums(data)) == len(data)

    def test_a_seed_names_a_stream_for_good_and_never_a_whole_one(self, stream):
        made = [damaged([stream], seed) for seed in range(200)]
        assert made == [damaged([stream], seed) for seed in range(200)]
        assert stream not in made
        assert all(checksum(page) == page[22:26] for page in pages(stream))


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jxl", "jp2k", "opus", "vorbis", "mp3", "aac"])
def test_a_few_damaged_streams_of_each_codec_are_survived(name):
    assert list(fuzz.fuzz(codecs.instance(name), range(40_000, 40_060))) == []


FOUND = {"jp2k": (6229, 7295, 7314)}
"""Seeds of streams that were too much once: sizes of JPEG 2000 for which OpenJPEG took gigabytes. Others stand in test_learned_pictures."""


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_survived(name):
    assert list(fuzz.fuzz(codecs.instance(name), FOUND[name])) == []


def test_a_codec_that_does_not_survive_is_found():
    from dishonest_codecs import Fatal

    assert list(fuzz.fuzz(Fatal(), range(60)))


def test_codecs_that_are_not_there_are_said(capsys):
    with pytest.raises(SystemExit):
        fuzz.main(["no_such_codec"])
    assert "there is no codec 'no_such_codec'" in capsys.readouterr().err
