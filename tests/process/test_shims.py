"""A program under `ftsim run` finds in its interpreter a redirected SDK, `training.*`, its own start-up files."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from emulator.state.server_record import ServerRecord
from ftsim.process.environment import program_environment

RECORD = ServerRecord("http://127.0.0.1:4321", 42, "fw_test", "local")


def python(folder: Path, program: str, **variables: str) -> Any:
    """Run `program` in `folder` as under `ftsim run`; its last line of output is JSON."""
    environment = program_environment(os.environ | variables, RECORD, {})
    path = folder / "program.py"
    path.write_text(textwrap.dedent(program))
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_sdks_default_address_is_the_emulator(tmp_path: Path) -> None:
    seen = python(
        tmp_path,
        """
        import inspect, json
        from fireworks import Fireworks
        from fireworks.training.sdk import DeploymentManager, FireworksClient, TrainerJobManager
        from fireworks.training.sdk import client, managed
        deployments = DeploymentManager(api_key="fw_test")
        public = FireworksClient(api_key="fw_test", base_url="https://api.example.com")
        print(json.dumps([
            TrainerJobManager(api_key="fw_test").base_url, FireworksClient(api_key="fw_test").base_url,
            deployments.base_url, deployments.inference_url, deployments.hotload_api_url,
            client.DEFAULT_FIREWORKS_API_URL, str(Fireworks().base_url).rstrip("/"),
            inspect.signature(managed._create_managed_tinker_client).parameters["base_url"].default,
            public.base_url,
        ]))
        """,
    )
    assert seen == [RECORD.url] * 8 + ["https://api.example.com"]


def test_without_the_run_the_sdk_keeps_its_public_address() -> None:
    program = "from fireworks.training.sdk import TrainerJobManager as T; print(T(api_key='fw_x').base_url)"
    seen = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert seen.strip() == "https://api.fireworks.ai"


def test_training_is_ftsims_own_module_objects(tmp_path: Path) -> None:
    seen = python(
        tmp_path,
        """
        import importlib, json, pickle
        import training.utils.config
        import ftsim.training.recipes.sft_loop as real
        from training.recipes import sft_loop
        from training.recipes.sft_loop import Config
        print(json.dumps([
            training is importlib.import_module("ftsim.training"), sft_loop is real, Config is real.Config,
            training.utils.config is importlib.import_module("ftsim.training.utils.config"),
            importlib.import_module("training.recipes").sft_loop is real,
            real.__spec__.name == real.__name__ == Config.__module__ == "ftsim.training.recipes.sft_loop",
            pickle.loads(pickle.dumps(Config)) is Config,
        ]))
        """,
    )
    assert seen == [True] * 7


def test_a_lent_module_can_be_run_by_name(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.promote_checkpoint", "--help"]
    environment = program_environment(os.environ, RECORD, {})
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--output-model-id" in done.stdout


FIND = "import json, training; print(json.dumps([training.__name__, list(training.__path__)]))"


def test_a_cookbook_beside_the_script_is_preferred(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").touch()
    assert python(tmp_path, FIND) == ["training", [str(tmp_path / "training")]]


def test_a_cookbook_on_the_path_is_preferred_even_without_init_files(tmp_path: Path) -> None:
    cookbook = tmp_path / "cookbook"
    (cookbook / "training" / "recipes").mkdir(parents=True)
    (cookbook / "training" / "recipes" / "own.py").write_text("VALUE = 5")
    program = "import json; from training.recipes.own import VALUE; print(json.dumps(VALUE))"
    assert python(tmp_path, program, PYTHONPATH=str(cookbook)) == 5


def test_a_folder_of_outputs_called_training_is_no_cookbook(tmp_path: Path) -> None:
    (tmp_path / "training" / "run-1").mkdir(parents=True)
    assert python(tmp_path, FIND)[0] == "ftsim.training"


def test_a_module_that_is_not_there_is_missing_as_usual(tmp_path: Path) -> None:
    program = """
        import json
        try:
            import training.no_such_module
        except ModuleNotFoundError as error:
            print(json.dumps(error.name))
    """
    assert python(tmp_path, program) == "training.no_such_module"


def test_the_users_own_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['MINE'] = __file__")
    program = """
        import json, os, sys, sitecustomize
        print(json.dumps([os.environ["MINE"], sitecustomize.__file__]))
    """
    own = str(tmp_path / "sitecustomize.py")
    assert python(tmp_path, program, PYTHONPATH=str(tmp_path)) == [own, own]


def test_child_processes_are_redirected_too(tmp_path: Path) -> None:
    program = """
        import multiprocessing, json

        def address():
            from fireworks.training.sdk import TrainerJobManager
            return TrainerJobManager(api_key="fw_test").base_url

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(json.dumps(pool.apply(address)))
    """
    assert python(tmp_path, program) == RECORD.url


def test_starting_python_imports_nothing_heavy(tmp_path: Path) -> None:
    program = "import json, sys; print(json.dumps(sorted({'fireworks', 'ftsim', 'torch', 'httpx'} & set(sys.modules))))"
    assert python(tmp_path, program) == []
