"""A Ray cluster of nodes on loopback, in a process of its own: prints its address, then does what each line of its input says."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mpq-ray-", ignore_cleanup_errors=True) as folder:  # short: sockets lie in it
        os.environ["RAY_TMPDIR"] = folder  # Ray notes the newest cluster in it, where the user's own may be noted otherwise
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        nodes: list[Any] = []
        try:
            sys.stdout.write(f"{cluster.address}\n")
            sys.stdout.flush()
            for line in sys.stdin:
                command, *environment = line.split()
                if command == "add":
                    nodes.append(cluster.add_node(num_cpus=1, env_vars=dict(entry.split("=") for entry in environment)))
                else:
                    cluster.remove_node(nodes.pop(), allow_graceful=False)
                sys.stdout.write(f"{command}\n")
                sys.stdout.flush()
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
