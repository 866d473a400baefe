"""What a worker may use of the machine."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
import time

import pytest

from mpq_fixtures.devices import clock_of, machine_kind

FAULTS = """
import ctypes
import resource
import numpy as np
from mpq_fixtures.devices import keep_freed_memory

if hasattr(ctypes.CDLL(None), "prctl"):
    ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: huge pages, where there are some left, are found in one go
if {kept}:
    keep_freed_memory()
np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**22)  # 32 MB, as a layer's activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(kept: bool, **environment: str) -> int:
    """Return how often the system had to find memory while arrays came and went."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS.format(kept=kept)]
    run = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
class TestFreedMemory:
    def test_is_kept(self) -> None:
        assert page_faults(kept=True) * 10 < page_faults(kept=False)

    def test_is_left_to_whoever_set_the_allocator_up(self) -> None:
        assert page_faults(kept=True, MALLOC_TRIM_THRESHOLD_="131072") * 2 > page_faults(kept=False, MALLOC_TRIM_THRESHOLD_="131072")


class TestMachineKind:
    def test_names_processor_instructions_and_threads_without_torch(self) -> None:
        program = (
            "import sys; from mpq_fixtures.devices import machine_kind; print(machine_kind('cpu', 3)); assert 'torch' not in sys.modules"
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
