"""Songs synthesised from a seed as four stems, and the test set cut from eight of them.

Each song has a tempo, a key and a chord for each bar, and four players who follow them: drums (swept sines and
filtered noise), bass (a few low harmonics), other (chords of steady partials, struck or held, spread over the two
channels) and vocals (harmonics of a gliding, vibrating pitch under vowel formants, with breath and sibilants; formant
frequencies after Peterson and Barney, J. Acoust. Soc. Am. 24, 1952).

``python -m mpq_fixtures.pocket.training.songs`` writes the test set again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
FRAMES = 6 * SAMPLE_RATE
STEMS = ("drums", "bass", "other", "vocals")
TEST_SEEDS = range(8)
VALIDATION_SEEDS = range(1_000, 1_008)
TRAINING_SEED = 10_000
PEAK = 0.8  # of the mixture, so that no codec's overshoot clips

VOWELS = np.array(  # the first four formants in Hz: i, e, a, o, u, and the neutral vowel
    [
        [290.0, 2250, 2950, 3600],
        [500.0, 1850, 2500, 3500],
        [740.0, 1150, 2450, 3400],
        [550.0, 880, 2420, 3300],
        [310.0, 850, 2300, 3200],
        [500.0, 1450, 2450, 3400],
    ]
)
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))  # major, natural minor

Floats = NDArray[np.float64]


def song(seed: int) -> dict[str, NDArray[np.float32]]:
    """Return the stems of a song, each ``float32 [2, FRAMES]`` at ``SAMPLE_RATE``; their sum peaks at ``PEAK``."""
    rng = np.random.default_rng(seed)
    beat = 60 / rng.uniform(84, 150)
    scale = np.array(SCALES[rng.integers(2)]) + rng.integers(12)
    degrees = rng.permutation(np.array([0, 3, 4, 5]))
    bars = int(np.ceil(6 / (4 * beat))) + 1
    offset = rng.uniform(0, 4 * beat)  # the song starts somewhere inside a bar
    chords = [int(degrees[bar % 4]) for bar in range(bars)]
    stems = {
        "drums": _drums(rng, beat, bars, offset),
        "bass": _bass(rng, beat, chords, offset, scale),
        "other": _other(rng, beat, chords, offset, scale),
        "vocals": _vocals(rng, beat, scale),
    }
    for stem in stems.values():
        stem *= 10 ** (rng.uniform(-2, 2) / 20) / np.sqrt(np.mean(stem**2))
    gain = PEAK / np.abs(sum(stems.values())).max()
    return {name: (gain * stems[name]).astype(np.float32) for name in STEMS}


def _pitch(scale: NDArray[np.int64], degree: int, low: int) -> float:
    """Return the frequency in Hz of a degree of the scale, in the octave from MIDI note ``low`` on."""
    note = int(scale[degree % 7])
    return float(440 * 2 ** ((low + (note - low) % 12 - 69) / 12))


def _add(stem: Floats, start: float, sound: Floats) -> None:
    """Add ``sound [2, n]`` or ``[n]`` from ``start`` seconds on, and drop what lies outside the song."""
    first = round(start * SAMPLE_RATE)
    begin, end = max(first, 0), min(first + sound.shape[-1], FRAMES)
    if begin < end:
        stem[:, begin:end] += sound[..., begin - first : end - first]


def _decay(seconds: float, halflife: float) -> Floats:
    """Return an envelope that falls by half each ``halflife`` and ends smoothly."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    envelope = 0.5 ** (time / halflife) * np.minimum(1, (seconds - time) / 0.02)
    return np.asarray(envelope * np.minimum(1, time / 0.001))


def _noise(rng: np.random.Generator, frames: int, low: float, high: float = 7_900) -> Floats:
    """Return noise between two frequencies in Hz, of unit power."""
    spectrum = np.fft.rfft(rng.standard_normal(frames))
    frequency = np.fft.rfftfreq(frames, 1 / SAMPLE_RATE)
    spectrum *= 1 / (1 + (low / np.maximum(frequency, 1)) ** 8) / (1 + (frequency / high) ** 8)
    noise = np.fft.irfft(spectrum, frames)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def _partials(frequency: float, amplitudes: Floats, frames: int, phase: float) -> Floats:
    """Return the sum of harmonics of a steady pitch, those below the Nyquist frequency."""
    turn = np.exp(1j * (2 * np.pi * frequency / SAMPLE_RATE * np.arange(frames) + phase)).astype(np.complex64)
    total, power = np.zeros(frames), np.ones(frames, np.complex64)
    for number, amplitude in enumerate(amplitudes, 1):
        if number * frequency > 0.47 * SAMPLE_RATE:
            break
        power *= turn
        total += amplitude * power.imag
    return total


