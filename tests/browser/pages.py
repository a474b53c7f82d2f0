"""The console in a browser, during a run that crashes and goes on: `tox -e console`.

Each page is opened, judged by axe-core, and used with the keyboard; nothing is asked of another host and nothing is
said on the browser's console. FTSIM_PICTURES names a folder for the pictures that the README shows.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import ftsim
from emulator.core.clock import SECOND
from emulator.platform.deployments.spec import DeploymentSpec
from emulator.platform.jobs.spec import JobSpec
from emulator.platform.trainers.curves import Point

ROOT = Path(__file__).parents[2]
AXE = (Path(__file__).parent / "axe-core-4.14.1.min.js").read_text("utf-8")
BASE = "accounts/fireworks/models/qwen3-8b"
SHAPE = "accounts/fireworks/deploymentShapes/ds-qwen3-8b"
PATIENCE_S = 240.0
SIZE: Any = {"width": 1280, "height": 860}


@dataclass
class Stage:
    """An emulator with real models, the run on it, and a browser that was let in; `said` is what must not be said."""

    emu: Any
    browser: Browser
    job: str
    pictures: Path
    said: list[str] = field(default_factory=list)

    def open(self, path: str = "runs", *, scheme: Any = "light", scripts: bool = True) -> Page:
        """A page in a browser of its own, let in by a link of its own."""
        context = self.browser.new_context(viewport=SIZE, color_scheme=scheme, java_script_enabled=scripts)
        page = context.new_page()
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("request", lambda asked: None if asked.url.startswith(self.emu.url) else self.said.append(asked.url))
        page.goto(self.emu.console_url())
        page.goto(f"{self.emu.url}/_ftsim/ui/{path}")
        return page

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.said.append(f"{kind}: {text}")

    def picture(self, path: str, name: str, *, scheme: Any = "light", height: int = 720, click: str = "") -> None:
        """Keep what a page shows."""
        page = self.open(path, scheme=scheme)
        page.set_viewport_size({"width": 1280, "height": height})
        if click:
            page.locator(click).first.click()
        page.wait_for_timeout(1000)
        file = self.pictures / f"{name}.png"
        page.screenshot(path=file, caret="initial")  # to hide it, a style would be put into the page
        Image.open(file).convert("RGB").quantize(96).save(file, optimize=True)
        page.context.close()

    def judge(self, page: Page) -> None:
        """Raises AssertionError for what axe-core finds serious."""
        page.evaluate(AXE)
        found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
        serious = [
            f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes']][:3]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], page.url


def wait_for(wanted: Callable[[], bool], what: str) -> None:
    """Raises AssertionError when it does not come."""
    until = time.monotonic() + PATIENCE_S
    while not wanted():
        assert time.monotonic() < until, f"{what} did not come within {PATIENCE_S:g} s"
        time.sleep(0.1)


def chromium() -> str:
    """The browser of the system; the environment fails with a sentence where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.exit("the console is tested in Chromium, and none is installed: apt-get install chromium", 1)
    return found


