"""Word accuracy of speech recognition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Chance, Statistic, versions


class WordAccuracy(Additive):
    """One minus the word error rate: all edits over all reference words of the set (Morris et al. 2004; alignment by jiwer).

    An edit is a substitution, a deletion or an insertion, so the value falls below 0 when much is inserted. An empty reference adds its
    insertions and no words. Statistic: ``[edits, reference words]``.

    The tolerance is two wrong words in a hundred: greedy decoding turns one near tie into a few words of one utterance, seldom more.
    """

    name = "word_accuracy"
    unit = "accuracy"
    bounds = (float("-inf"), 1.0)
    tolerance = 0.02

    normalisers: ClassVar[tuple[str, ...]] = ("none", "whisper_basic", "whisper_english")

    def __init__(self, normaliser: str = "none") -> None:
        """Take the normaliser of both texts: ``none`` (words as they are) or one of Whisper's (Radford et al. 2022, appendix C).

        ``whisper_english`` also evens out numbers, contractions and British spellings; ``whisper_basic``, for all languages, only case,
        punctuation and what stands in brackets.
        """
        if normaliser not in self.normalisers:
            raise ValueError(f"unknown normaliser {normaliser!r}: use one of {', '.join(self.normalisers)}")
        self.normaliser = normaliser

    @property
    def settings(self) -> dict[str, Any]:
        """Name the normaliser."""
        return {"normaliser": self.normaliser}

    @property
    def packages(self) -> dict[str, str]:
        """Name what aligns the words, and what the normaliser comes from."""
        return versions("jiwer") if self.normaliser == "none" else versions("jiwer", "whisper-normalizer")

    @cached_property
    def _normalise(self) -> Callable[[str], str]:
        if self.normaliser == "none":
            return str
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer

        normalise: Callable[[str], str] = EnglishTextNormalizer() if self.normaliser == "whisper_english" else BasicTextNormalizer()
        return normalise

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Align two texts word by word; a prediction of NaN or infinity in place of a text gives NaN edits."""
        import jiwer

        if not isinstance(target, str):
            raise ValueError(f"word accuracy compares two texts; the target is {target!r}")
        reference = self._normalise(target).split()
        if isinstance(prediction, float | np.floating) and not math.isfinite(prediction):
            return np.array([np.nan, len(reference)])
        if not isinstance(prediction, str):
            raise ValueError(f"word accuracy compares two texts; the prediction is {prediction!r}")
        hypothesis = self._normalise(prediction).split()
        aligned = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
        return np.array([aligned.substitutions + aligned.deletions + aligned.insertions, len(reference)], dtype=np.float64)

    def chance(self, statistics: Sequence[Statistic], targets: Sequence[str]) -> Chance:
        """Return 0: every word is missing."""
        return Chance(0.0, "no word at all")

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return one minus edits over words; NaN when there is no reference word."""
        edits, words = total[..., 0], total[..., 1]
        return np.asarray(1.0 - edits / np.where(words > 0, words, np.nan))