def _drums(rng: np.random.Generator, beat: float, bars: int, offset: float) -> Floats:
    """Play kick, snare and hi-hat on a pattern of sixteenths that is drawn once for the song."""
    envelope = _decay(0.35, rng.uniform(0.03, 0.07))
    time = np.arange(len(envelope)) / SAMPLE_RATE
    low, sweep = rng.uniform(45, 65), rng.uniform(80, 220)
    kick = 1.2 * envelope * np.sin(2 * np.pi * (low * time + sweep * 0.025 * (1 - np.exp(-time / 0.025))))
    kick[:160] += 0.2 * _noise(rng, 160, 1_500) * np.linspace(1, 0, 160)
    envelope = _decay(0.3, rng.uniform(0.02, 0.05))
    time = np.arange(len(envelope)) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * rng.uniform(170, 240) * time) * _decay(0.3, 0.02)
    snare = 0.35 * envelope * _noise(rng, len(envelope), rng.uniform(700, 1_800)) + 0.5 * tone
    hats = [0.22 * _decay(0.25, life) * _noise(rng, 4_000, rng.uniform(4_500, 6_000)) for life in (rng.uniform(0.006, 0.02), 0.06)]
    pan = rng.uniform(-0.5, 0.5)
    side = np.array([[1 - pan], [1 + pan]])
    kicks = rng.random(16) < np.where(np.arange(16) % 4 == 0, 0.55, 0.12)
    kicks[0] = True
    snares = (np.arange(16) % 8 == 4) | (rng.random(16) < 0.05)
    step = int(rng.choice([1, 2, 2]))
    opens = rng.random(16) < 0.08
    stem = np.zeros((2, FRAMES))
    for sixteenth in range(16 * bars):
        start, place = sixteenth * beat / 4 - offset, sixteenth % 16
        if kicks[place]:
            _add(stem, start, kick * rng.uniform(0.8, 1))
        if snares[place]:
            _add(stem, start, snare * rng.uniform(0.8, 1))
        if place % step == 0:
            _add(stem, start, side * hats[int(opens[place])] * rng.uniform(0.5, 1))
    return stem


def _bass(rng: np.random.Generator, beat: float, chords: list[int], offset: float, scale: NDArray[np.int64]) -> Floats:
    """Play the chord's root, now and then its fifth, in eighths, quarters or halves."""
    slope, count = rng.uniform(0.9, 2.2), int(rng.integers(4, 9))
    amplitudes = np.arange(1.0, count + 1) ** -slope * rng.uniform(0.5, 1, count)
    length, halflife = float(rng.choice([0.5, 1, 1, 2])), rng.uniform(0.25, 1.2)
    stem = np.zeros((2, FRAMES))
    for bar, chord in enumerate(chords):
        for note in range(int(4 / length)):
            degree = chord + (4 if note and rng.random() < 0.2 else 0)
            envelope = _decay(length * beat * rng.uniform(0.85, 1), halflife)
            sound = envelope * _partials(_pitch(scale, degree, 28), amplitudes, len(envelope), 0)
            _add(stem, (4 * bar + note * length) * beat - offset, sound)
    return stem


def _other(rng: np.random.Generator, beat: float, chords: list[int], offset: float, scale: NDArray[np.int64]) -> Floats:
    """Play the chords: held, struck in rhythm, or broken into single notes; two detuned voices make the width."""
    style = rng.choice(["held", "struck", "broken"])
    slope, count = rng.uniform(0.7, 1.8), int(rng.integers(6, 18))
    amplitudes = np.arange(1.0, count + 1) ** -slope
    if rng.random() < 0.4:
        amplitudes[1::2] *= rng.uniform(0, 0.4)  # hollow, as a clarinet or an organ stop
    length = {"held": 2.0, "struck": float(rng.choice([0.5, 1, 1.5])), "broken": 0.5}[str(style)]
    halflife = 3.0 if style == "held" else rng.uniform(0.12, 0.5)
    detune, low = rng.uniform(0.0005, 0.003), int(rng.integers(52, 62))
    width, stem = rng.uniform(0.2, 0.7), np.zeros((2, FRAMES))
    mixing = np.array([[1, width], [width, 1]])
    for bar, chord in enumerate(chords):
        for note in range(int(4 / length)):
            degrees = [chord, chord + 2, chord + 4]
            if style == "broken":
                degrees = [degrees[note % 3]]
            envelope = _decay(length * beat * (1.0 if style == "held" else 1.4), halflife)
            for degree in degrees:
                pitch = _pitch(scale, degree, low)
                voices = [_partials(pitch * (1 + shift), amplitudes, len(envelope), rng.uniform(0, 6.28)) for shift in (-detune, detune)]
                _add(stem, (4 * bar + note * length) * beat - offset, envelope * (mixing @ np.array(voices)))
    return stem


