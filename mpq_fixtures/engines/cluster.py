"""Joins a Ray cluster, and sees that it is fit: that it answers, has the devices that were asked for, and the same versions everywhere."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import platform
import signal
import socket
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from mpq_fixtures import DISTRIBUTION
from mpq_fixtures.errors import describe_error
from mpq_fixtures.processes.devices import cores, resolve_device
from mpq_fixtures.results.provenance import PACKAGES

_PATIENCE = 3.0
"""Seconds that a cluster's head may take to answer."""
_START = 120.0
"""Seconds that a node may take to start a process."""
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"  # HTTP/2's preface and empty settings (RFC 9113, section 3.4)


def join(address: str) -> Any:
    """Return Ray, connected to a cluster; raises `pytest.UsageError` where that cannot be."""
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise pytest.UsageError(f"--mpq-engine ray: Ray is not installed here: pip install '{DISTRIBUTION}[ray]'") from None
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    settings: dict[str, Any] = {"num_cpus": cores(), "include_dashboard": False} if address == "local" else {}
    _knock(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, **settings, **quiet)
    except (Exception, SystemExit) as error:
        where = "no cluster could be started here" if address == "local" else f"there is no cluster that could be joined at {address}"
        raise pytest.UsageError(f"--mpq-ray-address: {where}: {describe_error(error)}") from None
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, before)  # Ray would leave at once, and nothing would be written
    return ray


def _knock(address: str) -> None:
    """Raise where no cluster can answer at an address: Ray itself would try for two minutes."""
    if address in ("local", "auto"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdecimal():
        raise pytest.UsageError(
            f"--mpq-ray-address: {address!r} is not HOST:PORT, auto or local; pytest runs on a node of the cluster, so a Ray Client "
            "(ray://) is not needed"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE) as connection:
            connection.settimeout(_PATIENCE)
            connection.sendall(_HELLO)
            answer = b"" if os.environ.get("RAY_USE_TLS", "0") == "1" else connection.recv(4)
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise pytest.UsageError(f"--mpq-ray-address: there is no cluster at {address}: {reason}") from None
    if os.environ.get("RAY_USE_TLS", "0") != "1" and answer[3:] != b"\4":  # settings, with which gRPC begins
        raise pytest.UsageError(
            f"--mpq-ray-address: what answers at {address} is not the head of a Ray cluster, whose port is 6379 as a rule"
        )


def fitting_device(wanted: str, ray: Any) -> str:
    """Return the torch device that the cluster's workers have: the first of those that Ray grants, or the processor."""
    gpus = ray.cluster_resources().get("GPU", 0)
    if wanted.startswith("cuda:"):
        raise pytest.UsageError(f"--mpq-device {wanted}: Ray grants GPUs, one a worker: give cuda or auto")
    if wanted == "cuda" and not gpus:
        raise pytest.UsageError("--mpq-device cuda: the Ray cluster has no GPU; use auto or cpu")
    if gpus and wanted in ("auto", "cuda"):
        return "cuda:0"
    return "mps" if wanted != "cpu" and platform.system() == "Darwin" and resolve_device(wanted, 0) == "mps" else "cpu"


def compare_versions(ray: Any) -> None:
    """Raise where a node has other versions of what decides results."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def versions(packages: Sequence[str]) -> dict[str, str]:  # by value, since a node may lack this package
        import platform as machine
        from importlib import metadata

        found = {"Python": machine.python_version()}
        for package in packages:
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return found

    here, asked = versions(PACKAGES), ray.remote(num_cpus=0, max_retries=1)(versions)
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    answers = {
        asked.options(scheduling_strategy=NodeAffinitySchedulingStrategy(one, soft=False)).remote(PACKAGES): node
        for one, node in nodes.items()
    }
    for answer, node in answers.items():
        try:
            there: dict[str, str] = ray.get(answer, timeout=_START)
        except ray.exceptions.RayError as error:
            if node["NodeID"] in {one["NodeID"] for one in ray.nodes() if one["Alive"]}:
                raise pytest.UsageError(f"--mpq-engine ray: node {node['NodeManagerHostname']} fails: {describe_error(error)}") from None
            continue  # lost meanwhile
        if differing := [package for package in ("Python", *PACKAGES) if here.get(package) != there.get(package)]:
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            raise pytest.UsageError(
                f"--mpq-engine ray: node {name} has other versions: here {_listed(here, differing)}; there {_listed(there, differing)}; "
                "install the same on all nodes"
            )


def _listed(versions: dict[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {versions.get(name, 'not installed')}" for name in names)
