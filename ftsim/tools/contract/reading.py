"""Checks that only read."""

from typing import Any

from emulator.core.kinds import CheckpointKind, promotable
from emulator.http.schemas import ACCOUNT, DEPLOYMENT, JOB, MODEL, ROW, SHAPE_VERSION, obj, page
from ftsim.tools.contract.session import Session, Skip

UNKNOWN = "ftsim-contract-no-such-thing"


def one_account(session: Session) -> None:
    """The key belongs to exactly one account."""
    body = session.get("/v1/accounts", page("accounts", ACCOUNT), pageSize=2) or {}
    accounts = body.get("accounts") or []
    session.must("body.accounts", 1, len(accounts))
    if not accounts:
        raise Skip("no account: nothing else can be asked")
    session.account = str(accounts[0]["name"]).removeprefix("accounts/")


def unknown_key(session: Session) -> None:
    """A wrong key is refused with an envelope."""
    session.refused(session.ask("GET", "/v1/accounts", key=False), 401, 16)


def bearer_alone(session: Session) -> None:
    """The key counts as a bearer token too."""
    answer = session.ask("GET", "/v1/accounts", key=False, headers=session.as_bearer(), params={"pageSize": 2})
    session.expect(answer, page("accounts", ACCOUNT))


def lists_of_what_is_retired(session: Session) -> None:
    """Data sets and managed jobs are still listed."""
    for kind in ("datasets", "supervisedFineTuningJobs", "dpoJobs"):
        answer = session.ask("GET", f"/v1/accounts/{session.account}/{kind}", params={"pageSize": 1})
        session.must(f"status of a list of {kind}", 200, answer.status_code)


def other_account(session: Session) -> None:
    """Another account's jobs are refused."""
    session.refused(session.ask("GET", f"/v1/accounts/{UNKNOWN}/rlorTrainerJobs"), 403, 7)


def unknown_job(session: Session) -> None:
    session.refused(session.ask("GET", f"/v1/accounts/{session.account}/rlorTrainerJobs/{UNKNOWN}"), 404, 5)


def unknown_model(session: Session) -> None:
    session.refused(session.ask("GET", f"/v1/accounts/{session.account}/models/{UNKNOWN}"), 404, 5)


def unknown_deployment(session: Session) -> None:
    session.refused(session.ask("GET", f"/v1/accounts/{session.account}/deployments/{UNKNOWN}"), 404, 5)


def unknown_jobs_checkpoints(session: Session) -> None:
    path = f"/v1/accounts/{session.account}/rlorTrainerJobs/{UNKNOWN}/checkpoints"
    session.refused(session.ask("GET", path), 404, 5)


def jobs(session: Session) -> None:
    """A page of jobs, and its size."""
    path = f"/v1/accounts/{session.account}/rlorTrainerJobs"
    found = (session.get(path, page("rlorTrainerJobs", JOB), pageSize=1) or {}).get("rlorTrainerJobs") or []
    if len(found) > 1:
        session.differs("body.rlorTrainerJobs", "at most 1", len(found))


def models(session: Session) -> None:
    session.get(f"/v1/accounts/{session.account}/models", page("models", MODEL), pageSize=5)


def deployments(session: Session) -> None:
    session.get(f"/v1/accounts/{session.account}/deployments", page("deployments", DEPLOYMENT), pageSize=5)


def training_shapes(session: Session) -> None:
    """The newest validated versions of all shapes that the key may see."""
    query = {"filter": "latest_validated=true", "orderBy": "create_time desc", "pageSize": 5}
    path = "/v1/accounts/-/trainingShapes/-/versions"
    body = session.get(path, page("trainingShapeVersions", SHAPE_VERSION), **query) or {}
    if not body.get("trainingShapeVersions"):
        raise Skip("no shape is visible to this key")


def eight_to_a_node(session: Session) -> None:
    """No shape has more than 8 accelerators on a node."""
    body = session.ask("GET", "/v1/accounts/-/trainingShapes/-/versions", params={"pageSize": 200}).json()
    found = [one.get("snapshot") or {} for one in body.get("trainingShapeVersions") or []]
    more = sorted({str(one.get("name")) for one in found if int(one.get("acceleratorCount") or 0) > 8})
    session.must("shapes with more than 8 accelerators on a node", [], more)


def base_model(session: Session) -> None:
    """A base model tells whether it is a mixture of experts."""
    path = "/v1/accounts/-/trainingShapes/-/versions"
    answer = session.ask("GET", path, params={"pageSize": 1}).json()
    versions = answer.get("trainingShapeVersions") if isinstance(answer, dict) else None
    name = (versions[0].get("snapshot") or {}).get("baseModel") if versions else None
    if not name:
        raise Skip("no shape names a base model")
    body = session.get(f"/v1/{name}", MODEL) or {}
    session.compare(body, obj({"baseModelDetails": obj({})}))


def checkpoints(session: Session) -> None:
    """Rows of the newest job that has some: shape, order, kinds, promotability (WIRE 5.3)."""
    path = f"/v1/accounts/{session.account}/rlorTrainerJobs"
    answer = session.ask("GET", path, params={"orderBy": "create_time desc", "pageSize": 20}).json()
    for job in (answer.get("rlorTrainerJobs") or []) if isinstance(answer, dict) else []:
        rows = (session.get(f"/v1/{job['name']}/checkpoints", page("checkpoints", ROW), pageSize=200) or {}).get(
            "checkpoints"
        )
        if rows:
            check_rows(session, rows)
            return
    raise Skip("no job of the account has a checkpoint")


def check_rows(session: Session, rows: list[dict[str, Any]]) -> None:
    """Oldest first; promotable as the kind says."""
    known = {kind.value: kind for kind in CheckpointKind}
    stamps = [str(row.get("createTime")) for row in rows]
    if [_comparable(one) for one in stamps] != sorted(map(_comparable, stamps)):
        session.differs("body.checkpoints[].createTime", "oldest first", stamps)
    for at, row in enumerate(rows):
        kind = known.get(str(row.get("checkpointType")))
        if kind is not None:
            session.must(
                f"body.checkpoints[{at}].promotable ({kind.value})", promotable(kind), bool(row.get("promotable"))
            )


def _comparable(stamp: str) -> tuple[str, str]:
    head, _, fraction = stamp.removesuffix("Z").partition(".")
    return head, fraction.ljust(9, "0")