def _vocals(rng: np.random.Generator, beat: float, scale: NDArray[np.int64]) -> Floats:
    """Sing a melody in small steps: a vowel for each note, a glide between notes, vibrato on the long ones."""
    hop = SAMPLE_RATE // 200
    ticks = FRAMES // hop + 1
    low, size = int(rng.integers(52, 64)), rng.uniform(0.9, 1.2)  # the voice's range, and a scale on its formants
    pitch, level, vowels, breath = np.zeros(ticks), np.zeros(ticks), np.zeros((ticks, 4)), np.zeros(FRAMES)
    degree, tick = int(rng.integers(7)), 0
    while tick < ticks:
        end = tick + max(int(beat * float(rng.choice([0.5, 1, 1, 1.5, 2])) * 200), 20)
        rest = rng.random() < 0.08
        pitch[tick:end] = np.log2(_pitch(scale, degree, low))
        vowels[tick:end] = VOWELS[rng.integers(len(VOWELS))] * size
        gap = int(rng.integers(4, 12))
        level[tick + gap // 2 : end - gap // 2] = 0.0 if rest else rng.uniform(0.7, 1)
        if not rest and rng.random() < 0.35:
            burst = _noise(rng, round(rng.uniform(0.04, 0.09) * SAMPLE_RATE), rng.uniform(2_500, 4_500))
            burst *= 0.5 * np.hanning(len(burst))
            first = max(tick * hop - len(burst) // 2, 0)
            breath[first : first + len(burst)] += burst[: FRAMES - first]
        degree, tick = degree + int(rng.choice([-2, -1, -1, 1, 1, 2])), end
    pitch, level = _smooth(pitch, 9), _smooth(level, 7)
    vowels = np.stack([_smooth(column, 11) for column in vowels.T])
    time = np.arange(ticks) / 200
    vibrato = rng.uniform(0.02, 0.05) * np.sin(2 * np.pi * rng.uniform(4.8, 6.5) * time + rng.uniform(0, 6.28))
    drift = 0.008 * _smooth(rng.standard_normal(ticks), 15)
    frequency = 2 ** (pitch + vibrato + drift)
    control, frames = np.arange(ticks) * hop, np.arange(FRAMES)
    turn = np.exp(2j * np.pi * np.cumsum(np.interp(frames, control, frequency)) / SAMPLE_RATE).astype(np.complex64)
    tilt, bandwidths, strengths = rng.uniform(0.5, 0.9), np.array([70, 90, 130, 180]), np.array([1, 0.7, 0.4, 0.25])
    voice, power = np.zeros(FRAMES), np.ones(FRAMES, np.complex64)
    for number in range(1, int(7_000 / frequency.mean())):
        harmonic = number * frequency
        peaks = strengths[:, None] / np.hypot(1, (harmonic - vowels) / bandwidths[:, None])
        amplitude = level * (peaks.sum(0) + 0.01) * number**-tilt * (harmonic < 7_600)
        power *= turn
        voice += np.interp(frames, control, amplitude) * power.imag
    voice /= np.sqrt(np.mean(voice**2))
    loud = np.interp(frames, control, level)
    voice += 0.03 * loud * _noise(rng, FRAMES, 1_500) + breath
    return np.stack([voice, voice])


def _smooth(values: Floats, width: int) -> Floats:
    """Return the moving average over ``width`` ticks under a Hann window."""
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")[: len(values)]


def write_test_set(folder: Path) -> None:
    """Write each test song as ``<song>/<stem>.flac``, 16 bits."""
    import soundfile

    for number, seed in enumerate(TEST_SEEDS):
        place = folder / f"song{number}"
        place.mkdir(parents=True, exist_ok=True)
        for name, stem in song(seed).items():
            samples = np.round(stem.T * 2**15).astype(np.int16)
            soundfile.write(place / f"{name}.flac", samples, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the test songs of the pocket suite.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "songs", help="folder to write to")
    write_test_set(parser.parse_args().out)
