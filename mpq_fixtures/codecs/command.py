"""Codecs that a suite file declares by two commands: one that encodes a file, one that decodes it.

Each call has a folder of its own, made for it and deleted after it: the decoder finds the bitstream there and nothing else. The bytes
of a bitstream are what the encoder wrote, behind the size of the signal, which is counted::

    width, height                       as varints, of a picture
    sample rate, frames, channels ...   of a sound, as the other audio codecs have them
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import shutil
import signal as signals
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage

from mpq_fixtures.codecs import IMAGE, Codec, Ledger
from mpq_fixtures.codecs._audio import AudioCodec, read_varint, scipy_build, varint
from mpq_fixtures.codecs._commands import Commands, read_commands
from mpq_fixtures.codecs._pillow import checked
from mpq_fixtures.codecs._sources import digest_of_sources
from mpq_fixtures.datasets.reading import rgb_of
from mpq_fixtures.processes.temporary import TemporaryFolder
from mpq_fixtures.signals import Audio, Image
from mpq_fixtures.weights import digest_of_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 1 << 28  # pixels
_RATE = re.compile(r"\d+(\.\d+)?k")
_LAST_WORDS = 400  # characters of a command's error stream in a message


class CommandError(ValueError):
    """A command that failed; the message holds its last words."""


def read_codec(table: Any, folder: Path | None = None) -> Codec:
    """Return the codec that a table under ``[[codec]]`` declares, in a suite file of ``folder``.

    Raises `CodecError` with what would be right.
    """
    modality, commands = read_commands(table)
    commands = replace(commands, folder=str(folder.absolute()) if folder else "")
    return CommandImage(commands) if modality is IMAGE else CommandAudio(commands)


class CommandCodec(Codec):
    """What both kinds share: the programs, their versions and their runs."""

    automatic = False

    def __init__(self, commands: Commands | dict[str, Any]) -> None:
        self._commands = commands if isinstance(commands, Commands) else Commands.from_plain(commands)
        self.name, self.ladder = self._commands.name, tuple(self._commands.qualities)

    def build(self) -> str:
        """Name the programs and the files that the commands name, by the beginnings of their digests, what the version command prints
        first, and a digest of all of it."""
        words = [*self._words(self._commands.encode)[1:], *self._words(self._commands.decode)[1:]]
        paths = [*self._programs(), *filter(_is_file, words)]
        programs = dict.fromkeys(f"{Path(path).name} {digest_of_file(Path(path))[:12]}" for path in paths if path)
        printed = _version(self._words(self._commands.version))
        said = {key: value for key, value in asdict(replace(self._commands, install="")).items() if key != "folder"}
        settings = hashlib.sha256(f"{printed}\0{said}".encode()).hexdigest()[:12]
        return ", ".join([*programs, *printed.splitlines()[:1], f"settings {settings}"])

    def fingerprint(self) -> str:
        """Return a digest of the build and of this file."""
        return hashlib.sha256(f"{self.name}\0{self.build()}\0{digest_of_sources([__name__])}".encode()).hexdigest()

    def address(self) -> dict[str, Any]:
        """Return the class and what the suite file says."""
        return {"codec": f"{__name__}:{type(self).__name__}", "arguments": {"commands": asdict(self._commands)}}

    def missing(self, qualities: Sequence[str] = ()) -> str:
        """Name the first program that is not here."""
        words = [self._commands.encode[0], self._commands.decode[0]]
        lacking = next((word for word, path in zip(words, self._programs(), strict=True) if not path), "")
        advice = self._commands.install or "install it, or name it by its path"
        return f"its program {lacking.strip('{}')!r} is not here: {advice}" if lacking else ""

    def command_line(self, quality: str) -> str:
        """Return the command that the suite file gives, with the quality and names of files filled in."""
        commands = self._commands
        names = {"{input}": f"input{commands.signal}", "{output}": f"output{commands.bitstream}", "{quality}": commands.qualities[quality]}
        words = ["ffmpeg" if word == "{ffmpeg}" else word for word in commands.encode]
        for name, stands_for in names.items():
            words = [word.replace(name, stands_for) for word in words]
        return shlex.join(words)

    def _programs(self) -> list[str]:
        return [find_program(self._words(command)[0]) for command in (self._commands.encode, self._commands.decode)]

    def _words(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """Return a command with full paths: a program's that has a slash in it, and those of files that there are."""
        folder = self._commands.folder
        return tuple(
            str(Path(folder, word)) if folder and (_is_file(str(Path(folder, word))) if place else "/" in word) else word
            for place, word in enumerate(command)
        )

    def _run(self, words: tuple[str, ...], data: bytes, given: str, wanted: str, quality: str = "") -> bytes:
        """Return the file that a command makes of ``data``, in a folder that is there for this call alone."""
        with TemporaryFolder("command") as temporary:
            folder = temporary / "files"  # beside its owner's lock
            folder.mkdir()
            source, target = folder / f"input{given}", folder / f"output{wanted}"
            source.write_bytes(data)
            program, *rest = self._words(words)
            filled = [word.replace("{input}", str(source)).replace("{output}", str(target)).replace("{quality}", quality) for word in rest]
            _call([find_program(program), *filled], folder, self._commands.seconds)
            try:
                return target.read_bytes()
            except OSError as error:
                raise CommandError(f"{Path(words[0]).name} wrote no {target.name}") from error

    def _encode(self, data: bytes, quality: str) -> bytes:
        commands = self._commands
        return self._run(commands.encode, data, commands.signal, commands.bitstream, commands.qualities[quality])

    def _decode(self, data: bytes) -> bytes:
        return self._run(self._commands.decode, data, self._commands.bitstream, self._commands.signal)


