"""Word accuracy of speech recognition."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Statistic


class WordAccuracy(Additive):
    """One minus the word error rate: all edits over all reference words of the set (Morris et al. 2004; alignment by jiwer).

    An edit is a substitution, a deletion or an insertion, so the value falls below 0 when much is inserted. An empty reference adds its
    insertions and no words. Statistic: ``[edits, reference words]``.

    The tolerance is a wrong word in a hundred: greedy decoding turns one near tie into a few words of one utterance, seldom more.
    """

    name = "word_accuracy"
    unit = "accuracy"
    bounds = (float("-inf"), 1.0)
    tolerance = 0.01

    normalisers: ClassVar[tuple[str, ...]] = ("none", "whisper_english")

    def __init__(self, normaliser: str = "none", spellings: Mapping[str, str] | None = None) -> None:
        """Take the normaliser of both texts: ``none`` (words as they are) or ``whisper_english`` (Radford et al. 2022, appendix C).

        ``spellings`` maps British spellings to American ones and belongs to ``whisper_english``. transformers carries the
        normaliser's rules but not that table: every Whisper checkpoint has it as ``normalizer.json``, and its loaded tokenizer as
        ``english_spelling_normalizer``. Without it spellings stay as they are, and `settings` says so.
        """
        if normaliser not in self.normalisers:
            raise ValueError(f"unknown normaliser {normaliser!r}: use one of {', '.join(self.normalisers)}")
        if spellings and normaliser != "whisper_english":
            raise ValueError(f"spellings belong to the normaliser whisper_english, not to {normaliser!r}")
        self.normaliser, self.spellings = normaliser, dict(spellings or {})

    @property
    def settings(self) -> dict[str, Any]:
        """Name the normaliser, and its spelling table by a digest."""
        if self.normaliser == "none":
            return {"normaliser": "none"}
        digest = hashlib.sha256(json.dumps(self.spellings, sort_keys=True).encode()).hexdigest()[:12]
        return {"normaliser": self.normaliser, "spellings": digest if self.spellings else "none"}

    @cached_property
    def _normalise(self) -> Callable[[str], str]:
        if self.normaliser == "none":
            return str
        from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

        return EnglishTextNormalizer(self.spellings)  # type: ignore[no-untyped-call, no-any-return, unused-ignore]

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

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return one minus edits over words; NaN when there is no reference word."""
        edits, words = total[..., 0], total[..., 1]
        return np.asarray(1.0 - edits / np.where(words > 0, words, np.nan))
