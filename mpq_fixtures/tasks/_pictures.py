"""What the picture models share: reading a checkpoint, and pictures as the tensors that its image processor makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from mpq_fixtures.models import checkpoints
from mpq_fixtures.models.checkpoints import class_names, quiet
from mpq_fixtures.processes.devices import autocast
from mpq_fixtures.signals import Image

GPU_BATCH = 32
"""Pictures at once on anything but a CPU."""

CHANNELS_LAST = "channels last"
"""The layout of memory in which all channels of a pixel lie side by side, which takes many convolutions a fifth less time, or a third."""


class PictureModel:
    """A checkpoint on a device with its image processor.

    ``cpu_batch`` pictures are computed at once on a CPU. There, in float32, batches of any size move the probability of a class by at
    most 1e-5 (tested), so that only ties may turn.
    """

    cpu_batch = 16  # the fewest that are as fast as more while other threads encode and decode

    layouts = (CHANNELS_LAST,)

    def __init__(self, model: Any, processor: Any, device: str, precision: str = "float32") -> None:
        self._model = model.eval().to(device)
        self._layout: Any = None
        self._processor = processor
        self._device, self._precision = device, precision
        self.batch_size = self.cpu_batch if device == "cpu" else GPU_BATCH
        self.labels = class_names(model.config)

    def arrange(self, layout: str) -> None:
        """Hold weights and activations of convolutions in a layout: one of ``layouts``, or "", that in which they come."""
        import torch

        self._layout = torch.channels_last if layout == CHANNELS_LAST else torch.contiguous_format
        self._model.to(memory_format=self._layout)

    def _on_device(self, pictures: NDArray[np.float32]) -> Any:
        """Return pixel values, ``[pictures, 3, height, width]``, as the network takes them."""
        import torch

        tensor = torch.from_numpy(pictures).to(self._device)
        return tensor if self._layout is None else tensor.contiguous(memory_format=self._layout)

    def _pixel_values(self, signal: Image) -> NDArray[np.float32]:
        return pixel_values(self._processor, signal)

    def _logits(self, inputs: Sequence[NDArray[np.float32]]) -> list[Any]:
        """Return the logits of each picture's pixel values, float32, in order; call it in inference mode.

        They run together when the processor makes the pictures one size, and one by one otherwise.
        """
        together = len({values.shape for values in inputs}) == 1
        batches = [np.concatenate(inputs)] if together else inputs
        with autocast(self._device, self._precision):
            return [logits for batch in batches for logits in self._forward(self._on_device(batch)).float()]

    def _forward(self, pixel_values: Any) -> Any:
        """Return the network's logits for a batch of pixel values, ``[pictures, classes, ...]``."""
        return self._model(pixel_values=pixel_values).logits


def pixel_values(processor: Any, signal: Image) -> NDArray[np.float32]:
    """Resize and normalise a picture as an image processor says: ``float32 [1, 3, height, width]``."""
    # Channels are named last, for a picture one or three pixels high could be taken for channels first.
    picture = Pillow.fromarray(signal.pixels)
    values: NDArray[np.float32] = processor(picture, input_data_format="channels_last", return_tensors="pt").pixel_values.numpy()
    return values


def read(architecture: str, source: str) -> tuple[Any, Any]:
    """Read a model of a class of ``transformers`` (`mpq_fixtures.models.checkpoints.read`) and its image processor."""
    model = checkpoints.read(architecture, source)
    return model, read_processor(source)


def read_processor(source: str) -> Any:
    """Read the image processor of a local folder or a hub id with an optional ``@revision``."""
    from transformers import AutoImageProcessor

    name, version = checkpoints.place_of(source)
    with quiet():
        return AutoImageProcessor.from_pretrained(name, backend="pil", **version)
