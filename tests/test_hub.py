"""The extra `hub`: a model is the same after push and pull; damaged and foreign repositories are refused."""

import base64
import hashlib
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Render, in_project, save, start
from huggingface_hub import ModelCard
from test_configs import DEFAULT, KINDS

pytestmark = pytest.mark.slow

TOKEN = "hf_aSecretOfTheTests"
LATER = pytest.mark.exhaustive
QUICK = ["train.epochs=1", "train.limit_batches=2", "run.name=a-run"]

COMMANDS = """
import contextlib, io, json, sys
from my_project.cli import main

said = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
        status = main(words)
    said.append([status, error.getvalue()])
print(json.dumps(said))
"""


class Hub(ThreadingHTTPServer):
    """What huggingface_hub calls to create a repository, commit files and download them, without Xet."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.commits: dict[str, list[dict[str, bytes]]] = {}  # the files of each, by repository
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256, as LFS keeps them
        self.seen: list[str] = []  # requests
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}  # by pattern of a request: status, headers
        self.blocked = ""  # a pattern of requests that get no answer

    def env(self, folder: Path) -> dict[str, Any]:
        """The environment of a command that uses this hub."""
        own = {"HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1"}
        return own | {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "", "HF_HUB_OFFLINE": ""}

    def files(self, repo: str) -> dict[str, bytes]:
        return self.commits[repo][-1]


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *message: Any) -> None:
        pass

    def answer(self, body: Any = b"", status: int = 200, **headers: str) -> None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = f"{self.command} {path}"
        hub.seen.append(request)
        if hub.blocked and re.search(hub.blocked, request):
            time.sleep(60)
        for pattern, (status, headers) in hub.answers.items():
            if re.search(pattern, request):
                return self.answer(b"", status, **headers)
        if path == "/api/repos/create":
            asked = json.loads(given)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo not in hub.commits:
                hub.commits[repo], hub.private[repo] = [{}], asked.get("visibility") == "private"
            return self.answer({"url": f"{hub.url}/{repo}"})
        if path == "/api/validate-yaml":
            about = yaml.safe_load(json.loads(given)["content"].split("---\n")[1])["model-index"][0]["results"][0]
            fits = re.fullmatch(r"(?:[\w-]+/)?[\w.-]+", about["dataset"]["type"], re.ASCII)  # the Hub's own pattern
            errors = [] if fits else [{"message": "dataset.type"}]
            return self.answer({"errors": errors, "warnings": []}, 400 if errors else 200)
        if found := re.fullmatch(r"/lfs/(\w+)", path):
            assert hashlib.sha256(given).hexdigest() == found[1]
            hub.large[found[1]] = given
            return self.answer()
        found = re.match(r"(?:/api/models)?/([^/]+/[^/]+?)(\.git)?(?:/(\w+)(?:/([^/]*))?(?:/(.*))?)?$", path)
        assert found, path
        repo, _, what, revision, name = found.groups()
        if repo not in hub.commits:
            return self.answer(b"", 404, X_Error_Code="RepoNotFound")
        return self.of_repository(repo, what, revision or "main", name, given)

    def of_repository(self, repo: str, what: str, revision: str, name: str, given: bytes) -> None:
        hub, commits = self.server, self.server.commits[repo]
        names = {"main": len(commits) - 1} | {f"{number:040x}": number for number in range(len(commits))}
        if what == "preupload":
            paths = [each["path"] for each in json.loads(given)["files"]]
            modes = {path: "lfs" if path.endswith((".safetensors", ".png")) else "regular" for path in paths}
            files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
            return self.answer({"files": files})
        if what == "info" and revision == "lfs":
            objects = json.loads(given)["objects"]
            for each in objects:
                if each["oid"] not in hub.large:
                    each["actions"] = {"upload": {"href": f"{hub.url}/lfs/{each['oid']}"}}
            return self.answer({"transfer": "basic", "objects": objects})
        if what == "commit":
            new = dict(commits[-1])
            for line in map(json.loads, given.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    new[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    new[value["path"]] = hub.large[value["oid"]]
            commits.append(new)
            return self.answer({"commitUrl": f"{hub.url}/{repo}/commit/x", "commitOid": f"{len(commits) - 1:040x}"})
        if revision not in names:
            return self.answer(b"", 404, X_Error_Code="RevisionNotFound")
        number = names[revision]
        if what == "resolve":
            etag = hashlib.sha256(commits[number][name]).hexdigest()
            return self.answer(commits[number][name], ETag=f'"{etag}"', X_Repo_Commit=f"{number:040x}")
        siblings = [{"rfilename": path, "size": len(content)} for path, content in commits[number].items()]
        about = {"id": repo, "sha": f"{number:040x}", "private": hub.private[repo], "siblings": siblings}
        return self.answer(about)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def refused(project: Path, cases: dict[str, list[str]], **env: Any) -> None:
    """Run each command, given by a part of its expected message: it must fail with an error of one line."""
    done = in_project(project, "-c", COMMANDS, json.dumps([*cases.values()]), **env)
    assert TOKEN not in done.stdout + done.stderr
    for expected, (status, said) in zip(cases, json.loads(done.stdout), strict=True):
        [line] = [line for line in said.splitlines() if line.startswith("error: ")]
        assert expected in line
        assert status == 2


@pytest.mark.parametrize("kind", [DEFAULT, *(pytest.param(k, marks=LATER) for k in KINDS if k != DEFAULT)])
def test_a_pushed_model_is_the_same_in_another_project(kind: str, render: Render, tmp_path: Path, hub: Hub) -> None:
    project, other = tmp_path / "project", tmp_path / "other"
    shutil.copytree(render(extras="hub", data_kind=kind), project)
    shutil.copytree(render(extras="hub", data_kind=kind, package_name="of_others"), other)
    save(project)
    env = hub.env(tmp_path / "home")
    shutil.copytree(project / "data", tmp_path / "private" / "my ü")
    settings = [*QUICK, "data.folder=../private/my ü", f"run.images={project}/images", "train.ema=0.5"]
    settings += ["loss.args.weight=balanced"] if kind == DEFAULT else []
    in_project(project, "-m", "my_project", "train", "configs/train.yaml", *settings)
    (project / "notes.md").write_text("## Metrics\n\nOf other models.\n")
    done = in_project(project, "-m", "my_project", "push", "a-run", "me/model", "--notes", "notes.md", **env)
    assert "me/model, public: everybody can read these files:" in done.stdout
    names = {"README.md", "config.yaml", "metrics.csv", "model.safetensors", "run.json"}
    assert {*hub.files("me/model")} == names | ({"loss.safetensors"} if kind == DEFAULT else set())
    everything = b"".join(hub.files("me/model").values()) + (done.stdout + done.stderr).encode()
    assert TOKEN.encode() not in everything
    for folder in (str(tmp_path), "private/"):
        assert folder.encode() not in everything, "no folder of this machine is public"
    text = hub.files("me/model")["README.md"].decode()
    assert "pull me/model\n" in text.split("Of other models.")[0]
    assert "Trained on " in text.split("Of other models.")[1]
    card: Any = ModelCard(text).data
    assert (card.license, card.library_name) == ("mit", "pytorch")

    done = in_project(other, "-m", "of_others", "pull", "me/model", **env)
    assert TOKEN not in done.stdout + done.stderr
    assert "me/model at 0000" in done.stdout
    found = []
    for place, package, run in (project, "my_project", "a-run"), (other, "of_others", "model"):
        tested = json.loads(in_project(place, "-m", package, "test", run, "--json").stdout)
        said = in_project(place, "-m", package, "run", "images/sample", "--json", "--checkpoint", run).stdout
        found.append(({k: v for k, v in tested.items() if k != "checkpoint"}, said))
    assert found[0] == found[1]
    figures = {each.metric_name: each.metric_value for each in card.eval_results}
    assert figures
    assert all(figures[name] == pytest.approx(found[0][0][name], abs=1e-5) for name in figures)
    done = in_project(other, "-m", "of_others", "train", "--resume", "model", "train.epochs=9", ok=False)
    assert "model: has only weights; start a new run with model.weights=" in done.stderr


@pytest.fixture(scope="module")
def pushed(render: Render, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A project with a run, and the files that `push` would upload."""
    project = tmp_path_factory.mktemp("hub") / "project"
    shutil.copytree(render(extras="hub", data_kind="custom"), project)
    in_project(project, "-m", "my_project", "train", "configs/train.yaml", *QUICK)
    in_project(project, "-m", "my_project", "push", "a-run", "me/model", "--dry-run")
    folder = project / "hub/model"
    return project, {path.name: path.read_bytes() for path in folder.iterdir()}


