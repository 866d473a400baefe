"""What a worker may use of the machine."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
import time

import pytest

from mpq_fixtures.processes.devices import clock_of, machine_kind

FAULTS = """
import ctypes
import resource
import numpy as np
from mpq_fixtures.processes.devices import freed_memory_kept, keep_freed_memory, large_blocks_given_back

if hasattr(ctypes.CDLL(None), "prctl"):
    ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: huge pages, where there are some left, are found in one go


def hold(count, beside):
    held = [np.ones(count), *(np.empty(2**26) for _ in range(beside))]  # what is empty takes addresses and no memory
    while held:
        held.pop(0)  # the last to come is the last to go, as that of a network: then all of it is one free block


def faults(count=2**22, beside=0, warm=True):  # 32 MB, as a layer's activations
    if warm:
        hold(count, beside)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        hold(count, beside)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


"""


def page_faults(program: str, **environment: str) -> list[int]:
    """Return how often the system had to find memory while arrays came and went, as a program prints it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    run = subprocess.run([sys.executable, "-c", FAULTS + program], env=clean | environment, capture_output=True, text=True, check=True)
    return [int(number) for number in run.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
class TestFreedMemory:
    def test_is_kept(self) -> None:
        assert page_faults("keep_freed_memory(); print(faults())")[0] * 10 < page_faults("print(faults())")[0]

    def test_is_kept_where_a_batch_takes_more_than_a_gigabyte(self) -> None:
        assert page_faults("keep_freed_memory(); print(faults(beside=3))")[0] * 10 < page_faults("print(faults(beside=3))")[0]

    def test_is_given_back_but_for_what_a_model_computes_with(self) -> None:
        before, within, after = page_faults(
            "keep_freed_memory(False); print(faults())\nwith freed_memory_kept(): print(faults())\nprint(faults(2**24))"
        )
        assert within * 10 < before
        assert within * 10 < after

    def test_is_given_back_while_tables_are_written_but_for_what_a_model_left(self) -> None:
        written, before, after = page_faults(
            "with freed_memory_kept():\n    with large_blocks_given_back(): print(faults())\n    print(faults(beside=3))\n"
            "    with large_blocks_given_back(): hold(2**16, 0)\n    print(faults(beside=3, warm=False))"
        )
        assert before * 10 < written
        assert after * 10 < written

    def test_is_left_to_whoever_set_the_allocator_up(self) -> None:
        (kept,), (own,) = (
            page_faults(program, MALLOC_TRIM_THRESHOLD_="131072") for program in ("keep_freed_memory(); print(faults())", "print(faults())")
        )
        assert kept * 2 > own


class TestMachineKind:
    def test_names_processor_instructions_and_threads_without_torch(self) -> None:
        program = (
            "import sys; from mpq_fixtures.processes.devices import machine_kind; "
            "print(machine_kind('cpu', 3)); assert 'torch' not in sys.modules"
        )
        clean = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        for more, threads in (({}, 3), ({"OMP_NUM_THREADS": "1"}, 1)):
            run = subprocess.run([sys.executable, "-c", program], env=clean | more, capture_output=True, text=True, check=True)
            kind = ast.literal_eval(run.stdout)
            assert (kind["device"], kind["machine"], kind["threads"]) == ("cpu", platform.machine(), threads)
            assert kind["processor"]

    @pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux", reason="other names for the instructions")
    def test_knows_the_instructions_that_torch_finds(self) -> None:
        import torch

        instructions = str(machine_kind("cpu", 1)["instructions"]).split()
        capability = torch.backends.cpu.get_cpu_capability()
        assert ("avx2" in instructions) is (capability in ("AVX2", "AVX512"))
        assert ("avx512f" in instructions) >= (capability == "AVX512")

    def test_one_thread_is_timed_by_the_processor_and_several_by_the_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert clock_of("cpu", 1) is time.process_time
        assert clock_of("cpu", 2) is clock_of("mps", 1) is time.perf_counter
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert clock_of("cpu", 2) is time.process_time
