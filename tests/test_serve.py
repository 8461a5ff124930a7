"""Serving an exported model: the endpoints, and the page in a real browser."""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import SHORT, Render, in_project, run
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


class Server(subprocess.Popen[str]):
    """A server of the project's export, in its own process group; its log goes to `folder`."""

    def __init__(self, project: Path, folder: Path, *options: str) -> None:
        self.temp, self.log = Path(tempfile.mkdtemp(dir=SHORT)), folder / "log"
        command = [sys.executable, "-m", "my_project", "serve", "exports/a-run", "--port=0", "--max-megabytes=1"]
        env = os.environ | {"PYTHONPATH": str(project / "src"), "TMPDIR": str(self.temp)}
        with self.log.open("w") as log:
            files: Any = {"stdout": subprocess.PIPE, "stderr": log, "text": True}
            super().__init__([*command, *options], cwd=project, env=env, start_new_session=True, **files)
        assert self.stdout
        self.address = self.stdout.readline().split()[0]
        self.port = int(self.address.rpartition(":")[2])

    def post(self, content: bytes, name: str = "a.txt", **more: Any) -> httpx.Response:
        form = {"file": (name, content)}
        return httpx.post(f"{self.address}/predict", files=form, **{"timeout": 60} | more)

    def logs(self, text: str) -> bool:
        """Whether the log has this text within ten seconds: a line comes after its response."""
        for _ in range(200):
            if text in self.log.read_text():
                return True
            time.sleep(0.05)
        return False

    def begin(self, text: bytes) -> socket.socket:
        """A connection on which the beginning of a request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(text)
        return connection

    def __exit__(self, *error: Any) -> None:
        if self.poll() is None:  # the test failed
            os.killpg(self.pid, signal.SIGKILL)
        super().__exit__(*error)
        shutil.rmtree(self.temp)

    def stop(self) -> None:
        """Ctrl-C ends it, with nothing left behind."""
        self.send_signal(signal.SIGINT)
        assert self.wait(60) == 0
        assert [path.name for path in self.temp.iterdir()] == []


@pytest.fixture(scope="module")
def ordinary(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the default limits, but for 1 MB, and with a name."""
    folder = tmp_path_factory.mktemp("ordinary")
    with Server(trained("text_classification"), folder, "--allow-host=Our.Example") as server:
        yield server
        server.stop()


TROUBLE = """

def _predict(self, model, inputs, predict=Task.predict):
    import os, threading, time
    from pathlib import Path

    order = Path(inputs[0]).read_text()
    if order == "memory":
        held = [b"x" * 10_000_000 for _ in range(100)]
    if order in ("sleep", "memory"):
        time.sleep(600)
    if order == "nap":
        time.sleep(1)
    if order == "die":
        os._exit(9)
    if order == "die later":
        threading.Timer(0.2, os._exit, [9]).start()
    if order == "fail":
        raise ValueError("a mistake")
    more = {"more": "x" * 20_000_000} if order == "much" else {}
    return [each | more for each in predict(self, model, inputs)]


Task.predict = _predict
"""


