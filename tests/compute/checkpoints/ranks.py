"""Writes a training state as two processes of a group do; started as a program of its own, once per rank.

`python -m tests.compute.checkpoints.ranks RANK MEETING STATE FOLDER`: STATE is a safetensors file, MEETING a file that
the ranks meet at, FOLDER an empty folder. Weights are split over the ranks, moments and the rest is alike on both.
"""

import sys

import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor


def write(rank: int, meeting: str, state: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    tensors = load_file(state)
    split = {
        name: distribute_tensor(value, mesh, [Shard(0)]) if name.startswith("model.") else value
        for name, value in tensors.items()
    }
    state_dict_saver.save(dict(split), checkpoint_id=folder)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    write(int(sys.argv[1]), *sys.argv[2:])
