"""How many signals a model gets at once: the measured choice, answers that depend on company, and memory that does not suffice."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mpq_fixtures.models import predictions
from mpq_fixtures.models.answers import Answer, Limit, ask, in_what_fits, is_out_of_memory
from mpq_fixtures.models.batching import SHARE, Choice, choose_batch
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.sample_errors import SampleError
from mpq_fixtures.signals import Audio, Image, Signal
from mpq_fixtures.suite.file import load_suite
from mpq_fixtures.tasks import find_task

ABSURD = 2**62  # bytes


def pictures(count: int, side: int = 24) -> list[Image]:
    """Return pictures of noise whose brightness differs."""
    generator = np.random.default_rng(0)
    return [Image(generator.integers(0, 20 + 235 * n // count, (side, side, 3), np.uint8, endpoint=True)) for n in range(count)]


def sounds(count: int) -> list[Audio]:
    """Return sounds of several lengths."""
    generator = np.random.default_rng(0)
    return [Audio(generator.normal(0, 0.1, (1, 800 + 400 * n)).astype(np.float32), 8000) for n in range(count)]


class Trial:
    """A model that is asked, and counts for what. Its clock moves by ``milliseconds`` of a batch's size, and stands still otherwise.

    In one of the ``layouts`` it takes so many times as long.
    """

    task = find_task("image_classification")

    def __init__(
        self,
        predict: Callable[[Sequence[Any]], list[Any]],
        milliseconds: Callable[[int], float] = lambda count: 20,
        most: int = 32,
        batch_size: int = 8,
        layouts: Mapping[str, float] | None = None,
    ) -> None:
        self._predict, self._milliseconds, self.most, self.batch_size = predict, milliseconds, most, batch_size
        self._times, self.layout = layouts or {}, ""
        self.layouts = tuple(self._times)
        self.batches: list[int] = []
        self.seconds = 0.0

    def ready(self) -> Trial:
        return self

    def arrange(self, layout: str) -> None:
        self.layout = layout

    def predict(self, signals: Sequence[Signal]) -> list[Any]:
        self.batches.append(len(signals))
        self.seconds += self._milliseconds(len(signals)) / 1000 * self._times.get(self.layout, 1)
        return self._predict(signals)

    def choose(self, signals: Sequence[Signal], calls: int = 50_000) -> Choice:
        return choose_batch(self, iter(signals), calls, clock=lambda: self.seconds)


def brightness(signals: Sequence[Image]) -> list[int]:
    return [int(signal.pixels.mean()) for signal in signals]


def own_model(folder: Path, body: str) -> OpenModel:
    """Return a model of a suite of one's own, a class with this body."""
    (folder / "own_model.py").write_text(
        f"class load:\n    {body}\n    def __init__(self, device): pass\n    def predict(self, s): return s\n"
    )
    data = '{ path = "imagefolder", data_dir = "." }'
    evaluation = 'name = "mine"\ntask = "image_classification"\nmodel = "python:own_model:load"'
    (folder / "suite.toml").write_text(f'name = "own"\n[[evaluation]]\n{evaluation}\ndataset = {data}\n')
    return OpenModel(load_suite(folder / "suite.toml")[0], "cpu")


class Classifier(nn.Module):
    """A small convolutional network with batch normalisation, whose classes are levels of what it finds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def predict(self, signals: Sequence[Image]) -> list[int]:
        batch = torch.stack([torch.from_numpy(signal.pixels).permute(2, 0, 1) / 255 for signal in signals])
        with torch.inference_mode():
            return [int(features.mean() * 50) for features in self.layers(batch)]


class Separator(nn.Module):
    """Stems by a convolution, levelled by the loudest of each sound or, ``together``, of the batch."""

    def __init__(self, together: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.filter, self.together = nn.Conv1d(1, 2, 9, padding=4), together

    def predict(self, signals: Sequence[Audio]) -> list[dict[str, Any]]:
        length = max(signal.waveform.shape[1] for signal in signals)
        padded = np.stack([np.pad(signal.waveform, ((0, 0), (0, length - signal.waveform.shape[1]))) for signal in signals])
        batch = torch.from_numpy(padded)
        with torch.inference_mode():
            level = batch.abs().max() if self.together else batch.abs().amax((1, 2), keepdim=True)
            stems = self.filter(batch / level).numpy()
        return [
            {"low": one[:1, : signal.waveform.shape[1]], "high": one[1:, : signal.waveform.shape[1]]}
            for one, signal in zip(stems, signals, strict=True)
        ]


class Listener(nn.Module):
    """A text of what a recurrent network hears, from its state behind the padding or, ``masked``, at each sound's own end."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gru, self.head, self.masked = nn.GRU(80, 32, batch_first=True), nn.Linear(32, 26), masked

    def predict(self, signals: Sequence[Audio]) -> list[str]:
        frames = [torch.from_numpy(signal.waveform[0]).unfold(0, 80, 80) for signal in signals]
        with torch.inference_mode():
            states = self.gru(nn.utils.rnn.pad_sequence(frames, batch_first=True))[0]
            ends = [len(one) - 1 if self.masked else -1 for one in frames]
            letters = [self.head(state[end]).topk(5).indices.tolist() for state, end in zip(states, ends, strict=True)]
        return ["".join(chr(97 + letter) for letter in word) for word in letters]


