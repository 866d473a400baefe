"""Codecs in a process of their own: what their process may do, and what is said when it does something else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mpq_fixtures.isolation.client import CodecProcess, ProcessError, RemoteError

ROOT = Path(__file__).parent.parent
SERVED = '''
"""A codec that does one thing well and many badly."""

import ctypes
import os
import subprocess
import sys
import time


class Served:
    def __init__(self, start="well"):
        if start == "exit":
            print("no licence for this machine")
            sys.exit(3)
        if start == "raise":
            raise ImportError("no module named colour")
        self.calls = 0

    def double(self, payload):
        self.calls += 1
        return 2 * payload, {"calls": self.calls, "pid": os.getpid()}

    def reverse(self, payload, twice=False):
        return payload if twice else payload[::-1]

    def nothing(self, payload):
        return None

    def frozen(self, payload):
        payload[0] = 1

    def die(self, payload):
        sys.stderr.write("stack smashed")
        sys.stderr.flush()
        ctypes.string_at(0)

    def leave(self, payload):
        sys.exit(7)

    def hang(self, payload):
        time.sleep(3600)

    def hang_and_hold_on(self, payload):
        """As a library that never gives up the interpreter."""
        ctypes.PyDLL(None).sleep(3600)

    def chat(self, payload):
        print("a word on the standard output")
        os.write(1, b"and one past Python" * 1000)
        subprocess.run(["echo", "and one of another program"])
        return payload

    def litter(self, payload):
        os.write(int(sys.argv[1]), b"progress: 10 % " * 10)
        return payload

    def fail(self, payload, text):
        raise KeyError(text)

    def bring_up_a_child(self, payload):
        return str(subprocess.Popen(["sleep", "3600"]).pid).encode()

    def variable(self, payload, name):
        return os.environ.get(name, "not set").encode()
'''


@pytest.fixture
def served(tmp_path: Path) -> str:
    (tmp_path / "served.py").write_text(SERVED)
    return f"{tmp_path / 'served.py'}:Served"


@pytest.fixture
def process(served: str) -> Iterator[CodecProcess]:
    process = CodecProcess(served, seconds=20)
    yield process
    process.close()


def works(process: CodecProcess) -> bool:
    array, _ = process.call("double", np.arange(6).reshape(2, 3))
    return bool((array == [[0, 2, 4], [6, 8, 10]]).all())


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid: int, seconds: float = 5) -> bool:
    limit = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < limit:
        time.sleep(0.02)
    return not alive(pid)


class TestACall:
    def test_carries_arrays_bytes_arguments_and_fields(self, process: CodecProcess) -> None:
        assert works(process)
        assert process.call("reverse", b"abc") == (b"cba", {})
        assert process.call("reverse", b"abc", twice=True) == (b"abc", {})
        assert process.call("nothing") == (b"", {})
        assert process.call("double", b"ab")[1]["calls"] == 2  # the process stays, and so does what it has loaded

    @pytest.mark.parametrize("shape", [(0,), (), (1, 1, 3), (700, 900, 3)])
    def test_keeps_the_shape_and_the_kind_of_arrays(self, process: CodecProcess, shape: tuple[int, ...]) -> None:
        for kind in ("<f4", "|u1", ">i2"):
            sent = np.random.default_rng(0).integers(0, 100, shape).astype(kind)
            back, _ = process.call("reverse", sent, twice=True)
            assert back.dtype == sent.dtype
            assert back.shape == shape
            assert (back == sent).all()

    def test_sends_what_lies_scattered_in_memory(self, process: CodecProcess) -> None:
        picture = np.arange(60).reshape(4, 5, 3)
        assert (process.call("double", picture[::-1].transpose(1, 0, 2))[0] == 2 * picture[::-1].transpose(1, 0, 2)).all()

    def test_gives_arrays_that_cannot_be_written_to(self, process: CodecProcess) -> None:
        with pytest.raises(RemoteError, match="read-only"):
            process.call("frozen", np.zeros(3))

    def test_may_come_from_two_threads(self, process: CodecProcess) -> None:
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda number: process.call("double", np.full(100_000, number)), range(40)))
        assert [int(array[-1]) for array, _ in answers] == [2 * number for number in range(40)]
        assert {fields["pid"] for _, fields in answers} == {answers[0][1]["pid"]}

    def test_does_not_mix_with_what_is_printed(self, process: CodecProcess) -> None:
        assert process.call("chat", b"payload")[0] == b"payload"
        assert works(process)

    def test_sees_the_variables_that_it_should(self, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_CONSTRAINT", "constraints.txt")
        process = CodecProcess(served, environment={"PIP_CONSTRAINT": None, "OMP_NUM_THREADS": "1"})
        assert process.call("variable", name="PIP_CONSTRAINT")[0] == b"not set"
        assert process.call("variable", name="OMP_NUM_THREADS")[0] == b"1"
        process.close()


class TestAProcessThatMisbehaves:
    @pytest.mark.parametrize(
        ("method", "message"),
        [
            ("die", "ended with SIGSEGV; its last words: stack smashed"),
            ("leave", "ended with exit code 7"),
            ("litter", "wrote to the connection that its answers come through"),
        ],
    )
    def test_is_named_and_started_again(self, process: CodecProcess, method: str, message: str) -> None:
        before = process.call("double", b"")[1]["pid"]
        with pytest.raises(ProcessError, match=message):
            process.call(method, b"payload")
        assert not alive(before)
        assert works(process)

    @pytest.mark.parametrize("method", ["hang", "hang_and_hold_on"])
    def test_is_ended_when_it_hangs(self, served: str, method: str) -> None:
        process = CodecProcess(served, seconds=1)
        before = process.call("double", b"")[1]["pid"]
        started = time.monotonic()
        with pytest.raises(ProcessError, match="took longer than 1 s and was ended"):
            process.call(method)
        assert time.monotonic() - started < 5
        assert not alive(before)
        assert works(process)
        process.close()

    def test_may_raise_and_goes_on(self, process: CodecProcess) -> None:
        before = process.call("double", b"")[1]["pid"]
        with pytest.raises(RemoteError, match=r"KeyError: 'a size of 0' \(served.py, line \d+\)") as caught:
            process.call("fail", text="a size of 0")
        assert caught.value.kind == "KeyError"
        with pytest.raises(RemoteError, match=r"AttributeError.*'encore'"):
            process.call("encore")
        assert process.call("double", b"")[1]["pid"] == before

    @pytest.mark.parametrize(
        ("start", "message"), [("exit", r"SystemExit: 3 \(served.py, line"), ("raise", "ImportError: no module named colour")]
    )
    def test_says_why_it_does_not_start(self, served: str, start: str, message: str) -> None:
        process = CodecProcess(served, {"start": start})
        for _ in range(2):
            with pytest.raises(ProcessError, match=message):
                process.call("double", b"")

    def test_may_have_no_interpreter_or_code(self, tmp_path: Path) -> None:
        with pytest.raises(ProcessError, match=r"cannot be started: .*no-such-python"):
            CodecProcess("json:loads", python=tmp_path / "no-such-python").call("double")
        with pytest.raises(ProcessError, match="no_such_module"):
            CodecProcess("no_such_module:Codec").call("double")

    def test_may_be_killed_between_two_calls(self, process: CodecProcess) -> None:
        pid = process.call("double", b"")[1]["pid"]
        os.kill(pid, signal.SIGKILL)
        assert ends(pid)
        assert works(process)


PARENT = """
import sys, time
from mpq_fixtures.isolation.client import CodecProcess
process = CodecProcess(sys.argv[1])
child = int(process.call("bring_up_a_child")[0])
print(process.call("double", b"")[1]["pid"], child, flush=True)
if sys.argv[2] == "end":
    sys.exit()
if sys.argv[2] == "wait":
    time.sleep(3600)
process.call("hang")
"""


class TestTheEndOfTheParent:
    def start(self, served: str, *arguments: str) -> tuple[subprocess.Popen[str], list[int]]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, served, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.DEVNULL,
        )
        assert parent.stdout is not None
        return parent, [int(pid) for pid in parent.stdout.readline().split()]

    def test_is_that_of_its_process(self, served: str) -> None:
        parent, (worker, child) = self.start(served, "end")
        assert parent.wait(20) == 0
        assert ends(worker)
        assert ends(child)

    @pytest.mark.parametrize("amid", ["hang", "wait"])
    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    def test_amid_a_call_or_between_two_leaves_nothing_behind(self, served: str, how: signal.Signals, amid: str) -> None:
        parent, (worker, child) = self.start(served, amid)
        time.sleep(0.3)  # until it hangs
        assert alive(worker)
        assert alive(child)
        parent.send_signal(how)
        parent.wait(20)
        assert ends(worker)
        assert ends(child)