@pytest.fixture(scope="module")
def troubled(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the content of a file can make its prediction go wrong."""
    project = tmp_path_factory.mktemp("troubled") / "project"
    shutil.copytree(trained("text_classification"), project)
    with (project / "src/my_project/task.py").open("a") as task:
        task.write(TROUBLE)
    return project


@pytest.fixture(scope="module")
def limited(troubled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of that project with one worker and small limits."""
    limits = {"seconds": 3, "memory": 300, "requests": 4, "connections": 30}
    options = [*(f"--max-{key}={value}" for key, value in limits.items()), "--upload-seconds=2", "--workers=1"]
    with Server(troubled, tmp_path_factory.mktemp("limited"), *options) as server:
        yield server
        server.stop()


@pytest.mark.slow
def test_the_service_answers_and_refuses(trained: Any, ordinary: Server) -> None:
    project = trained("text_classification")
    sample = project / "images/sample/danish.txt"
    said = in_project(project, "-m", "my_project", "run-exported", "exports/a-run", sample, "--json")
    with httpx.Client(base_url=ordinary.address, timeout=60) as client:
        health = client.get("/health").json()
        assert (health["model"], health["suffix"], health["megabytes"]) == ("ngrams", ".txt", 1)
        assert (health["project"], health["classes"][0]) == ("my project", "bulgarian")
        assert set(health["versions"]) == {"torch", "onnx", "onnxruntime"}
        assert client.get("/docs").status_code == 404  # it would load scripts from a CDN
        assert client.get("/samples/danish.txt").content == sample.read_bytes()
        assert client.get("/samples/..%2f..%2fpyproject.toml").status_code == 404
        answer = client.post("/predict", files={"file": ("../../danish.txt", sample.read_bytes())})
        assert answer.status_code == 200
        prediction = answer.json()["predictions"][0]  # one for each line
        assert prediction["values"] == json.loads(said.stdout)[0] | {"file": "danish.txt"}
        assert prediction["sentence"].startswith("danish.txt:1: ")

        answer = client.post("/predict", files={"file": ("bad.txt", b"\xff\xfe\x00")})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("bad.txt")
        answer = client.post("/predict", files={"file": ("\N{GRINNING FACE}\U00020000" * 200, b"text")})
        assert answer.status_code == 200
        assert client.post("/predict").json() == {
            "detail": "file: Field required; send a form with one file in the field 'file'"
        }
        answer = client.post("/predict", files={"file": ("large.txt", bytes(3_000_000))})
        assert (answer.status_code, "--max-megabytes" in answer.text) == (413, True)
        edge = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="large.txt"\r\n\r\n'
        chunks = itertools.chain([edge], itertools.repeat(bytes(100_000), 20))  # without Content-Length
        answer = client.post("/predict", content=chunks, headers={"Content-Type": "multipart/form-data; boundary=edge"})
        assert answer.status_code == 413
        assert client.get("/health").status_code == 200
        options = f"--port={ordinary.port}"
        done = in_project(project, "-m", "my_project", "serve", "exports/a-run", options, ok=False)
        assert (done.returncode, "set another --port" in done.stderr) == (2, True)


REFUSED = [  # the headers of a POST request, and the status
    ({}, 200),
    ({"Host": "localhost:80"}, 200),
    ({"Host": "[::1]"}, 200),
    ({"Host": "evil.example"}, 400),
    ({"Host": "[::1"}, 400),
    ({"Host": "127.0.0.1.evil.example"}, 400),
    ({"Host": "our.example"}, 200),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Host": "localhost", "Origin": "http://localhost:3000"}, 403),
    ({"Host": "localhost", "Origin": "https://localhost"}, 200),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "https://our.example"}, 200),
]


@pytest.mark.slow
def test_foreign_names_and_pages_of_other_sites_are_refused(ordinary: Server) -> None:
    answers = [ordinary.post(b"text", headers=headers) for headers, _ in REFUSED]
    assert [answer.status_code for answer in answers] == [status for _, status in REFUSED]
    assert all(answer.headers["X-Content-Type-Options"] == "nosniff" for answer in answers)
    assert "--allow-host" in answers[3].text
    ordinary.post(b"text", headers={"X-Request-ID": "our-number"})
    ordinary.post(b"text", headers={"X-Request-ID": "forged\tline"})
    assert ordinary.logs(" our-number 127.0.0.1 POST /predict 200 ")
    assert ordinary.logs(answers[3].headers["X-Request-ID"])
    assert "forged" not in ordinary.log.read_text()