class TestChoice:
    @pytest.mark.parametrize(
        ("milliseconds", "expected"),
        [
            (lambda n: 10 + n, 32),
            (lambda n: 8 * n, 1),
            (lambda n: 20 if n <= 4 else 12 * n, 4),
            (lambda n: 10 * n * (1.0 if n >= 16 else 1.02 if n >= 4 else 1.05), 4),
        ],
        ids=["the larger the better", "the same at any size", "best at 4", "3 % are no gain"],
    )
    def test_is_the_smallest_of_the_fastest(self, milliseconds: Callable[[int], float], expected: int) -> None:
        choice = Trial(brightness, milliseconds).choose(pictures(40))
        assert choice.size == expected
        assert choice.agreed is (None if expected == 1 else True)
        assert choice.milliseconds == pytest.approx({size: milliseconds(size) / size for size in choice.milliseconds})
        assert Choice.from_bytes(choice.to_bytes()) == choice

    @pytest.mark.parametrize("calls", [0, 50, 500, 699, 700, 1_000, 1_300, 3_000, 10_000, 100_000])
    @pytest.mark.parametrize("milliseconds", [lambda n: 20, lambda n: n, lambda n: n * n], ids=["rising", "level", "falling"])
    def test_costs_at_most_a_share_of_the_predictions(self, milliseconds: Callable[[int], float], calls: int) -> None:
        trial = Trial(brightness, milliseconds)
        choice = trial.choose(pictures(40), calls)
        assert sum(trial.batches) <= max(4, SHARE * calls)
        assert bool(choice.milliseconds) is (calls >= 700)
        assert choice.milliseconds or choice.size == trial.batch_size

    def test_of_too_few_predictions_for_all_sizes_is_not_below_the_usual(self) -> None:
        trial = Trial(brightness)
        choice = trial.choose(pictures(40), 1_500)
        assert max(choice.milliseconds) < choice.size == trial.batch_size

    def test_takes_no_more_signals_than_it_asks_for(self) -> None:
        signals = iter(pictures(40))
        choose_batch(Trial(brightness), signals, 100)
        assert len(list(signals)) == 38

    def test_stops_where_larger_batches_are_slower(self) -> None:
        trial = Trial(brightness, lambda n: 4 * n * n)
        assert trial.choose(pictures(40)).size == 1
        assert max(trial.batches) == 2

    def test_warms_every_size_up(self) -> None:
        trial = Trial(brightness)
        slow: set[int] = set()

        def first_time_slow(count: int) -> float:
            seen = count in slow
            slow.add(count)
            return 20 if seen else 5000

        trial._milliseconds = first_time_slow
        assert trial.choose(pictures(40)).milliseconds == pytest.approx({size: 20 / size for size in (1, 2, 4, 8, 16, 32)})

    @pytest.mark.parametrize("most", [1, 3, 12, 20])
    def test_never_goes_beyond_what_the_model_takes(self, most: int) -> None:
        trial = Trial(brightness, most=most, batch_size=most)
        assert trial.choose(pictures(40)).size == most
        assert max(trial.batches, default=1) <= most

    @pytest.mark.parametrize("count", [0, 1, 2, 5])
    def test_a_few_signals_or_none_will_do(self, count: int) -> None:
        trial = Trial(brightness)
        assert 1 <= trial.choose(pictures(count) if count else []).size <= trial.most

    def test_of_a_model_that_refuses_everything_is_its_own(self) -> None:
        def refuse(signals: Sequence[Signal]) -> list[Any]:
            raise ValueError("no")

        choice = Trial(refuse).choose(pictures(40), 100)
        assert (choice.size, choice.agreed) == (8, None)

    @pytest.mark.parametrize(("body", "usual", "most"), [("batch_size = 4", 4, 4), ("pass", 8, 32)])
    def test_an_open_model_says_what_it_takes(self, body: str, usual: int, most: int, tmp_path: Any) -> None:
        model = own_model(tmp_path, body)
        assert (model.batch_size, model.most, model.notes) == (usual, most, [])
        model.limit = Limit(8)
        model.limit.shrink(4, 8)
        assert model.notes == model.limit.notes


