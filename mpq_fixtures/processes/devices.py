"""Devices and cores: what a worker may use."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER, _MOST, _LARGE = -1, 2**30, 2**17  # bytes from which on free memory is given back, or a block mapped alone, as glibc does from 2**17
_VECTORS = ("avx", "amx_", "fma", "asimd", "sve", "bf16", "i8mm")


def resolve_device(name: str, worker: int) -> str:
    """Return the torch device that ``name`` means for the worker of this number; workers take several GPUs in turn."""
    if name not in ("auto", "cuda"):
        return name
    # A CPU build cannot have a GPU, and torch takes seconds to import only to say so.
    if version("torch").endswith("+cpu") and platform.system() != "Darwin":
        return "cpu"
    import torch

    if count := torch.cuda.device_count():
        return f"cuda:{worker % count}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def cores() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for_worker(workers: int) -> int:
    """Return a worker's share of the processors, at least 1."""
    return max(1, cores() // max(1, workers))


def machine_kind(device: str, threads: int) -> dict[str, str | int]:
    """Return what decides how fast a model is in batches of some size: the processor and its instructions, or the GPU; the threads.

    ``device`` is a torch device and ``threads`` what a model on the CPU gets unless OMP_NUM_THREADS says.
    """
    parts: dict[str, str | int] = {"device": device.partition(":")[0], "machine": platform.machine()}
    if device.startswith("cuda"):
        import torch

        return parts | {"processor": torch.cuda.get_device_name(device), "memory": torch.cuda.get_device_properties(device).total_memory}
    processor, instructions = _processor()
    return parts | {"processor": processor, "instructions": instructions, "threads": _threads_of_torch(threads)}


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """Return what tells how long a model took, in seconds: the processor's time where one thread computes, which other processes that
    keep the machine busy do not disturb; the time of day where several do, or a GPU."""
    return time.process_time if device == "cpu" and _threads_of_torch(threads) == 1 else time.perf_counter


def _threads_of_torch(threads: int) -> int:
    own = os.environ.get("OMP_NUM_THREADS", "")
    return int(own) if own.isdigit() else threads


def _processor() -> tuple[str, str]:
    """Return a processor's name and which of the instructions for vectors and matrices it has, as far as the system tells."""
    described = Path("/proc/cpuinfo")
    if not described.exists():
        return platform.processor(), ""
    lines = (line.partition(":") for line in described.read_text(encoding="utf-8", errors="replace").splitlines())
    said = {key.strip(): value.strip() for key, _, value in lines}
    flags = said.get("flags", said.get("Features", "")).split()
    vectors = sorted(flag for flag in flags if flag.startswith(_VECTORS))
    return said.get("model name", platform.processor()), " ".join(vectors)


def set_up_process() -> None:
    """Let threads, products and memory of a process serve many threads at once; before torch and Arrow are imported, and once."""
    let_waiting_threads_sleep()
    keep_freed_memory(False)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own pool would keep as much again for itself
    keep_products_to_their_thread()


def let_waiting_threads_sleep() -> None:
    """Keep torch's threads from spinning while they wait for one another; it takes effect only before torch is imported.

    They share the processors with the threads that encode and decode, and with other workers: what spins there keeps from work the very
    thread that it waits for. On two busy cores a batch of pictures took five times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_products_to_their_thread() -> None:
    """Let the BLAS behind numpy compute in the thread that asks; torch's products are torch's own.

    Codecs and metrics run in several threads already. Those of BLAS spin while they wait for one another, and two callers at once may
    keep from the processors the very threads that they wait for: under a real-time policy for ever.
    """
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


def keep_freed_memory(whether: bool = True) -> None:
    """Let glibc keep all that is freed for what comes next, or give back what is large, as it does of its own.

    Nothing is changed where glibc does not allocate, or a variable of its own says what is kept.
    """
    _allocate(_MOST if whether else _LARGE, _NEVER if whether else _MOST)


def _allocate(alone: int, trimmed: int) -> None:
    """Have glibc map blocks of so many bytes alone, and give back what is free at the heap's end from so many bytes on."""
    if (allocator := _allocator()) is not None:
        allocator.mallopt(_M_TRIM_THRESHOLD, trimmed)
        allocator.mallopt(_M_MMAP_THRESHOLD, alone)


@cache
def _allocator() -> ctypes.PyDLL | None:
    """Return the library with glibc's allocator; None where another allocates, or a variable says how it is to."""
    own = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
    return ctypes.PyDLL(None) if platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in own) else None


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Have the process keep what is freed while signals go through codecs, metrics and a model; not to be nested.

    A network's activations take megabytes, and glibc by default maps them for each layer and gives them back, page by page: with a small
    convolutional network half of the processor's time went there. Elsewhere that would leave a heap of pieces: tables of many samples are
    large too, but come and go once (`large_blocks_given_back`).
    """
    keep_freed_memory()
    try:
        yield
    finally:
        keep_freed_memory(False)


@contextmanager
def large_blocks_given_back() -> Iterator[None]:
    """Within `freed_memory_kept`, have the process give back what is large meanwhile; what a network left is kept all the same."""
    _allocate(_LARGE, _NEVER)
    try:
        yield
    finally:
        keep_freed_memory()


def set_up_torch(device: str, threads: int) -> None:
    """Give torch its share of the processors, unless OMP_NUM_THREADS says, and let a GPU compute float32 in full and always alike."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.backends.cudnn.allow_tf32 = False  # convolutions would round their factors to 10 bits
        torch.backends.cudnn.deterministic = True


def autocast(device: str, precision: str) -> AbstractContextManager[None]:
    """Let torch compute matrix products and convolutions in ``precision``, and what needs more range or digits in float32.

    In ``float32`` everything is computed as it stands.
    """
    import torch

    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, precision), enabled=precision != "float32")