def test_push_says_what_is_wrong_and_uploads_nothing(
    pushed: tuple[Path, dict[str, bytes]], hub: Hub, tmp_path: Path
) -> None:
    project, env = pushed[0], hub.env(tmp_path)
    hub.commits = {"me/other": [{"pytorch_model.bin": b""}], "me/public": [{}]}
    hub.private = dict.fromkeys(hub.commits, False)
    wrong = {"X-Error-Message": "Invalid credentials in Authorization header"}
    hub.answers = {"/repos/create": (403, {}), "/models/me/model$": (401, wrong), "/models/me/full$": (507, {})}
    cases = {
        "should be a repository on the Hub": ["model"],
        "me/new: your token does not permit this": ["me/new"],
        "me/model: the token is not valid": ["me/model"],
        "me/full: the Hub answered 507": ["me/full"],
        "me/other: has files of another program": ["me/other"],
        "me/public: exists and is public, despite --private": ["me/public", "--private"],
        "--notes none.md: cannot be read": ["me/model", "--notes", "none.md"],
        "hub/model: already exists": ["me/model", "--dry-run"],
    }
    refused(project, {text: ["push", "a-run", *words] for text, words in cases.items()}, **env)
    push = ["push", "a-run", "me/new"]
    no_token = {"not logged in; log in with `hf auth login`": push, "no-run: no such run": ["push", "no-run", "me/new"]}
    refused(project, no_token, **env | {"HF_TOKEN": ""})
    refused(project, {"HF_HUB_OFFLINE is set; unset it": push}, **env | {"HF_HUB_OFFLINE": "1"})
    nowhere = "http://127.0.0.1:9"
    refused(project, {f"no connection to {nowhere} (": push}, **env | {"HF_ENDPOINT": nowhere})
    full = "import errno, my_project.commands._hub as h; print(h._reason(OSError(errno.ENOSPC, 'no space')))"
    assert in_project(project, "-c", full).stdout.startswith("the disk is full; free some space")
    assert not hub.large
    assert [len(commits) for commits in hub.commits.values()] == [1, 1]