@pytest.mark.slow
def test_a_costly_file_costs_no_more_than_its_worker(limited: Server) -> None:
    orders = {
        "sleep": (504, "--max-seconds"),
        "memory": (413, "--max-memory"),
        "die": (503, "worker"),
        "fail": (500, "ValueError"),
        "much": (413, "--max-megabytes"),
    }
    healthy, done = 0, threading.Event()

    def watch() -> None:
        nonlocal healthy
        while not done.wait(0.05):
            assert httpx.get(f"{limited.address}/health").status_code == 200
            healthy += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for order, (status, reason) in orders.items():
            before = healthy
            answer = limited.post(order.encode())
            assert healthy > before + 10 or order != "sleep", "no other request is answered meanwhile"
            assert (answer.status_code, reason in answer.json()["detail"]) == (status, True), order
            assert limited.logs(answer.headers["X-Request-ID"])
            assert limited.post(b"text").status_code == 200, order
        assert limited.logs("took more than 3 s; send a smaller file, or see --max-seconds")
    finally:
        done.set()
        watcher.join()
    declared = httpx.get(f"{limited.address}/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
    assert {str(status) for status, _ in orders.values()} < set(declared)
    assert "HTTPValidationError" not in json.dumps(declared)


@pytest.mark.slow
def test_a_worker_that_is_killed_between_two_requests_is_replaced(limited: Server) -> None:
    assert limited.post(b"die later").status_code == 200
    time.sleep(1)
    assert limited.post(b"text").status_code == 200


@pytest.mark.slow
def test_a_full_service_says_when_to_try_again(limited: Server) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(limited.post, [b"sleep"] * 4)
        while httpx.get(f"{limited.address}/ready").json()["requests"] < 4:
            time.sleep(0.01)
        assert httpx.get(f"{limited.address}/ready").status_code == 503
        refused = limited.post(b"text")
        found = {(answer.status_code, answer.headers.get("Retry-After")) for answer in answers}
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert "--max-requests" in refused.text
    assert found == {(504, None), (503, "1")}  # some timed out while they waited for the only worker
    assert httpx.get(f"{limited.address}/ready").status_code == 200


@pytest.mark.slow
def test_a_prediction_ends_when_its_client_leaves(limited: Server) -> None:
    with suppress(httpx.ReadTimeout):
        limited.post(b"sleep", timeout=0.5)
    began = time.monotonic()
    assert limited.post(b"text").status_code == 200
    assert time.monotonic() - began < 2.5  # and not until --max-seconds
    assert limited.logs("the client left")


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
BODY = HEAD + b"Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: 1000\r\n\r\n--edge\r\n"


def response(connection: socket.socket) -> str:
    """A whole response with an error, as text."""
    text = ""
    while not text.endswith("}"):
        part = connection.recv(1000).decode()
        assert part, text
        text += part
    return text


@pytest.mark.slow
def test_unfinished_requests_end_in_time_and_stop_no_others(limited: Server) -> None:
    began = time.monotonic()
    heads = [limited.begin(HEAD) for _ in range(60)]  # twice as many as --max-connections
    assert httpx.get(f"{limited.address}/health").status_code == 200
    assert time.monotonic() - began < 1
    with suppress(ConnectionResetError):
        assert [head.recv(100) for head in heads] == [b""] * 60
    bodies = [limited.begin(BODY) for _ in range(4)]  # as many as --max-requests
    assert limited.post(b"text").status_code == 503
    time.sleep(1.1)
    assert limited.post(b"text").status_code == 200  # in place of a slow upload
    texts = sorted(response(body) for body in bodies)
    assert [text[9:12] for text in texts] == ["408", "408", "408", "503"]
    assert "--upload-seconds" in texts[0]
    for each in (*heads, *bodies):
        each.close()


@pytest.mark.slow
def test_a_worker_that_hangs_as_it_loads_is_given_up(render: Render) -> None:
    code = """if True:
        import asyncio, socket, threading
        from concurrent.futures import ThreadPoolExecutor
        from my_project.serving import workers

        class Hanging:
            is_alive = join = kill = lambda self: True
            exitcode, pid = None, 0

        async def content():
            return b""

        worker = object.__new__(workers.Worker)
        worker.lock, worker.closed, worker.patience, worker.about = threading.Lock(), False, 0.1, {}
        worker.thread = ThreadPoolExecutor(1)
        worker.process, (worker.socket, its) = Hanging(), socket.socketpair()
        try:
            asyncio.run(worker.predict("a.txt", content, asyncio.Event()))
        except workers.Refused as refused:
            print(refused.status, refused)
    """
    done = in_project(render(data_kind="text_classification", extras="serve"), "-c", code)
    assert done.stdout == "503 the worker process ended; try again, or another file\n"
    assert "a worker had not loaded the model after 0 s" in done.stderr


@pytest.mark.slow
def test_no_request_gets_the_answer_of_another_one(troubled: Path) -> None:
    """The first request ends with its event loop, at several moments, so that nobody reads its answer."""
    code = """if True:
        import asyncio
        from pathlib import Path
        from my_project.serving.limits import Limits
        from my_project.serving.workers import Workers

        async def nap():
            return b"nap"

        async def text():
            return b"text"

        async def first(workers, seconds):
            await asyncio.wait([asyncio.ensure_future(workers.predict("first.txt", nap))], timeout=seconds)

        workers = Workers(Path("exports/a-run"), False, Path("there"), Limits(workers=1))
        for seconds in (0, 0.1, 0.5):
            asyncio.run(first(workers, seconds))
            workers.idle = asyncio.Queue()
            workers.idle.put_nowait(workers.all[0])
            status, answer = asyncio.run(workers.predict("second.txt", text))
            print(status, b"second.txt" in bytes(answer), b"first.txt" in bytes(answer))
        workers.close()
    """
    done = in_project(troubled, "-c", code)
    assert done.stdout == "200 True False\n" * 3, done.stderr


def test_a_service_that_is_told_to_stop_answers_what_it_has(troubled: Path, tmp_path: Path) -> None:
    with Server(troubled, tmp_path, "--stop-seconds=2") as server, ThreadPoolExecutor(2) as threads:
        upload = server.begin(BODY)
        nap, sleep = (threads.submit(server.post, order) for order in (b"nap", b"sleep"))
        while httpx.get(f"{server.address}/ready").json()["requests"] < 3:
            time.sleep(0.01)
        time.sleep(0.2)
        began = time.monotonic()
        os.killpg(server.pid, signal.SIGTERM)  # as systemd does: to the workers too
        assert server.wait(60) == 0
        assert time.monotonic() - began < 5
        assert [nap.result().status_code, sleep.result().status_code] == [200, 503]
        assert response(upload).startswith("HTTP/1.1 503 ")
        upload.close()
        assert [path.name for path in server.temp.iterdir()] == []
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(("option", "said"), [("--workers=0", "above 0"), ("--max-memory=much", "invalid float value")])
def test_a_limit_that_is_not_a_positive_number_is_refused(render: Render, option: str, said: str) -> None:
    project = render(extras="serve", data_kind="text_classification")
    done = in_project(project, "-m", "my_project", "serve", "exports/a-run", option, ok=False)
    assert (done.returncode, said in done.stderr) == (2, True)


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
    with Server(project, tmp_path) as server, browser(server.address, tmp_path / "profile") as page:
        page.wait("/^Try (?!the model$)/.test(document.title) && document.readyState === 'complete'")
        loaded = page.js("performance.getEntriesByType('resource').map(e => e.name)")
        assert all(each.startswith((server.address, "data:")) for each in loaded)
        assert page.js("document.querySelector('#about').textContent").startswith("Classes: ")
        page.js("document.querySelector('#go').click()")
        assert page.wait("document.querySelector('#error').textContent") == "Choose a file first."

        page.choose(sample)
        assert page.js("!preview.hidden") == (kind == "object_detection")
        page.js("document.querySelector('#go').click()")
        page.wait("document.querySelectorAll('article').length")
        assert "0.0%" not in page.js("[...document.querySelectorAll('.bar span')].map(span => span.textContent)")
        assert page.js("document.querySelector('[role=status]').textContent").startswith("predictions: ")
        first = page.js("document.querySelector('article pre').textContent").splitlines()[0]
        numbers = r"[\d.]+%?"  # paths of pictures differ, and machines round differently
        assert re.sub(numbers, "", first.partition(":")[2])[:20] in re.sub(numbers, "", said)
        pictures = page.js("[...document.querySelectorAll('#results img')].map(image => image.naturalWidth)")
        assert len(pictures) == (kind == "object_detection")
        assert all(pictures)

        typed = page.js("!document.querySelector('#typed').hidden")
        assert typed == (kind == "text_classification")
        if typed:
            page.js(f"text.value = {json.dumps(sample.read_text())}; text.dispatchEvent(new Event('input'))")
            page.js("document.querySelector('#results').replaceChildren(); go.click()")
            page.wait("document.querySelectorAll('article').length")
        page.js("document.querySelector('#results').replaceChildren()")
        page.js("document.querySelector('#samples button').click()")
        assert page.wait("document.querySelectorAll('article').length && file.files[0].name") == sample.name
        page.js("document.querySelector('#results').replaceChildren(); document.querySelector('#file').value = ''")
        page.js("window.dropped = new DataTransfer(); dropped.items.add(new File(['[]'], 'dropped.toml'))")
        page.js("form.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: dropped}))")
        page.js("go.click()")
        page.wait("document.querySelector('main').innerText.includes('dropped.toml')")
        page.choose(project / "pyproject.toml")
        page.js("go.click()")
        page.wait("document.querySelector('#error').textContent.includes('pyproject.toml')")
