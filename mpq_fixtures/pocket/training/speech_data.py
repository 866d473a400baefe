"""Make the speech: spoken digits and short commands in many synthetic voices.

    python -m mpq_fixtures.pocket.training.speech_data --work DIR

needs the ``espeak-ng`` program (1.51 was used), here only. It leaves the training and the development speech in ``DIR`` and
writes the test set, FLAC and ``transcripts.tsv``, into ``mpq_fixtures/pocket/speech``. Every sound follows from the seed.

Voices are an accent, one of espeak-ng's voice variants, a pitch and a speed. Test and development use variants that
training never hears, and no sentence is in two of the three sets. One accent takes no variant, so that its one voice is in training:
what it says is left out of the test set.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
WINDOW_SECONDS = 3.0
SPEECH = Path(__file__).parents[1] / "speech"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DIGITS = _words("zero one two three four five six seven eight nine")
DEVICES = _words("light music radio fan heater camera")
ROOMS = _words("kitchen bedroom garden office")
COLOURS = _words("red green blue yellow")
DIRECTIONS = _words("left right up down")
VERBS = _words("turn open close start stop play set call lock find move")
OTHERS = _words("the to please now on off door window alarm timer minutes seconds")
WORDS = tuple(sorted({*DIGITS, *DEVICES, *ROOMS, *COLOURS, *DIRECTIONS, *VERBS, *OTHERS}))

PLAIN_ACCENT = "en-gb"
"""Takes no variant: whichever is asked for, its one voice speaks, at the pitch and speed that are asked for."""

ACCENTS = _words("en-gb en-us en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd en-029 en-us-nyc")
TEST_VARIANTS = _words("m4 m8 f4 edward linda belinda Alex pablo quincy Annie")
DEVELOPMENT_VARIANTS = _words("m6 f1 robert marcelo Nguyen Andrea")
TRAINING_VARIANTS = _words(
    "m1 m2 m3 m5 m7 f2 f3 f5 adam david benjamin klatt klatt2 klatt3 klatt5 klatt6 Andy Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee"
    " Marco Mario Michael Mike Tweaky Alicia anika antonio aunty ed grandma grandpa gustave iven2 iven3 john kaukovalta max michel"
    " miguel norbert paul pedro rob sandro shelby steph steph2 steph3 travis victor zac AnxiousAndy boris"
)


@dataclass(frozen=True)
class Utterance:
    """A sentence and the voice that says it; pitch and speed are espeak-ng's (0..99, words per minute)."""

    text: str
    accent: str
    variant: str
    pitch: int
    speed: int


def sentence(rng: np.random.Generator) -> str:
    """Draw a command or a row of digits, two to seven words."""

    def one(words: tuple[str, ...]) -> str:
        return str(rng.choice(words))

    def digits(low: int, high: int) -> str:
        return " ".join(one(DIGITS) for _ in range(rng.integers(low, high + 1)))

    def perhaps(text: str) -> str:
        return text if rng.random() < 0.5 else ""

    def politely() -> str:
        return perhaps(one(("now", "please")))

    kind = rng.integers(12)
    if kind <= 2:
        words = digits(3, 5)
    elif kind == 3:
        words = f"call {digits(3, 4)} {perhaps('now')}"
    elif kind == 4:
        words = f"turn {one(('on', 'off'))} the {perhaps(one(ROOMS))} {one(DEVICES)} {perhaps('please')}"
    elif kind == 5:
        words = f"turn {one(('up', 'down'))} the {perhaps(one(ROOMS))} {one(('radio', 'music', 'heater', 'fan'))} {politely()}"
    elif kind == 6:
        words = f"{one(('open', 'close', 'lock', 'find'))} the {one(ROOMS + COLOURS)} {one(('door', 'window'))} {politely()}"
    elif kind == 7:
        words = f"{one(('start', 'stop', 'find'))} the {perhaps(one(COLOURS + ROOMS))} {one(('timer', 'alarm', *DEVICES))} {politely()}"
    elif kind == 8:
        words = f"set the {one(('timer', 'alarm'))} to {digits(1, 2)} {one(('minutes', 'seconds'))}"
    elif kind == 9:
        words = f"set the {one(ROOMS)} light to {one(COLOURS)} {perhaps('please')}"
    elif kind == 10:
        words = f"move {perhaps('the camera')} {one(DIRECTIONS)} {digits(1, 2)}"
    else:
        words = f"play {one(('music', 'radio', *COLOURS))} {digits(1, 3)} {politely()}"
    return " ".join(words.split())


def loose_words(rng: np.random.Generator) -> str:
    """Draw three to five words that make no sense together, so that a model has to listen."""
    return " ".join(rng.choice(WORDS, rng.integers(3, 6)))


def utterances(rng: np.random.Generator, variants: tuple[str, ...], taken: set[str], loose: float) -> Iterator[Utterance]:
    """Draw without end: sentences that are not ``taken``, a share ``loose`` of them loose words, in voices with these variants."""
    while True:
        text = loose_words(rng) if rng.random() < loose else sentence(rng)
        if text not in taken:
            accent, variant = str(rng.choice(ACCENTS)), str(rng.choice(variants))
            yield Utterance(text, accent, variant, int(rng.integers(25, 76)), int(rng.integers(125, 196)))