def test_an_interrupted_push_continues_where_it_stopped(
    pushed: tuple[Path, dict[str, bytes]], hub: Hub, tmp_path: Path
) -> None:
    project, files = pushed
    push = "push", "a-run", "me/model", "--private", "--message", "The first"
    hub.answers = {"PUT": (400, {})}
    refused(project, {"the Hub answered 400": [*push]}, **hub.env(tmp_path))
    hub.seen, hub.answers = [], {"/commit/": (500, {})}
    refused(project, {"the Hub answered 500": [*push]}, **hub.env(tmp_path))
    hub.answers = {}
    done = in_project(project, "-m", "my_project", *push, **hub.env(tmp_path))
    assert "me/model, private:" in done.stdout
    assert [each for each in hub.seen if each.startswith("PUT")] == [f"PUT /lfs/{next(iter(hub.large))}"], "once"
    assert hub.private == {"me/model": True}
    assert hub.files("me/model")["model.safetensors"] == files["model.safetensors"]
    assert not [*(project / "checkpoints").glob(".hub-*")]


def test_pull_refuses_what_is_foreign_or_damaged_and_leaves_nothing(
    pushed: tuple[Path, dict[str, bytes]], hub: Hub, tmp_path: Path
) -> None:
    project, files = pushed
    before, facts = sorted((project / "checkpoints").rglob("*")), json.loads(files["run.json"])
    weights, config = files["model.safetensors"], files["config.yaml"]
    cases: dict[str, list[str]] = {}

    def case(expected: str, *words: str, file: str = "", content: bytes = b"", **changed: Any) -> None:
        """A repository with one file or some facts changed; a changed config has the right checksum."""
        repo = f"me/model{len(cases)}"
        known = facts | changed
        if file == "config.yaml":
            known |= {"files": facts["files"] | {file: hashlib.sha256(content).hexdigest()}}
        new = {"run.json": json.dumps(known).encode()} | ({file: content} if file else {})
        hub.commits[repo], hub.private[repo] = [{}, files | new], False
        cases[expected] = ["pull", repo + (words or ("",))[0], *words[1:]]

    case("model.safetensors: does not fit its checksum", file="model.safetensors", content=weights[:-1] + b"\1")
    case("a model of the kind tabular; this project's is custom", kind="tabular")
    case("run.json: damaged, or of a newer version", step=-1)
    case("run.json: damaged", file="run.json", content=b"[" * 100_000)
    case("name 'os.system'", file="config.yaml", content=config.replace(b"name: mlp", b"name: os.system"))
    case("does not fit mlp of", file="config.yaml", content=config.replace(b"width: ", b"width: 1"))
    case("this project: config.yaml: x: unknown key", file="config.yaml", content=config + b"x: 1\n")
    case("config.yaml: has 300,000 bytes, more than", file="config.yaml", content=b"#" * 300_000)
    case("has 9,999,999 bytes, more than", file="model.safetensors", content=b" " * 9_999_999)
    case("no such revision", "@v9")
    case("no such repository", "x")
    case("so `push` did not upload it", "@" + "0" * 40)
    case("--as ../out: should be a short file name", "", "--as", "../out")
    case("checkpoints/a-run: already exists", "", "--as", "a-run")
    case("gated: ask for access", "")
    hub.answers = {f"/models/me/model{len(cases) - 1}$": (403, {"X-Error-Code": "GatedRepo"})}
    refused(project, cases, **hub.env(tmp_path))
    assert sorted((project / "checkpoints").rglob("*")) == before