def train(state: Path, folder: Path) -> "subprocess.Popen[bytes]":
    """`ftsim train sft` as a user runs it, on the emulator of the state folder."""
    command = [sys.executable, "-m", "ftsim", "train", "sft", "--state-dir", str(state)]
    settings = [
        f"log_path={folder}",
        "learning_rate=1e-3",
        "batch_size=4",
        "max_examples=160",
        "epochs=1",
        "weight_sync.dcp_save_interval=10",
    ]  # one line a step, a save every ten
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*command, *settings], env=environment, stdout=subprocess.DEVNULL, cwd=folder.parent)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A run that was killed behind its second save and went on to the end, looked at while it trains."""
    root = tmp_path_factory.mktemp("console")
    with ftsim.Emulator(state_dir=root / "state") as emu, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        first = train(root / "state", root / "run")
        try:
            wait_for(lambda: any(one.steps[-1] >= 23 for one in emu.world.curves), "the 23rd step")
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
        pictures = Path(os.environ.get("FTSIM_PICTURES") or root)
        made = Stage(emu, browser, next(iter(emu.world.jobs)).name, pictures)
        second = train(root / "state", root / "run")
        try:
            yield made
        finally:
            second.kill()
            second.wait()
            browser.close()
    assert made.said == []


@pytest.fixture(scope="module")
def finished(stage: Stage) -> Stage:
    """The same when the run is over, its last row was hot-loaded onto a deployment, and one load was refused."""
    rows = stage.emu.world.checkpoints
    wait_for(lambda: any(row.kind.value.endswith("INFERENCE_LORA") for row in rows.of(stage.job)), "the last save")
    wait_for(lambda: len(stage.emu.world.models) > 0, "the promotion")
    spec = DeploymentSpec(BASE, enable_hot_load=True, hot_load_trainer_job=stage.job, deployment_shape=SHAPE)
    stage.emu.platform.deployments.create("local", spec, "policy")
    last = [row for row in rows.of(stage.job) if row.kind.value.endswith("INFERENCE_LORA")][-1]
    for identity in (last.id, "never-saved"):
        stage.emu.platform.hotload.start("local", "policy", BASE, identity, None)
    return stage


def test_a_run_is_seen_while_it_trains(stage: Stage) -> None:
    page = stage.open(f"run/{stage.job}")
    page.wait_for_selector("#curves canvas")

    def step() -> int:
        page.wait_for_timeout(200)
        return int(page.inner_text("#live .num").replace(",", ""))

    seen = step()
    wait_for(lambda: step() > seen, "another step, without a reload")
    wait_for(lambda: step() > 0 and "went on from step" in page.inner_text("#live"), "the second session in the tree")
    wait_for(lambda: step() >= 34, "the last third")
    stage.picture(f"run/{stage.job}", "console-run", height=1080)
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_fit_for_everybody(finished: Stage, scheme: str) -> None:
    model = next(iter(finished.emu.world.models)).name
    asked = finished.emu.journal.of("promote")[-1].began
    page = finished.open(scheme=scheme)
    for path, said in (
        ("runs", "sft"),
        (f"run/{finished.job}", "cut off"),
        ("requests", "optim_step"),
        (f"requests/{asked}", "Copy as test"),
        ("deployments", "policy"),
        ("deployment/accounts/local/deployments/policy", "never-saved"),
        ("models", "catalogue"),
        (f"model/{model}", "Promoted from"),
        (f"files/{model}", "adapter_config.json"),
        (f"chat/{model}", "What you say"),
        ("failures?words=promote", "ftsim reproduce"),
        ("clock", "What time brings"),
        ("state", "Save what there is"),
    ):
        page.goto(f"{finished.emu.url}/_ftsim/ui/{path}")
        assert said in page.content(), path
        finished.judge(page)
    page.context.close()


def test_a_reward_that_the_program_tells_is_drawn(finished: Stage) -> None:
    page = finished.open(f"run/{finished.job}")
    assert page.locator("figure[data-key='told/reward']").count() == 0
    points = [Point("reward", step, 1 - 1 / (1 + step)) for step in range(1, 30)]
    finished.emu.platform.curves.tell("local", finished.job, points)
    page.wait_for_selector("figure[data-key='told/reward'] canvas")  # the page looks again by itself
    assert "told by the program" in page.inner_text("figure[data-key='told/reward']")
    finished.judge(page)
    page.context.close()


def test_the_keyboard_is_enough(finished: Stage) -> None:
    page = finished.open("runs")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    page.keyboard.type("sft")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?words=sft")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.wait_for_url("**/requests")
    page.context.close()


def test_pages_can_be_read_without_scripts(finished: Stage) -> None:
    page = finished.open(f"run/{finished.job}", scripts=False)
    assert page.locator("#curves polyline").count() >= 3
    assert page.locator(".tree circle").count() >= 2
    assert "step-10" in page.inner_text("table")
    page.context.close()


def test_a_switch_makes_the_next_promotion_fail_and_marks_it(finished: Stage) -> None:
    page = finished.open(f"run/{finished.job}")

    def promote(model: str) -> str:
        page.goto(f"{finished.emu.url}/_ftsim/ui/run/{finished.job}")
        page.locator("summary", has_text="Promote").first.click()
        page.locator("input[name=model]").first.fill(model)
        page.locator("button.primary", has_text="Promote").first.click()
        return str(page.inner_text("[role=status]"))

    assert "is promoted to by-button" in promote("by-button")
    page.goto(f"{finished.emu.url}/_ftsim/ui/failures?words=promote.blob")
    page.locator("[id='promote.blob'] input[name=times]").fill("1")
    page.locator("[id='promote.blob'] button.primary").click()
    assert "promote.blob is on" in page.inner_text("[role=status]")
    finished.picture("failures?words=promote.b", "console-failures", click="[id='promote.blob'] summary")
    assert "promotion refused (HTTP 404)" in promote("by-button-too")
    page.goto(f"{finished.emu.url}/_ftsim/ui/requests?quirked=on")
    assert page.inner_text("tr.struck").split()[1] == "404"
    finished.picture("requests", "console-requests", scheme="dark")
    assert "promote.blob" in page.inner_text("tr.struck")
    page.locator("tr.struck th a").click()
    assert "fireworks_emulator.quirks.set('promote.blob', 'missing', times=1)" in page.content().replace("&#39;", "'")
    page.context.close()


def test_the_clock_moves_and_a_state_comes_back(finished: Stage) -> None:
    emu, page = finished.emu, finished.open("state")
    idle = emu.platform.jobs.create("local", JobSpec(base_model=BASE), "idle")
    page.fill("input[name=name]", "before")
    page.click("button.primary")
    assert "before.zip" in page.inner_text("table")
    page.goto(f"{emu.url}/_ftsim/ui/clock")
    at = emu.clock.now()
    page.locator("button", has_text="+ 1 day").click()
    assert emu.clock.now() - at > 86_000 * SECOND
    page.goto(f"{emu.url}/_ftsim/ui/run/{idle.name}")
    assert "PAUSED" in page.inner_text("#live")
    page.goto(f"{emu.url}/_ftsim/ui/state/compare?one=before.zip")
    assert "JOB_STATE_PAUSED" in page.inner_text("table")
    page.goto(f"{emu.url}/_ftsim/ui/state")
    page.locator("button", has_text="Restore").click()
    assert "is restored" in page.inner_text("[role=status]")
    assert len(emu.world.checkpoints.of(finished.job)) > 2
    page.context.close()


def test_a_model_is_asked(finished: Stage) -> None:
    page = finished.open("chat/accounts/local/deployments/policy")
    page.fill("textarea", "Who keeps the pink coin?")
    page.locator("button", has_text="Send").click()
    page.wait_for_selector(".turn.assistant")
    page.context.close()


def test_pictures_are_small(finished: Stage) -> None:
    made = sorted(finished.pictures.glob("console-*.png"))
    assert [file.name for file in made] == ["console-failures.png", "console-requests.png", "console-run.png"]
    assert sum(file.stat().st_size for file in made) < 300_000
