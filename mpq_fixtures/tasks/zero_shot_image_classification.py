"""Zero-shot image classification: a picture and the prompts of the suite file in, the index of the prompt that fits best out.

Any CLIP (Radford et al., 2021, arXiv 2103.00020) or SigLIP (Zhai et al., 2023, arXiv 2303.15343) will do that
`AutoModelForZeroShotImageClassification` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mpq_fixtures.errors import AssetError
from mpq_fixtures.metrics import lacking
from mpq_fixtures.models import checkpoints
from mpq_fixtures.processes.devices import autocast
from mpq_fixtures.tasks._classes import plain_name
from mpq_fixtures.tasks._pictures import read_processor
from mpq_fixtures.tasks.image_classification import ImageClassification, ImageClassifier

TEMPLATE = "a photo of a {}"
"""Where a suite file lists labels and no template."""

MODELS = ("CLIPModel", "MetaClip2Model", "SiglipModel")
TOWERS = ("vision", "visual", "text", "logit")
TOKENIZER = (*checkpoints.TOKENIZER, "spiece.model", "vocab.txt")


class ZeroShotImageClassification(ImageClassification):
    """Which of some prompts fits the picture; top-1 accuracy.

    ``prompts`` is a table of labels, each with its prompt, or a list of labels, of which ``template`` makes prompts by putting them in the
    place of its ``{}``. The labels are the model's classes, in that order.
    """

    name, title = "zero_shot_image_classification", "zero-shot image classification"
    model_options: ClassVar[Mapping[str, Any]] = {"precision": "float32", "prompts": None, "template": None}

    def labels(self, folder: Path, **options: Any) -> tuple[str, ...]:
        """Return the labels of the prompts."""
        return tuple(prompts_of(options))

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `ValueError` for values that are not possible."""
        super().check_options(options)
        if "prompts" in options:  # a python: model has its own
            prompts_of(options)

    def check(self, source: str, **options: Any) -> None:
        """Raise `AssetError` where a folder holds no such checkpoint, or not all of it, as far as shows without reading weights."""
        config = checkpoints.config_of(Path(source))
        if config and "text_config" not in config:
            held = (config.get("architectures") or [config.get("model_type", "model")])[0]
            raise AssetError(f"{source} holds a {held}, which reads no texts: name the whole CLIP or SigLIP, or another task")
        checkpoints.check(source, MODELS, checkpoints.WEIGHTS, checkpoints.PROCESSOR, TOKENIZER)
        tokenizer = checkpoints.config_of(Path(source), "tokenizer_config.json").get("tokenizer_class")
        if tokenizer == "SiglipTokenizer" and (absent := lacking(sentencepiece="sentencepiece")):
            raise AssetError(f"{source} has a {tokenizer}, and {absent}")

    def load(self, source: str, device: str, **options: Any) -> ZeroShotClassifier:
        """Load a model for ``device`` from a local folder or a hub id with an optional ``@revision``.

        Raises what `check` does, `ValueError` for prompts that are none, `AssetError` for one that is longer than the model reads, and
        ``OSError`` when there is no such checkpoint.
        """
        from transformers import AutoTokenizer

        prompts = prompts_of(options)
        self.check(source)
        name, version = checkpoints.place_of(source)
        model = checkpoints.read("AutoModelForZeroShotImageClassification", source, TOWERS)
        with checkpoints.quiet():
            tokenizer = AutoTokenizer.from_pretrained(name, **version)
        return ZeroShotClassifier(model, read_processor(source), tokenizer, prompts, device, options.get("precision", "float32"))


class ZeroShotClassifier(ImageClassifier):
    """A CLIP or SigLIP on a device, and the features of its prompts, which are computed once; ``labels`` are those of the prompts.

    Logits are cosine similarities. What the models multiply them by and add is the same for every prompt, so that the best stays the best.
    """

    def __init__(
        self, model: Any, processor: Any, tokenizer: Any, prompts: Mapping[str, str], device: str, precision: str = "float32"
    ) -> None:
        super().__init__(model, processor, device, precision)
        self.labels = tuple(prompts)
        self._texts = self._text_features(tokenizer, prompts)

    def _text_features(self, tokenizer: Any, prompts: Mapping[str, str]) -> Any:
        """Return a direction for each prompt, ``float32 [prompts, features]``.

        SigLIP was trained on texts padded to its full length, and CLIP masks what comes behind a text.
        """
        import torch

        longest = int(self._model.config.text_config.max_position_embeddings)
        texts = list(prompts.values())
        with checkpoints.quiet():
            lengths = [len(tokens) for tokens in tokenizer(texts)["input_ids"]]
        for label, length in zip(prompts, lengths, strict=True):
            if length > longest:
                raise AssetError(f"prompts: that of {label!r} has {length} tokens, and the model reads {longest}: shorten it")
        padding: dict[str, Any] = {"padding": True}
        if self._model.config.model_type.startswith("siglip"):
            padding = {"padding": "max_length", "max_length": longest}
        tokens = tokenizer(texts, return_tensors="pt", **padding).to(self._device)
        with torch.inference_mode(), autocast(self._device, self._precision):
            return _directions(self._model.get_text_features(**tokens))

    def _forward(self, pixel_values: Any) -> Any:
        """Return the cosine similarity of each picture with each prompt, ``float32 [pictures, prompts]``."""
        return _directions(self._model.get_image_features(pixel_values=pixel_values)).double().matmul(self._texts.double().T)


def _directions(features: Any) -> Any:
    """Return features of length 1, from what a tower gives."""
    from torch.nn.functional import normalize

    return normalize(features.pooler_output.float(), dim=-1)


def prompts_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the prompt of each label from the values of ``prompts`` and ``template``; raises `ValueError` where they give none."""
    given, template = options.get("prompts"), options.get("template")
    example = '{ cat = "a photo of a cat", dog = "a photo of a dog" }, or ["cat", "dog"] with a template'
    if not given:
        raise ValueError(f"prompts is missing: write what the classes are called, prompts = {example}")
    if isinstance(given, list) and all(isinstance(label, str) for label in given):
        template = TEMPLATE if template is None else template
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(f'template: {template!r} must be a text with one {{}}, the place of the label, such as "{TEMPLATE}"')
        pairs = [(label, template.replace("{}", label) if label.strip() else "") for label in given]
    else:
        try:
            pairs = [(label, prompt) for label, prompt in (given.items() if isinstance(given, Mapping) else given)]
        except (TypeError, ValueError):
            raise ValueError(f"prompts: {given!r} must be a table or a list of labels, {example}") from None
        if template is not None:
            raise ValueError("template: prompts is a table, which has its prompts whole: leave the template out, or list the labels alone")
    for label, prompt in pairs:
        if not isinstance(label, str) or not isinstance(prompt, str) or not label.strip() or not prompt.strip():
            raise ValueError(f"prompts: {label!r} has the prompt {prompt!r}: write a text for each label")
    names = [plain_name(label) for label, _ in pairs]
    for what, alike in (("are one name where classes are matched", names), ("have one prompt", [prompt for _, prompt in pairs])):
        first: dict[str, int] = {}
        for place, key in enumerate(alike):
            if (other := first.setdefault(key, place)) != place:
                raise ValueError(f"prompts: {pairs[other][0]!r} and {pairs[place][0]!r} {what}: change one, or leave it out")
    return dict(pairs)
