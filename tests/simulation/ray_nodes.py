"""Several Ray nodes on this machine, for tests that end some of them.

Run as `python ray_nodes.py FOLDER NODES [CPUS]`; prints the cluster's address, then the process id of each node's
raylet, the head's first; on a second line their ids in Ray. The nodes end when its standard input does. Each has one
CPU, or as many as are asked for, and this process's environment.
"""

import sys

import ray._private.utils
import ray.cluster_utils
from ray._private.ray_constants import PROCESS_TYPE_RAYLET

if __name__ == "__main__":
    ray._private.utils.write_ray_address = lambda *address: None  # it would lead every other user of Ray here to us
    folder, count = sys.argv[1], int(sys.argv[2])
    cpus = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    options = {"num_cpus": cpus, "temp_dir": folder, "include_dashboard": False}
    nodes = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=options)
    others = [nodes.add_node(num_cpus=cpus, temp_dir=folder) for _ in range(count - 1)]
    raylets = [node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid for node in (nodes.head_node, *others)]
    print(nodes.address, *raylets, flush=True)
    print(nodes.head_node.node_id, *[node.node_id for node in others], flush=True)
    sys.stdin.read()
    nodes.shutdown()