class TestLayout:
    @pytest.mark.parametrize(
        ("layouts", "expected"),
        [({"wide": 0.7}, "wide"), ({"wide": 0.97}, ""), ({"wide": 1.3}, ""), ({"wide": 0.8, "tall": 0.6, "flat": 0.59}, "tall")],
        ids=["faster", "hardly faster", "slower", "the first of those that are about as fast"],
    )
    def test_is_the_models_own_unless_another_is_clearly_faster(self, layouts: dict[str, float], expected: str) -> None:
        trial = Trial(brightness, lambda count: 10 + count, layouts=layouts)
        choice = trial.choose(pictures(40))
        assert (choice.layout, trial.layout, choice.size, choice.agreed) == (expected, expected, 32, True)
        assert choice.milliseconds[32] == pytest.approx((10 + 32) / 32 * layouts.get(expected, 1))
        assert Choice.from_bytes(choice.to_bytes()) == choice

    def test_may_bring_another_size(self) -> None:
        class Wide(Trial):
            def predict(self, signals: Sequence[Signal]) -> list[Any]:
                self._milliseconds = (lambda n: 9 + n) if self.layout else (lambda n: 8 * n + 0.01 * n * n)
                return super().predict(signals)

        choice = Wide(brightness, most=8, layouts={"wide": 1.0}).choose(pictures(40))
        assert (choice.layout, choice.size) == ("wide", 8)

    def test_in_which_the_model_answers_otherwise_is_not_taken(self) -> None:
        trial = Trial(lambda signals: [len(trial.layout)] * len(signals), layouts={"wide": 0.5})
        choice = trial.choose(pictures(40))
        assert (choice.layout, trial.layout, choice.size, choice.agreed) == ("", "", 32, True)

    def test_that_the_model_cannot_take_is_not_taken_though_refusing_is_quick(self) -> None:
        def predict(signals: Sequence[Signal]) -> list[int]:
            if trial.layout:
                raise RuntimeError("view size is not compatible with input tensor's size and stride")
            return [0] * len(signals)

        trial = Trial(predict, layouts={"wide": 0.01})
        choice = trial.choose(pictures(40))
        assert (choice.layout, trial.layout, choice.size, choice.agreed) == ("", "", 32, True)

    @pytest.mark.parametrize(("share", "expected"), [(0.85, "wide"), (0.91, "")])
    def test_of_a_slow_model_is_tried_on_one_signal_and_has_to_gain_more(self, share: float, expected: str) -> None:
        trial = Trial(brightness, lambda count: 200 * count, layouts={"wide": share})
        assert trial.choose(pictures(40), calls=96 * 3).layout == expected
        assert trial.batches == [1, 1, 1, 1, 2, 1, 1]  # in each layout to warm up and to measure; then together and alone
        assert len(trial.batches) <= 96 * 3 * SHARE

    @pytest.mark.parametrize(("milliseconds", "count"), [(45, 2), (30, 3), (13, 7), (12, 8), (1, 8)])
    def test_is_tried_on_as_many_signals_as_take_a_tenth_of_a_second(self, milliseconds: float, count: int) -> None:
        trial = Trial(brightness, lambda size: milliseconds * size, most=8, layouts={"wide": 0.5})
        trial.choose(pictures(40), calls=4 * (count + 3) * 100)
        assert trial.batches[:6] == [1, 1, count, count, count, count]

    @pytest.mark.parametrize("milliseconds", [20, 200])
    @pytest.mark.parametrize("calls", [100, 200, 250, 300, 500, 1000, 1200, 1300, 1500, 2500, 10_000])
    def test_costs_no_more_than_a_share_of_the_predictions(self, calls: int, milliseconds: float) -> None:
        trial = Trial(brightness, lambda count: milliseconds, layouts={"wide": 0.5, "tall": 0.4})
        trial.choose(pictures(64), calls)
        assert sum(trial.batches) <= max(2 * 2, calls * SHARE)

    def test_is_taken_up_by_a_model_that_is_loaded_later_or_again(self, tmp_path: Any) -> None:
        model = own_model(tmp_path, "layouts = ('wide',)\n    def arrange(self, layout): self.layout = layout")
        model.arrange("wide")
        assert (model.layouts, model.ready().layout) == (("wide",), "wide")  # type: ignore[attr-defined]
        model.close()
        assert model.ready().layout == "wide"  # type: ignore[attr-defined]
        model.arrange("")
        assert model.ready().layout == ""  # type: ignore[attr-defined]

    def test_of_a_model_that_cannot_be_arranged_there_is_none(self, tmp_path: Any) -> None:
        assert own_model(tmp_path, "layouts = ('wide',)").layouts == ()


