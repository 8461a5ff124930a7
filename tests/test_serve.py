"""Serving an exported model: the endpoints, and the page in a real browser."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Render, in_project, run
from websockets.sync.client import ClientConnection, connect

KINDS = ["object_detection", "text_classification"]  # one returns pictures, one accepts typed text
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def trained(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Creates a project of a kind with a briefly trained model that is exported to `exports/a-run`."""
    made: dict[str, Path] = {}

    def exported(kind: str) -> Path:
        if kind not in made:
            project = tmp_path_factory.mktemp(kind) / "project"
            shutil.copytree(render(extras="serve", data_kind=kind), project)
            settings = ["configs/train.yaml", "run.name=a-run", "train.epochs=1", "train.limit_batches=2"]
            in_project(project, "-m", "my_project", "train", *settings)
            in_project(project, "-m", "my_project", "export", "--only", "onnx")
            made[kind] = project
        return made[kind]

    return exported


@contextmanager
def served(project: Path, temp: Path) -> Iterator[str]:
    """The address of a server of the project's export, whose temporary files go to `temp`."""
    temp.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "my_project", "serve", "exports/a-run", "--port=0", "--max-megabytes=1"]
    env = os.environ | {"PYTHONPATH": str(project / "src"), "TMPDIR": str(temp)}
    with subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            address = server.stdout.readline().split()[0]
            yield address
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0
    assert [path.name for path in temp.iterdir()] == []


@pytest.mark.slow
def test_the_service_answers_and_refuses(trained: Any, tmp_path: Path) -> None:
    project = trained("text_classification")
    sample = project / "images/sample/danish.txt"
    said = in_project(project, "-m", "my_project", "run-exported", "exports/a-run", sample, "--json")
    with served(project, tmp_path / "temp") as address, httpx.Client(base_url=address, timeout=60) as client:
        health = client.get("/health").json()
        assert (health["model"], health["suffix"], health["megabytes"]) == ("ngrams", ".txt", 1)
        assert set(health["versions"]) == {"torch", "onnx", "onnxruntime"}
        assert client.get("/docs").status_code == 404  # it would load scripts from a CDN
        answer = client.post("/predict", files={"file": ("../../danish.txt", sample.read_bytes())})
        assert answer.status_code == 200
        prediction = answer.json()["predictions"][0]  # one for each line
        assert prediction["values"] == json.loads(said.stdout)[0] | {"file": "danish.txt"}
        assert prediction["sentence"].startswith("danish.txt:1: ")

        answer = client.post("/predict", files={"file": ("bad.txt", b"\xff\xfe\x00")})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("bad.txt")
        assert client.post("/predict").status_code == 422
        answer = client.post("/predict", files={"file": ("large.txt", bytes(3_000_000))})
        assert (answer.status_code, "more than 1 MB" in answer.text) == (413, True)
        edge = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="large.txt"\r\n\r\n'
        chunks = itertools.chain([edge], itertools.repeat(bytes(100_000), 20))  # without Content-Length
        answer = client.post("/predict", content=chunks, headers={"Content-Type": "multipart/form-data; boundary=edge"})
        assert answer.status_code == 413
        assert client.get("/health").status_code == 200
        port = address.rpartition(":")[2]
        done = in_project(project, "-m", "my_project", "serve", "exports/a-run", f"--port={port}", ok=False)
        assert (done.returncode, "set another --port" in done.stderr) == (2, True)


@pytest.mark.slow
def test_a_wheel_holds_the_page(render: Render, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(extras="serve", data_kind="text_classification"), project)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path)]
    run(sys.executable, "-m", "pip", "wheel", *options, ".", cwd=project)
    (wheel,) = tmp_path.glob("*.whl")
    assert "my_project/serving/page.html" in zipfile.ZipFile(wheel).namelist()


class Browser:
    """A page of headless Chromium, driven by the DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection, self.number = connection, 0

    def call(self, method: str, **params: Any) -> Any:
        self.number += 1
        self.connection.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while (message := json.loads(self.connection.recv(60))).get("id") != self.number:
            pass  # an event
        assert "error" not in message, message
        return message["result"]

    def js(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until the expression is true; returns its value."""
        for _ in range(600):
            if value := self.js(expression):
                return value
            time.sleep(0.1)
        raise AssertionError(f"still false: {expression}; the page shows: {self.js('document.body.innerText')}")

    def choose(self, path: Path) -> None:
        """Select a file, as a person does in the dialog."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def opened(folder: Path) -> str:
    """The DevTools address of the page of the browser with this profile."""
    for _ in range(600):
        with suppress(OSError, IndexError, httpx.TransportError):  # still starting
            port = (folder / "DevToolsActivePort").read_text().split()[0]
            for each in httpx.get(f"http://127.0.0.1:{port}/json/list").json():
                if each["type"] == "page":
                    return str(each["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise AssertionError("the browser opened no page")


@contextmanager
def browser(address: str, folder: Path) -> Iterator[Browser]:
    """Chromium at an address, with its profile in `folder`."""
    assert CHROMIUM
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    options = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0", *root]
    command = [CHROMIUM, *options, f"--user-data-dir={folder}", "--window-size=900,900", address]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=os.environ | {"HOME": str(folder)}, **silent) as chromium:  # type: ignore[call-overload]
        try:
            with connect(opened(folder), max_size=None) as connection:
                yield Browser(connection)
        finally:
            chromium.terminate()


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium, chromium-browser or google-chrome on PATH")
@pytest.mark.parametrize("kind", KINDS)
def test_a_person_tries_the_model_in_a_browser(kind: str, trained: Any, tmp_path: Path) -> None:
    project = trained(kind)
    sample = sorted((project / "images/sample").iterdir())[0]
    said = in_project(project, "-m", "my_project", "run-exported", "exports/a-run", sample).stdout
    with served(project, tmp_path / "temp") as address, browser(address, tmp_path / "profile") as page:
        page.wait("/^Try (?!the model$)/.test(document.title) && document.readyState === 'complete'")
        loaded = page.js("performance.getEntriesByType('resource').map(e => e.name)")
        assert all(each.startswith((address, "data:")) for each in loaded)
        page.js("document.querySelector('#go').click()")
        assert page.wait("document.querySelector('#error').textContent") == "Choose a file first."

        page.choose(sample)
        page.js("document.querySelector('#go').click()")
        page.wait("document.querySelectorAll('article').length")
        first = page.js("document.querySelector('article pre').textContent").splitlines()[0]
        numbers = r"[\d.]+%?"  # paths of pictures differ, and machines round differently
        assert re.sub(numbers, "", first.partition(":")[2])[:20] in re.sub(numbers, "", said)
        pictures = page.js("[...document.images].map(image => image.naturalWidth)")
        assert len(pictures) == (kind == "object_detection")
        assert all(pictures)

        typed = page.js("!document.querySelector('#typed').hidden")
        assert typed == (kind == "text_classification")
        if typed:
            page.js(f"text.value = {json.dumps(sample.read_text())}; text.dispatchEvent(new Event('input'))")
            page.js("document.querySelector('#results').replaceChildren(); go.click()")
            page.wait("document.querySelectorAll('article').length")
        page.choose(project / "pyproject.toml")
        page.js("go.click()")
        assert "pyproject.toml" in page.wait("document.querySelector('#error').textContent")