def test_a_killed_pull_leaves_no_run_and_takes_only_its_own_files(
    pushed: tuple[Path, dict[str, bytes]], hub: Hub, tmp_path: Path
) -> None:
    project, files = pushed
    runs, env = tmp_path / "runs", hub.env(tmp_path)
    pull = "-m", "my_project", "pull", "me/model", "--checkpoints", runs
    evil = {"../out.txt": b"", "last.pt": b"a pickle", "code.py": b"1 / 0"}
    hub.commits, hub.private = {"me/model": [files | evil]}, {"me/model": False}
    hub.blocked = "GET .*metrics.csv"  # the last file
    with open(tmp_path / "said", "w") as said:
        process = start(project, *pull, files=[0, said, said], **env)
        while not any(re.search(hub.blocked, each) for each in hub.seen):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [path.name[:5] for path in runs.iterdir()] == [".hub-"]
    refused(project, {"has no run with a last.pt": ["test", "--checkpoints", str(runs)]})
    hub.blocked = ""
    in_project(project, *pull, **env)
    assert {path.name for path in (runs / "model").iterdir()} == {"config.yaml", "metrics.csv", "last.pt", "best.pt"}
    assert not any("out.txt" in each or "last.pt" in each or "code.py" in each for each in hub.seen)


@pytest.mark.exhaustive
def test_a_pulled_run_can_be_exported_fine_tuned_and_pushed_again(
    pushed: tuple[Path, dict[str, bytes]], render: Render, hub: Hub, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(extras="hub runs export pretrained", data_kind="custom"), project)
    hub.commits, hub.private = {"me/model": [pushed[1]]}, {"me/model": False}
    in_project(project, "-m", "my_project", "pull", "me/model", **hub.env(tmp_path))
    in_project(project, "-m", "my_project", "export", "model", "--only", "pt2")
    tuned = "configs/train.yaml", "model.weights=checkpoints/model", *QUICK
    assert "tensors are from checkpoints/model" in in_project(project, "-m", "my_project", "train", *tuned).stdout
    (project / "notes.md").write_text("## Limits\n\nOnly for tests.\n")
    push = "push", "model", "me/model", "--dry-run", "--intervals", "--pictures", "--notes", "notes.md"
    in_project(project, "-m", "my_project", *push)
    card = (project / "hub/model/README.md").read_text()
    assert "\n- test, 95 % intervals by the bootstrap: " in card
    assert "Only for tests." in card
    assert "To be written by the owner" not in card
    assert [*(project / "hub/model/pictures").iterdir()]
    assert (project / "hub/model/model.safetensors").read_bytes() == pushed[1]["model.safetensors"]