class TestCanary:
    """Real modules whose answers depend on the batch, and the same ones put right."""

    @pytest.mark.parametrize("calls", [50_000, 1_000])
    @pytest.mark.parametrize(
        ("make", "signals"),
        [
            (lambda right: Classifier().train(not right).predict, pictures(32)),
            (lambda right: Separator(together=not right).predict, sounds(32)),
            (lambda right: Listener(masked=right).predict, sounds(32)),
        ],
        ids=["batch norm in training mode", "levelled over the batch", "padding that is heard"],
    )
    def test_notices_answers_that_depend_on_the_batch(self, make: Callable[[bool], Any], signals: list[Any], calls: int) -> None:
        wrong, right = (Trial(make(good)).choose(signals, calls) for good in (False, True))
        assert (wrong.size, wrong.agreed) == (1, False)
        assert "otherwise together than alone" in wrong.note
        assert right.size > 1
        assert right.agreed
        assert not right.note

    def test_with_few_predictions_two_signals_tell(self) -> None:
        trial = Trial(Separator(together=True).predict)
        assert trial.choose(sounds(8), calls=20).size == 1
        assert trial.batches == [2, 1, 1]

    def test_what_fails_tells_nothing(self) -> None:
        def predict(signals: Sequence[Image]) -> list[int]:
            if any(signal.pixels.mean() < 40 for signal in signals):
                raise ValueError("too dark")
            return [int(signal.pixels.mean()) for signal in signals]

        assert Trial(predict).choose(pictures(8), 100).note == ""

    def test_same_but_for_rounding(self) -> None:
        generator = np.random.default_rng(0)
        classes, stem = generator.integers(0, 9, (100, 100)), generator.normal(0, 0.1, (2, 4000)).astype(np.float32)
        ties, torn = classes.copy(), classes.copy()
        ties[0, :10] += 1
        torn[0, :11] += 1
        assert predictions.agree(classes, ties)
        assert not predictions.agree(classes, torn)
        assert not predictions.agree(classes, classes[1:])
        noise = generator.normal(0, 1, stem.shape).astype(np.float32) * stem.std()
        for decibels, same in ((-61, True), (-59, False)):
            assert predictions.agree({"a": stem}, {"a": stem + noise * 10 ** (decibels / 20)}) is same
        stored = predictions.from_bytes(predictions.to_bytes({"a": stem}))
        assert predictions.agree({"a": stem}, stored)
        silence = np.zeros_like(stem)
        assert predictions.agree({"a": stem, "b": silence}, {"a": stem, "b": silence + stem * 1e-6})
        assert not predictions.agree({"a": stem, "b": silence}, {"a": stem, "b": silence + stem * 1e-4})
        assert predictions.agree({"a": silence}, {"a": silence})
        assert not predictions.agree({"a": stem}, {"b": stem})
        nothing = np.full_like(stem, np.nan)
        assert predictions.agree({"a": nothing}, {"a": nothing})
        assert not predictions.agree({"a": stem}, {"a": nothing})
        assert predictions.agree("a", "a")
        assert not predictions.agree("a", "b")
        assert not predictions.agree(1, 2)


def allocating(most: int, absurd: Callable[[int], Any]) -> Trial:
    """Return a model that really asks for more memory than there is when it gets more than ``most`` signals, or a bright one."""

    def predict(signals: Sequence[Image]) -> list[int]:
        if len(signals) > most or any(signal.pixels.min() == 255 for signal in signals):
            absurd(ABSURD)
        return [int(signal.pixels.mean()) for signal in signals]

    return Trial(predict)


def of_torch(size: int) -> Any:
    return torch.empty(size, dtype=torch.uint8)


def of_numpy(size: int) -> Any:
    return np.empty(size, np.uint8)


WHITE = Image(np.full((24, 24, 3), 255, np.uint8))


