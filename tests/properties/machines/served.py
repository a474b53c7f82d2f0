"""Models that are uploaded, and adapters that are loaded on a deployment: what is there, and what keeps it there."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ftsim.testing.tiny import NAME
from tests.properties.machines.choices import check, refusal_of
from tests.properties.machines.promotions import Promotions

PLACE = "addons"


class Served(Promotions):
    """An upload is the model that was downloaded; a model that is loaded is not deleted, and one is loaded once."""

    @precondition(lambda self: self.world["models"])
    @rule(which=st.integers(0, 9))
    def upload_what_was_downloaded(self, which: int) -> None:
        """A promoted model's files make an equal model under another name."""
        source = self.some_model(which)
        http, name = self.stage.http, f"upload-{next(self.names)}"
        links = self.ask("GET", f"models/{source}:getDownloadEndpoint")["filenameToSignedUrls"]
        files = {file: http.get(link).content for file, link in links.items()}
        known = self.ask("GET", f"models/{source}")
        peft = {"peftDetails": known["peftDetails"]} if known["kind"] == "HF_PEFT_ADDON" else {}
        self.ask("POST", "models", {"modelId": name, "model": {"kind": known["kind"], **peft}})
        sizes = {file: str(len(content)) for file, content in files.items()}
        put = self.ask("POST", f"models/{name}:getUploadEndpoint", {"filenameToSize": sizes})["filenameToSignedUrls"]
        early = refusal_of(self.ask, "GET", f"models/{name}:validateUpload?configOnly=true")
        check(early, ("HTTP 400", "not uploaded yet"), "a validation before the files")
        for file, link in put.items():
            assert http.put(link, content=files[file]).status_code == 200
        self.ask("GET", f"models/{name}:validateUpload?configOnly=true")
        held = dict(self.world["models"][source])
        self.world["models"][name] = held
        made = self.stage.emulator.world.models.get(f"accounts/{self.stage.account}/models/{name}")
        assert made is not None
        assert (made.state, made.kind) == ("READY", known["kind"])
        self.check_files(self.stage.emulator.platform.blobs.path(made.blob), held)

    @precondition(lambda self: self.world["models"])
    @rule(which=st.integers(0, 9))
    def load_an_adapter(self, which: int) -> None:
        """An adapter on the deployment's base model, which is not there yet; everything else is refused."""
        self.deploy()
        name = self.some_model(which)
        loaded = self.world.setdefault("loaded", {})
        adapter = self.world["models"][name]["kind"] == "INFERENCE_LORA"
        predicted = ("HTTP 400", "HF_PEFT_ADDON") if not adapter else ("HTTP 409",) if name in loaded else None
        account = f"accounts/{self.stage.account}"
        sent = {"model": f"{account}/models/{name}", "deployment": f"{account}/deployments/{PLACE}"}
        if check(refusal_of(self.ask, "POST", "deployedModels", sent), predicted, f"loading {name}"):
            (made,) = [one for one in self.listed() if one["model"] == sent["model"]]
            loaded[name] = made["name"].rpartition("/")[2]
            refused = refusal_of(self.ask, "DELETE", f"models/{name}")
            check(refused, ("HTTP 400", "unload"), f"deleting {name} while it is loaded")
        self.check_loaded()

    @precondition(lambda self: self.world.get("loaded"))
    @rule(which=st.integers(0, 9))
    def unload_an_adapter(self, which: int) -> None:
        loaded = self.world["loaded"]
        name = sorted(loaded)[which % len(loaded)]
        self.ask("DELETE", f"deployedModels/{loaded.pop(name)}")
        self.check_loaded()

    def check_loaded(self) -> None:
        """The deployed models are those of the model, and each is its model's default."""
        listed = self.listed()
        assert {one["model"].rpartition("/")[2] for one in listed} == set(self.world["loaded"])
        assert all(one["default"] and one["state"] == "DEPLOYED" for one in listed)

    def some_model(self, which: int) -> str:
        names = list(self.world["models"])
        return str(names[which % len(names)])

    def deploy(self) -> None:
        if self.stage.emulator.world.deployments.find(self.stage.account, PLACE) is None:
            settings = {"baseModel": NAME, "acceleratorType": "NVIDIA_H200_141GB", "enableAddons": True}
            self.ask("POST", f"deployments?deploymentId={PLACE}", settings)

    def listed(self) -> list[dict[str, Any]]:
        return list(self.ask("GET", "deployedModels?pageSize=200")["deployedModels"])

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON of an answer; raises AssertionError with what a refusal says."""
        answer = self.stage.http.request(method, f"/v1/accounts/{self.stage.account}/{path}", json=body)
        if answer.status_code != 200:
            raise AssertionError(f"HTTP {answer.status_code} {answer.json()['message']}")
        return dict(answer.json())
