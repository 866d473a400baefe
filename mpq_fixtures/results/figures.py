"""Figures as the report and the terminal write them: metrics with their names and units, rates, ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

METRIC_TITLES = {
    "top1": "top-1 accuracy",
    "miou": "mean IoU",
    "map": "mAP",
    "word_accuracy": "word accuracy",
    "sdr": "SDR",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "si_sdr": "SI-SDR",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS",
    "dists": "DISTS",
    "pesq": "PESQ",
    "stoi": "STOI",
    "cdpam": "CDPAM",
    "visqol": "ViSQOL",
    "agreement": "agreement with the originals",
    "neighbours": "neighbours kept",
}
UNIT_TITLES = {"bpp": "bits per pixel", "bits/sample": "bits per audio sample"}
NAMELESS_UNITS = ("", "1", "accuracy", "IoU", "AP", "SSIM", "cosine similarity", "share of neighbours")  # the title says it already


@dataclass(frozen=True)
class Measure:
    """A metric's value over a case, its 95 % interval and its unit."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    missing: int = 0
    why_missing: str = ""
    agreement: bool = False
    method: str = ""

    @property
    def title(self) -> str:
        """The metric's name as a reader knows it; what is held against the model's own answers is agreement, whatever it is counted in."""
        title = METRIC_TITLES.get(self.name, self.name.replace("_", " "))
        return f"agreement ({title})" if self.agreement else title

    @property
    def axis(self) -> str:
        """The title with its unit, for an axis or the head of a column."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def show(self, figure: float | None, *, sign: bool = False, unit: bool = True) -> str:
        """Write a figure of this metric: three decimals, two for decibels, an empty text for None."""
        if figure is None:
            return ""
        shown = f"{figure:{'+' if sign else ''}.{2 if self.unit == 'dB' else 3}f}"
        if float(shown) == 0:
            shown = shown.lstrip("+-")
        return shown.replace("-", "\N{MINUS SIGN}") + (f" {self.unit}" if unit and self.unit else "")

    @property
    def interval(self) -> str:
        """The 95 % interval in brackets, or an empty text."""
        if self.low is None or self.high is None:
            return ""
        return f"[{self.show(self.low, unit=False)}, {self.show(self.high, unit=False)}]"

    @property
    def error_rate(self) -> str:
        """What a word accuracy lacks, as its readers call it: ``WER 7.1 %``; empty for other metrics."""
        return f"WER {100 * (1 - self.value):.1f} %" if self.name == "word_accuracy" and self.value is not None else ""


def number(value: Any) -> float | None:
    """Return ``value`` as a finite float, or None for an empty cell, NaN, infinity and anything that is no number."""
    if value is None or isinstance(value, bool):
        return None
    try:
        figure = float(value)
    except (TypeError, ValueError):
        return None
    return figure if math.isfinite(figure) else None


def text(value: Any) -> str:
    """Return ``value`` as text, an empty one for an empty cell."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def rate(value: float | None, unit: str = "") -> str:
    """Write a rate with three significant digits, and its unit if one is given."""
    if value is None:
        return ""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{digits}f} {unit}".strip()


def ratio(value: float | None) -> str:
    """Write a compression ratio: ``113:1``, with one decimal below ten."""
    return "" if value is None else f"{value:.0f}:1" if value >= 9.95 else f"{value:.1f}:1"
