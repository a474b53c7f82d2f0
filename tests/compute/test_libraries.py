"""Large libraries as a process of our own imports them."""

import subprocess
import sys


def test_torch_comes_without_what_it_knows_of_tensors_without_values_until_libraries_need_that() -> None:
    program = (
        "import sys, threading\n"
        "from ftsim.compute import libraries\n"
        "libraries.import_torch()\n"
        "early = 'torch._meta_registrations' in sys.modules\n"
        "import torch\n"
        "layer = torch.nn.Linear(3, 2)\n"
        "layer(torch.ones(1, 3)).sum().backward()\n"
        "libraries.load()\n"
        "import torch._meta_registrations as known\n"
        "assert known.meta_mm and torch._meta_registrations is known\n"
        "shape = torch.linalg.lu_factor(torch.empty(3, 3, device='meta'))[0].shape\n"
        "sys.exit(None if (early, shape) == (False, (3, 3)) else f'{early} {shape}')"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_processes_of_our_own_begin_with_the_same_random_state() -> None:
    program = (
        "from ftsim.compute import libraries\n"
        "libraries.import_torch()\n"
        "import hashlib, torch\n"
        "print(hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest())\n"
    )
    run = [sys.executable, "-W", "ignore", "-c", program]
    first, second = (subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == second
    assert len(first.strip()) == 64