def speak(utterance: Utterance) -> NDArray[np.float32]:
    """Synthesise, resample to 16 kHz and trim the silence; ``float32 [frames]`` with a peak of 0.9."""
    from scipy.signal import resample_poly

    voice = f"{utterance.accent}+{utterance.variant}"
    command = ["espeak-ng", "-v", voice, "-p", str(utterance.pitch), "-s", str(utterance.speed), "--stdout", utterance.text]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    rate = int.from_bytes(data[24:28], "little")  # the length fields of a streamed header are not filled in: read past it
    samples = np.frombuffer(data[44:], "<i2").astype(np.float64)
    waveform = resample_poly(samples, SAMPLE_RATE, rate)
    loud = np.flatnonzero(np.abs(waveform) > 0.01 * np.abs(waveform).max())
    waveform = waveform[max(loud[0] - 160, 0) : loud[-1] + 480]
    return np.asarray(0.9 * waveform / np.abs(waveform).max(), np.float32)


def spoken(draws: Iterator[Utterance], count: int, seconds: float) -> Iterator[tuple[Utterance, NDArray[np.float32]]]:
    """Speak until ``count`` utterances are at most ``seconds`` long; which those are does not depend on the number of threads."""
    found = 0
    with ThreadPoolExecutor(2) as pool:
        while True:
            block = [next(draws) for _ in range(64)]
            for utterance, waveform in zip(block, pool.map(speak, block), strict=True):
                if len(waveform) <= seconds * SAMPLE_RATE:
                    yield utterance, waveform
                    found += 1
                    if found == count:
                        return


def save(folder: Path, name: str, pairs: list[tuple[Utterance, NDArray[np.float32]]]) -> None:
    """Write one set as ``name.npz``: 16-bit samples end to end, where each utterance ends, and the texts."""
    samples = np.concatenate([np.rint(waveform * 32767).astype(np.int16) for _, waveform in pairs])
    ends = np.cumsum([len(waveform) for _, waveform in pairs])
    np.savez(folder / f"{name}.npz", samples=samples, ends=ends, texts=np.array([utterance.text for utterance, _ in pairs]))


def placed(waveform: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Give a test utterance a lead, a tail, a level and mild background noise, as recordings have."""
    lead, tail = rng.integers(SAMPLE_RATE // 20, SAMPLE_RATE // 6, 2)
    level = 10 ** (rng.uniform(-18, 0) / 20)
    sound = level * np.pad(waveform, (lead, tail))
    speech_power = float(np.mean((level * waveform) ** 2))
    noise = rng.standard_normal(len(sound))
    if rng.random() < 0.5:  # a room rather than a circuit: falling by 6 dB an octave above 300 Hz
        from scipy.signal import lfilter

        noise = lfilter([1.0], [1.0, -0.89], noise)
    noise *= np.sqrt(speech_power / np.mean(noise**2)) * 10 ** (-rng.uniform(25, 50) / 20)
    return np.clip(sound + noise, -1, 1).astype(np.float32)


def write_test_set(pairs: list[tuple[Utterance, NDArray[np.float32]]], rng: np.random.Generator) -> None:
    """Write FLAC files, and a table of id, transcript and voice."""
    import soundfile

    SPEECH.mkdir(exist_ok=True)
    heard = [(utterance, placed(waveform, rng)) for utterance, waveform in pairs]
    rows = ["id\ttext\tvoice"]
    for number, (utterance, sound) in enumerate((utterance, sound) for utterance, sound in heard if utterance.accent != PLAIN_ACCENT):
        name = f"utterance_{number:03d}"
        soundfile.write(SPEECH / f"{name}.flac", sound, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)
        voice = f"{utterance.accent}+{utterance.variant} p{utterance.pitch} s{utterance.speed}"
        rows.append(f"{name}\t{utterance.text}\t{voice}")
    (SPEECH / "transcripts.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def main() -> None:
    """Make the three sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the training and development speech goes")
    parser.add_argument("--train", type=int, default=12000, help="training utterances")
    parser.add_argument("--development", type=int, default=240)
    parser.add_argument("--test", type=int, default=120, help="drawn for the test set, before those in the plain accent are left out")
    parser.add_argument("--seed", type=int, default=20240)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    streams = [np.random.default_rng([options.seed, stream]) for stream in range(4)]
    taken: set[str] = set()

    def draw(rng: np.random.Generator, variants: tuple[str, ...], loose: float, count: int) -> list[tuple[Utterance, NDArray[np.float32]]]:
        return list(spoken(utterances(rng, variants, taken, loose), count, WINDOW_SECONDS - 0.35))

    test = draw(streams[0], TEST_VARIANTS, 0.0, options.test)
    taken |= {utterance.text for utterance, _ in test}
    write_test_set(test, streams[1])
    development = draw(streams[2], DEVELOPMENT_VARIANTS, 0.0, options.development)
    taken |= {utterance.text for utterance, _ in development}
    save(options.work, "development", development)
    save(options.work, "train", draw(streams[3], TRAINING_VARIANTS, 0.35, options.train))
    made = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout.split(" Data")[0].strip()
    settings = {key: value for key, value in vars(options).items() if key != "work"}
    (options.work / "speech_data.json").write_text(json.dumps({"synthesiser": made, **settings, "example": asdict(test[0][0])}, indent=1))


if __name__ == "__main__":
    main()