class TestMemory:
    @pytest.mark.parametrize("absurd", [of_torch, of_numpy])
    def test_a_batch_that_does_not_fit_is_halved_and_later_ones_begin_there(self, absurd: Callable[[int], Any]) -> None:
        trial, limit, signals = allocating(5, absurd), Limit(16), pictures(32)
        answers = [answer for start in (0, 16) for answer in ask(trial, signals[start : start + 16], Trial.task, limit)]
        assert [predictions.from_bytes(answer.data) for answer in answers if isinstance(answer, Answer)] == [
            int(signal.pixels.mean()) for signal in signals
        ]
        assert trial.batches == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4]
        assert limit.size == 4
        assert limit.notes == ["16 signals at once did not fit into memory: the model gets at most 4 from there on"]

    def test_a_signal_that_does_not_fit_alone_is_its_own_failure(self) -> None:
        trial, limit, signals = allocating(99, of_torch), Limit(8), pictures(16)
        signals[3] = WHITE
        answers = ask(trial, signals, Trial.task, limit)
        assert [index for index, answer in enumerate(answers) if isinstance(answer, SampleError)] == [3]
        assert "allocate memory" in str(answers[3])
        assert trial.batches[-1] == 4  # the last of 16 in eights, from the fifth on
        assert (limit.size, limit.notes) == (8, [])

    def test_a_batch_refused_for_another_reason_goes_one_by_one(self) -> None:
        def predict(signals: Sequence[Image]) -> list[int]:
            if any(signal.pixels.min() == 255 for signal in signals):
                raise ValueError("white")
            return [0] * len(signals)

        trial, limit = Trial(predict), Limit(4)
        answers = ask(trial, [*pictures(3), WHITE, *pictures(2)], Trial.task, limit)
        assert [isinstance(answer, SampleError) for answer in answers] == [False, False, False, True, False, False]
        assert trial.batches == [4, 1, 1, 1, 1, 2]
        assert limit.size == 4

    def test_of_the_process_is_used_up_and_given_back(self) -> None:
        # In a process of its own, with an address space that holds the activations of a few pictures.
        program = """if True:
            import resource
            import numpy as np, torch
            from torch import nn
            from mpq_fixtures.models.answers import Answer, Limit, ask
            from mpq_fixtures.processes.devices import keep_freed_memory
            from mpq_fixtures.signals import Image
            from mpq_fixtures.tasks import find_task

            task = find_task("image_classification")
            keep_freed_memory()
            torch.set_num_threads(1)
            layers = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.Conv2d(64, 4, 1))

            class Model:
                def predict(self, signals):
                    batch = torch.stack([torch.from_numpy(one.pixels).permute(2, 0, 1) / 255 for one in signals])
                    with torch.inference_mode():
                        kept = layers[0](batch)
                        return [int(one.mean((1, 2)).argmax()) for one in layers[2](layers[1](kept))]

            pictures = [Image(np.random.default_rng(n).integers(0, 256, (512, 512, 3), np.uint8)) for n in range(32)]
            alone = [answer.data for picture in pictures for answer in ask(Model(), [picture], task)]
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 10 * 2**26, -1))
            limit = Limit(32)
            answers = ask(Model(), pictures, task, limit)
            assert all(isinstance(one, Answer) for one in answers), answers
            assert [one.data for one in answers] == alone
            print(limit.size, len(limit.notes))
        """
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        size, notes = map(int, run.stdout.split())
        assert 1 <= size < 32
        assert notes == 1

    def test_errors_of_memory_are_known_by_what_raises_them(self) -> None:
        for allocate in (of_torch, of_numpy, lambda size: [0] * size, lambda size: bytearray(size - 1)):
            with pytest.raises((RuntimeError, MemoryError)) as caught:
                allocate(ABSURD)
            assert is_out_of_memory(caught.value)
        assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
        assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
        assert not is_out_of_memory(ValueError("not enough memory"))
        assert not is_out_of_memory(RuntimeError("shapes do not match"))

    def test_measuring_stops_where_it_ends(self) -> None:
        def predict(signals: Sequence[Image]) -> list[int]:
            if len(signals) > 4:
                of_torch(ABSURD)
            return [int(signal.pixels.mean()) for signal in signals]

        choice = Trial(predict).choose(pictures(40))
        assert (choice.size, set(choice.milliseconds)) == (4, {1, 2, 4})


class TestParts:
    def test_come_in_order_whatever_fits(self) -> None:
        def double(items: Sequence[int]) -> Iterator[int]:
            if len(items) > 3:
                raise MemoryError
            return [2 * item for item in items]  # type: ignore[return-value]

        for count, size in itertools.product(range(10), (1, 4, 9)):
            assert in_what_fits(double, list(range(count)), Limit(size)) == [2 * item for item in range(count)]  # type: ignore[arg-type]

    def test_raise_what_does_not_fit_alone(self) -> None:
        with pytest.raises(RuntimeError, match="allocate memory"):
            in_what_fits(lambda items: of_torch(ABSURD), [1, 2], Limit(2))
