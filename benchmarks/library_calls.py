"""The calls of libraries that a case cannot do without, made by hand as well as they can be: ``python library_calls.py SPECIFICATION``.

Prints seconds a sample of each step, in JSON, and with the best of several batch sizes. The specification, in JSON, has the ``task``, the
``model`` (a checkpoint's folder), the ``files`` and the ``quality``.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image as PILImage

BATCHES = (1, 2, 4, 8, 16, 32)
TRIED = 32
"""Samples on which batch sizes are compared."""


class Stopwatch:
    """Adds up the seconds a sample of each step: those that passed and those that this process worked."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.passed: dict[str, float] = {}
        self.worked: dict[str, float] = {}

    def each(self, step: str, action: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        passed, worked = time.perf_counter(), time.process_time()
        results = [action(item) for item in items]
        self.passed[step] = (time.perf_counter() - passed) / self.samples
        self.worked[step] = (time.process_time() - worked) / self.samples
        return results


def batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def best_batch(forward: Callable[[Sequence[Any]], Any], inputs: Sequence[Any]) -> int:
    """Return the batch size with which a network is through with some of the inputs first."""
    some, times = inputs[:TRIED], {}
    forward(some[:1])
    for size in (size for size in BATCHES if size <= len(some)):
        started = time.perf_counter()
        for batch in batches(some, size):
            forward(batch)
        times[size] = time.perf_counter() - started
    return min(times, key=lambda size: times[size])


def pictures(specification: dict[str, Any]) -> tuple[Stopwatch, int]:
    from mpq_fixtures.metrics.psnr import ImagePSNR
    from mpq_fixtures.metrics.ssim import SSIM
    from mpq_fixtures.signals import Image

    files, quality, watch = specification["files"], specification["quality"], Stopwatch(len(specification["files"]))
    psnr, ssim = ImagePSNR(), SSIM()

    def encode(picture: PILImage.Image) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    def compare(pair: tuple[Image, Image]) -> None:
        psnr.observe(*pair)
        ssim.observe(*pair)

    def read(file: Any) -> PILImage.Image:
        return PILImage.open(file).convert("RGB")

    read(io.BytesIO(encode(read(files[0]))))  # what is imported once
    originals = watch.each("read", read, files)
    streams = watch.each("encode", encode, originals)
    decoded = watch.each("decode", lambda data: read(io.BytesIO(data)), streams)
    arrays = [(Image(np.asarray(one)), Image(np.asarray(other))) for one, other in zip(decoded, originals, strict=True)]
    compare(arrays[0])
    watch.each("compare", compare, arrays)
    if "model" not in specification:
        return watch, 1
    prepare, forward = network(specification["task"], specification["model"])
    prepare(decoded[0])
    inputs = watch.each("prepare", prepare, decoded)
    size = best_batch(forward, inputs)
    watch.each("predict", forward, batches(inputs, size))
    return watch, size


def network(task: str, folder: str) -> tuple[Callable[[Any], Any], Callable[[Sequence[Any]], Any]]:
    """Return what prepares a picture, and what answers to several that were prepared."""
    import torch
    import transformers

    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    kind = "SegformerForSemanticSegmentation" if task == "image_segmentation" else "AutoModelForImageClassification"
    model = getattr(transformers, kind).from_pretrained(folder).eval()

    def prepare(picture: PILImage.Image) -> Any:
        return processor(picture, return_tensors="pt").pixel_values

    @torch.inference_mode()
    def forward(inputs: Sequence[Any]) -> Any:
        logits = model(pixel_values=torch.cat(list(inputs))).logits
        if task == "image_segmentation":
            resized = (torch.nn.functional.interpolate(one[None], size=(375, 500), mode="bilinear") for one in logits)
            return [one[0].max(0).indices.numpy() for one in resized]
        return logits.argmax(-1).tolist()

    return prepare, forward


def sounds(specification: dict[str, Any]) -> tuple[Stopwatch, int]:
    """Speech through Opus to Whisper; the codec is mpq's, since a sound that comes back in its place takes more than one call."""
    import soundfile
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    from mpq_fixtures.codecs.opus import Opus
    from mpq_fixtures.metrics.psnr import AudioPSNR
    from mpq_fixtures.metrics.si_sdr import SISDR
    from mpq_fixtures.signals import Audio

    files, quality, watch = specification["files"], specification["quality"], Stopwatch(len(specification["files"]))
    codec, psnr, si_sdr = Opus(), AudioPSNR(), SISDR()
    processor = WhisperProcessor.from_pretrained(specification["model"])
    model = WhisperForConditionalGeneration.from_pretrained(specification["model"]).eval()

    def read(file: str) -> Audio:
        waveform, rate = soundfile.read(file, dtype="float32", always_2d=True)
        return Audio(waveform.T, rate)

    def compare(pair: tuple[Audio, Audio]) -> None:
        psnr.observe(*pair)
        si_sdr.observe(*pair)

    def prepare(sound: Audio) -> Any:
        return processor(sound.waveform[0], sampling_rate=sound.sample_rate, return_tensors="pt").input_features

    @torch.inference_mode()
    def forward(inputs: Sequence[Any]) -> Any:
        tokens = model.generate(torch.cat(list(inputs)), do_sample=False, num_beams=1, language="english", task="transcribe")
        return processor.batch_decode(tokens, skip_special_tokens=True)

    first = read(files[0])
    compare((codec.decode(codec.encode(first, quality)), first))
    prepare(first)
    originals = watch.each("read", read, files)
    streams = watch.each("encode", lambda sound: codec.encode(sound, quality), originals)
    decoded = watch.each("decode", codec.decode, streams)
    watch.each("compare", compare, list(zip(decoded, originals, strict=True)))
    inputs = watch.each("prepare", prepare, decoded)
    size = best_batch(forward, inputs)
    watch.each("predict", forward, batches(inputs, size))
    return watch, size


def main() -> None:
    specification = json.loads(sys.argv[1])
    watch, size = sounds(specification) if specification["task"] == "speech_recognition" else pictures(specification)
    print(json.dumps({"passed": watch.passed, "worked": watch.worked, "batch": size}))


if __name__ == "__main__":
    main()