class CommandImage(CommandCodec):
    """A picture codec behind two commands, which get and give PNG or PPM files."""

    modality = IMAGE

    def encode(self, signal: Image, quality: str) -> bytes:
        """Compress a picture; raises `ValueError` with the last words of a command that failed."""
        height, width = checked(signal.pixels).shape[:2]
        step = self._commands.multiple
        pixels = np.pad(signal.pixels, ((0, -height % step), (0, -width % step), (0, 0)), mode="edge")
        file = io.BytesIO()
        PILImage.fromarray(pixels).save(file, self._commands.signal[1:].upper(), **_FAST.get(self._commands.signal, {}))
        return varint(width) + varint(height) + self._encode(file.getvalue(), quality)

    def decode(self, data: bytes) -> Image:
        """Restore a picture, cut to its size where the format rounds sizes up; raises `ValueError` where that fails."""
        width, height, stream = self._head(data)
        try:
            with PILImage.open(io.BytesIO(self._decode(stream)), formats=[self._commands.signal[1:].upper()]) as picture:
                pixels = rgb_of(picture)
        except OSError as error:
            raise ValueError(f"not a readable {self.name} stream: {error}") from error
        if pixels.shape[0] < height or pixels.shape[1] < width:
            raise ValueError(f"not a whole {self.name} stream: {list(pixels.shape)} for {[height, width, 3]}")
        return Image(pixels[:height, :width].copy())

    def ledger(self, data: bytes) -> Ledger:
        """Return the encoder's file as payload, since its format is not known here, and the size as side information."""
        *_, stream = self._head(data)
        return Ledger(len(stream), side=len(data) - len(stream))

    def _head(self, data: bytes) -> tuple[int, int, bytes]:
        width, rest = read_varint(data)
        height, rest = read_varint(rest)
        if not 0 < width * height <= _MOST:
            raise ValueError(f"not a readable {self.name} stream: a size of {width} by {height}")
        return width, height, rest


class CommandAudio(CommandCodec, AudioCodec):
    """A sound codec behind two commands, which get and give 16-bit WAV files or bare samples (``.raw``, little-endian)."""

    def __init__(self, commands: Commands | dict[str, Any]) -> None:
        super().__init__(commands)
        self.channels_per_stream = self._commands.channels

    def build(self) -> str:
        """Name the commands and the resampler."""
        return f"{super().build()}, {scipy_build()}"

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the rate that the suite file asks for, or the sound's own."""
        return self._commands.sample_rate or sample_rate

    def nominal_bits(self, signal: Audio, quality: str) -> float | None:
        """Return the bits of a quality whose name is a rate, such as ``24k``."""
        return super().nominal_bits(signal, quality) if _RATE.fullmatch(quality) else None

    def decode(self, data: bytes) -> Audio:
        """Restore the sound; raises `ValueError`, with the last words of a command that failed."""
        try:
            return super().decode(data)
        except ValueError as error:
            if isinstance(error.__cause__, CommandError):
                raise error.__cause__ from None
            raise

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return the encoder's file."""
        import soundfile

        file = io.BytesIO()
        padded = np.pad(waveform, ((0, 0), (0, self._commands.padding))) if self._commands.padding else waveform
        soundfile.write(file, padded.T, sample_rate, format=self._commands.signal[1:].upper(), subtype="PCM_16")
        return self._encode(file.getvalue(), quality)

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound behind the delay."""
        import soundfile

        bare = {"samplerate": self._commands.sample_rate, "channels": 1, "format": "RAW", "subtype": "PCM_16", "endian": "LITTLE"}
        settings = bare if self._commands.signal == ".raw" else {}
        waveform, sample_rate = soundfile.read(io.BytesIO(self._decode(data)), dtype="float32", always_2d=True, **settings)
        return waveform.T[:, self._commands.delay :], sample_rate


_FAST = {".png": {"compress_level": 1}}


def find_program(word: str) -> str:
    """Return the path of a program, "" where there is none.

    ``{ffmpeg}`` is what ``$MPQ_FFMPEG`` names, or the one in the package imageio-ffmpeg, or the one on PATH.
    """
    if word != "{ffmpeg}":
        return shutil.which(word) or ""
    if given := os.environ.get("MPQ_FFMPEG"):
        return shutil.which(given) or ""
    with suppress(ImportError, RuntimeError):
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    return shutil.which("ffmpeg") or ""


def _is_file(word: str) -> bool:
    return os.path.isabs(word) and os.path.isfile(word)  # noqa: PTH113, PTH117  # a word may be longer than what pathlib takes for a name


@cache
def _version(words: tuple[str, ...]) -> str:
    """Return what a version command prints; "" where there is no such command."""
    if not words:
        return ""
    command = [find_program(words[0]) or words[0], *words[1:]]
    try:
        run = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (run.stdout + run.stderr).decode("utf-8", "replace")


@cache
def _ending_with_us() -> tuple[str, ...]:
    """Return words that let the system end a command with the thread that starts it, since nobody else would where the worker crashes.

    Nothing where the system has no ``setpriv``, which comes with Linux.
    """
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def _call(command: list[str], folder: Path, seconds: float) -> None:
    """Run a command, and end what it leaves running; raises `CommandError` with its last words where it fails or takes too long."""
    name = Path(command[0]).name
    with subprocess.Popen(
        [*_ending_with_us(), *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise CommandError(f"{name} took longer than {seconds:g} s and was ended") from None
        finally:  # also what it left running
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signals.SIGKILL)
    if process.returncode:
        words = " ".join(printed.decode("utf-8", "replace").split()).replace(f"{folder}/", "")[-_LAST_WORDS:]
        code = process.returncode
        how = f"ended with {signals.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise CommandError(f"{name} {how}: {words}" if words else f"{name} {how}")
