"""Docker, the development container, CI, the docs site and uv. An extra that is not chosen leaves no trace."""

import csv
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import EXTRAS, Render, extension, git, in_project, of_the_day, run, save, tree
from renders import FITS
from test_configs import KINDS

PYTHON = Path(sys.executable)
WORDS = {  # names that an extra adds to a project: each occurs in projects with the extra, and in no others
    "devcontainer": ["devcontainer"],
    "docker": ["docker"],
    "docs_site": ["sphinx", "furo", "myst"],
    "export": ["onnx"],
    "hub": ["huggingface"],
    "serve": ["fastapi", "uvicorn"],
    "submitit": ["submitit"],
    "sweep": ["optuna"],
    "weekly": ["newest.yml", "upgrade-strategy"],
    "renovate": ["renovatebot", "allowedenv"],
}
BRINGS = {"serve": ["export"], "submitit": ["sweep"]}  # an extra that includes another one


# --- chosen or not ---


def words(project: Path) -> set[str]:
    """The words of WORDS that occur in a project's files or their names."""
    files = {name: text for name, (text, _) in tree(project).items() if name != ".copier-answers.yml"}
    text = b"\n".join([*files.values(), *(name.encode() for name in files)]).lower()
    return {word for group in WORDS.values() for word in group if word.encode() in text}


@pytest.mark.parametrize("ci", ["github", "gitlab", "none"])
def test_a_project_without_extras_has_no_trace_of_them(render: Render, ci: str) -> None:
    project = render(ci=ci)
    assert words(project) == set()
    names = tree(project)
    assert (".gitlab-ci.yml" in names) == (ci == "gitlab")
    assert any(name.startswith(".github/") for name in names) == (ci == "github")


@pytest.mark.parametrize("extra", WORDS)
def test_an_extra_adds_its_own_files_and_none_of_the_others(render: Render, extra: str) -> None:
    project, without = render(extras=extra), render()
    expected = {word for name in [extra, *BRINGS.get(extra, [])] for word in WORDS[name]}
    assert words(project) == expected
    replaced = {".github/workflows/update.yml"} if extra == "renovate" else set()
    assert set(tree(without)) - replaced < set(tree(project)), "it adds files, and takes none away"
    assert not replaced & set(tree(project)), "two would look for updates"


@pytest.mark.parametrize("extra", EXTRAS.split())
def test_make_install_installs_the_packages_of_each_extra(render: Render, extra: str) -> None:
    kind = FITS.get(extra, ["image_classification"])[0]
    project = render(data_kind=kind, extras=extra)
    [line] = re.findall(r'-e "\.\[(.*)\]"', (project / "Makefile").read_text())
    groups = tomllib.loads((project / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(line.split(",")) == set(groups)


def test_the_help_of_all_commands_is_shown_and_of_your_own(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(extras=EXTRAS), tmp_path / "project")
    own = 'def own(args):\n    """Do 5 % count, in %s."""\n\n\ndef add_to(add):\n    add(own)\n'
    (project / "src/my_project/commands/own.py").write_text(own)
    help = in_project(project, "-m", "my_project", "--help").stdout
    names = re.findall(r"^    ([a-z][\w-]*)", help, re.MULTILINE)
    assert {"train", "intervals", "runs", "serve", "sweep", "own"} <= {*names}
    assert "Do 5 % count, in %s." in help
    for name in names:
        assert "usage" in in_project(project, "-m", "my_project", name, "--help").stdout


@pytest.mark.slow
def test_own_tests_of_extras_pass_in_the_kind_of_the_day(render: Render, tmp_path: Path) -> None:
    """`make exhaustive` runs all tests of projects with all extras, of each kind, format and layout."""
    kind = KINDS[int(os.environ["SEED"]) // 1000 % len(KINDS)]
    project = shutil.copytree(render(data_kind=kind, extras=EXTRAS), tmp_path / "project")
    names = sorted(tree(project / "test").keys() - tree(render(data_kind=kind) / "test").keys())
    assert {"test_export.py", "test_runs.py", "test_schema.py", "test_sweep.py"} < set(names)
    paths = [f"test/{name}" for name in names]
    in_project(project, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *paths)


# --- Docker, step by step, with folders instead of a container engine ---


def let_through(project: Path) -> list[str]:
    """The files that .dockerignore leaves: the last matching pattern decides."""
    rules = []
    for line in (project / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            parts = [re.escape(part).replace(r"\*", "[^/]*") for part in line.lstrip("!").strip("/").split("/")]
            pattern = "/".join(parts).replace("[^/]*[^/]*/", "(.*/)?")  # ** matches any number of folders
            rules.append((re.compile(f"{pattern}(/.*)?"), line.startswith("!")))
    kept = []
    for path in sorted(project.rglob("*")):
        name = path.relative_to(project).as_posix()
        fits = [back for pattern, back in rules if pattern.fullmatch(name)]
        if path.is_file() and (not fits or fits[-1]):
            kept.append(name)
    return kept


def instructions(project: Path) -> list[tuple[str, str]]:
    """The steps of the Dockerfile: instruction and arguments."""
    lines = [line for line in (project / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    steps = "\n".join(lines).replace("\\\n", "").splitlines()
    return [(name, rest) for name, _, rest in (step.partition(" ") for step in steps if step)]


@dataclass
class Image:
    """The result of the steps: the folder of `/`, the environment, and the commands that were not run."""

    root: Path
    env: dict[str, str]
    workdir: Path = Path()
    start: list[str] = field(default_factory=list)
    default: list[str] = field(default_factory=list)
    user: str = "root"
    left_out: list[str] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        return [*self.start, *(arguments or self.default)]


def build(project: Path, root: Path, **arguments: str) -> Image:
    """Run the steps. A new virtual environment with the tests' packages replaces the base image."""
    python = root / "usr"
    run(sys.executable, "-m", "venv", python, cwd=project)
    [packages] = python.glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    stubs = root / "stubs"  # replace programs that need root
    stubs.mkdir()
    for name in ("useradd", "chown", "chmod"):
        (stubs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {shlex.quote(str(root / "log"))}\n')
        (stubs / name).chmod(0o755)
    path = f"{stubs}:{python / 'bin'}:{os.environ['PATH']}"
    image = Image(root, {"PATH": path, "HOME": str(root), "OMP_NUM_THREADS": "1"})
    given: dict[str, str] = {}
    for name, rest in instructions(project):
        if name == "ARG":
            key, _, value = rest.partition("=")
            given[key] = arguments.get(key, value.strip('"'))
        elif name == "FROM":
            for key, value in given.items():
                rest = rest.replace(f"${{{key}}}", value)
            assert rest == "python:3.13-slim"
            given = {}  # an ARG before FROM applies only to FROM
        elif name == "ENV":
            for word in shlex.split(rest):
                key, _, value = word.partition("=")
                image.env[key] = f"{root}{value}" if value.startswith("/") else value
        elif name == "WORKDIR":
            image.workdir = root / rest.strip("/")
            image.workdir.mkdir(parents=True)
        elif name == "COPY":
            *sources, target = rest.split()
            for kept in let_through(project):
                for source in sources:
                    if kept == source or kept.startswith(f"{source}/"):
                        to = image.workdir / target / kept.removeprefix(source).strip("/")
                        to = to / kept if kept == source else to
                        to.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy(project / kept, to)
        elif name == "RUN" and "apt-get" in rest:
            image.left_out.append(rest)
        elif name == "RUN":
            done = subprocess.run(["sh", "-c", rest], cwd=image.workdir, env=image.env | given, capture_output=True)
            assert done.returncode == 0, done.stderr.decode()
        elif name == "USER":
            image.user = rest
        elif name == "ENTRYPOINT":
            image.start = json.loads(rest)
        elif name == "CMD":
            image.default = json.loads(rest)
        else:
            pytest.fail(f"no one looks after {name}")
    return image


@pytest.fixture(scope="module")
def with_docker(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an image, and with files that must not get into it."""
    project = tmp_path_factory.mktemp("docker") / "project"
    shutil.copytree(render(extras="docker"), project)
    save(project)
    secrets = [".env", "src/.env", "src/my_project/.env.local", "key.pem", "configs/__pycache__/train.pyc"]
    for name in [*secrets, "data/train/0/0.png", "checkpoints/run/last.pt", "src/my_project.egg-info/PKG-INFO"]:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("secret")
    return project


@pytest.fixture(scope="module")
def image(with_docker: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(with_docker, tmp_path_factory.mktemp("image"))


@pytest.mark.parametrize("extras", ["docker", EXTRAS])
def test_hadolint_reports_nothing(render: Render, extras: str) -> None:
    done = run(PYTHON.with_name("hadolint"), "Dockerfile", cwd=render(extras=extras), ok=False)
    assert done.returncode == 0, done.stdout


def test_only_sources_and_configs_get_into_the_image(with_docker: Path) -> None:
    kept = let_through(with_docker)
    sources = git("ls-files", "src", "configs", "pyproject.toml", cwd=with_docker).splitlines()
    assert sorted(kept) == sorted(sources)
    assert not [name for name in kept if (with_docker / name).read_bytes() == b"secret"]


def test_packages_come_before_sources_so_that_their_layer_is_cached(with_docker: Path) -> None:
    steps = instructions(with_docker)
    [install] = [index for index, (_, rest) in enumerate(steps) if "pip install" in rest]
    assert [rest for name, rest in steps[:install] if name == "COPY"] == ["pyproject.toml ./"]


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_run(image: Image) -> None:
    [compiler] = image.left_out  # Debian's packages can only be installed in an image
    assert "install --yes --no-install-recommends g++" in compiler
    assert image.user == "1000"
    log = (image.root / "log").read_text().splitlines()
    assert log == [
        "useradd --uid 1000 --create-home user",
        "chmod 1777 /home/user",
        "chown user: data checkpoints images",
    ]
    assert "usage: python -m my_project" in container(image, *image.command()).stdout


def container(image: Image, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command without this machine's environment."""
    env = " ".join(shlex.quote(f"{key}={value}") for key, value in image.env.items())
    return run("sh", "-c", f"exec env -i {env} {shlex.join(command)}", cwd=image.workdir, ok=ok)


@pytest.mark.slow
@pytest.mark.parametrize(("index", "expected"), [("", []), ("file:///builds", ["--index-url", "file:///builds"])])
def test_only_torch_comes_from_the_given_index(render: Render, tmp_path: Path, index: str, expected: list[str]) -> None:
    project = render(extras=EXTRAS)
    [install] = [rest for name, rest in instructions(project) if "pip install" in rest]
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@" >> pips\n')
    (tmp_path / "pip").chmod(0o755)
    shutil.copy(project / "pyproject.toml", tmp_path)
    run("sh", "-c", install, cwd=tmp_path, PATH=f"{tmp_path}:{PYTHON.parent}:{os.environ['PATH']}", TORCH_INDEX=index)
    first, second = (line.split() for line in (tmp_path / "pips").read_text().splitlines())
    assert first == ["install", "--no-cache-dir", *expected, "-r", "torch.txt"]
    assert second == ["install", "--no-cache-dir", "-r", "requirements.txt"]
    assert (tmp_path / "torch.txt").read_text() == "torch>=2.11\ntorchvision>=0.26\n"
    named = re.findall(r"^[\w-]+", (tmp_path / "requirements.txt").read_text(), re.MULTILINE)
    assert {"numpy", "torch", "onnxruntime", "fastapi", "optuna"} < set(named)
    assert not {"ruff", "pytest", "sphinx", "ipykernel", "submitit"} & set(named)


@pytest.fixture
def volumes(image: Image, with_docker: Path) -> Iterator[Path]:
    """The image's folder, with links to the project's data instead of mounts."""
    shutil.copy(with_docker / "data" / "sample.zip", image.workdir / "data")
    yield image.workdir
    for name in ("data", "checkpoints", "images"):
        shutil.rmtree(image.workdir / name)
        (image.workdir / name).mkdir()


@pytest.mark.slow
def test_sigterm_to_the_first_process_of_a_container_saves_the_run(image: Image, volumes: Path) -> None:
    def fixed() -> dict[str, tuple[bytes, int]]:
        changing = ("data/", "checkpoints/", "images/")
        return {name: file for name, file in tree(volumes).items() if not name.startswith(changing)}

    before = fixed()
    alone = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]  # is PID 1, as in a container
    possible = bool(shutil.which("unshare")) and run(*alone, "true", cwd=volumes, ok=False).returncode == 0
    options = ["train.limit_batches=2", "run.device=cpu", "run.name=stopped", "checkpoint.every_steps=1"]
    train = image.command("train", "configs/train.yaml", *options, "train.epochs=100000")
    started = subprocess.Popen(
        [*(alone if possible else []), *train],
        cwd=volumes,
        env=image.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with started:
        assert started.stdout
        for line in started.stdout:
            if line.startswith("epoch 2/"):
                break
        first = started.pid
        if possible:
            [first] = map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())
        os.kill(first, signal.SIGTERM)
        _, said = started.communicate(timeout=60)
    assert started.returncode == 75, said
    assert "stopped by SIGTERM" in said
    with open(volumes / "checkpoints" / "stopped" / "metrics.csv") as file:
        epochs = len(list(csv.reader(file)))
    container(image, *image.command("train", "--resume", f"train.epochs={epochs + 1}"))
    container(image, *image.command("test"))
    assert list((volumes / "images" / "result").glob("*.png"))
    assert fixed() == before, "it writes to the mounted folders alone"


# --- the development container ---

# Keys of the published schema, and the types of their values.
KEYS = {"name": str, "image": str, "hostRequirements": dict, "runArgs": list, "postCreateCommand": str}


@pytest.mark.parametrize("name", ["My project", "숫자 🙂", 'with "quotes" and \\'])
def test_the_development_container_is_described_in_json(render: Render, name: str) -> None:
    project = render(extras="devcontainer", project_name=name, package_name="my_project")
    described = json.loads((project / ".devcontainer" / "devcontainer.json").read_text())
    assert described["name"] == name
    vscode = described.pop("customizations")["vscode"]
    assert {key: type(value) for key, value in described.items()} == KEYS
    assert described["hostRequirements"] == {"gpu": "optional"}
    assert described["postCreateCommand"] == "make clean install", "an environment of the machine outside is of no use"
    assert set(vscode) == {"extensions", "settings"}
    for target in described["postCreateCommand"].removeprefix("make ").split():
        assert f"\n{target}:" in (project / "Makefile").read_text()


# --- CI ---


def workflow(render: Render) -> dict[Any, Any]:
    """The weekly workflow on GitHub."""
    whole: dict[Any, Any] = yaml.safe_load(
        (render(extras="weekly") / ".github" / "workflows" / "newest.yml").read_text()
    )
    return whole


def test_github_runs_the_newest_packages_weekly_and_on_demand(render: Render) -> None:
    whole = workflow(render)
    when = whole[True]  # YAML 1.1 reads `on` as a word for true
    assert set(when) == {"schedule", "workflow_dispatch"}
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", when["schedule"][0]["cron"])
    assert whole["permissions"] == {"contents": "read"}
    [job] = whole["jobs"].values()
    assert "continue-on-error" not in job, "a failure shows"
    assert "vars.PIP_EXTRA_INDEX_URL" in job["env"]["PIP_EXTRA_INDEX_URL"]


def gitlab(project: Path) -> dict[str, Any]:
    whole: dict[str, Any] = yaml.safe_load((project / ".gitlab-ci.yml").read_text())
    return whole


def test_gitlab_runs_lint_and_tests_on_pushes_and_merge_requests(render: Render) -> None:
    whole = gitlab(render(ci="gitlab"))
    assert whole["test"]["script"] == ["make lint", "make test"]
    assert whole["default"]["cache"]["paths"] == ["build/pip"]
    assert whole["variables"]["PIP_CACHE_DIR"].endswith("/build/pip")
    assert "PIP_EXTRA_INDEX_URL" in whole["variables"]
    assert "newest" not in whole
    assert "rules" not in whole["test"]


def test_gitlab_runs_only_the_newest_packages_in_a_schedule(render: Render) -> None:
    whole = gitlab(render(ci="gitlab", extras="weekly"))
    assert whole["newest"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "schedule" && $TEMPLATE_UPDATE == null'}]
    assert whole["test"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE != "schedule"'}]
    commands = [step["run"] for step in workflow(render)["jobs"]["test"]["steps"] if "run" in step]
    assert whole["newest"]["script"] == commands, "the same as on GitHub"


def test_renovate_gets_the_switch_for_bots_and_may_trust_only_copier(render: Render) -> None:
    project = render(extras="renovate")
    settings = json.loads((project / "renovate.json").read_text())
    assert settings["env"] == {extension("update.stages").BOTS: "1"}
    assert settings["copier"] == {"ignoreScripts": False}, "or it leaves out --trust"
    assert "ignoreScripts" not in settings
    [allowed] = re.findall(r"```json\n(.*)\n```", (project / "docs" / "updating.md").read_text())
    assert json.loads(allowed) == {"allowScripts": True, "allowedEnv": list(settings["env"])}


# --- the site ---


@pytest.mark.slow
@pytest.mark.parametrize(
    "answers",
    of_the_day(
        [
            {"extras": EXTRAS, "ci": "gitlab", "tracker": "mlflow"},
            *(
                {"data_kind": kind, "components": place, "extras": "docs_site"}
                for kind, place in itertools.product(KINDS, ["file", "folder"])
            ),
        ],
        1,
    ),
    ids=lambda answers: "-".join(value[:20] for value in answers.values()),
)
def test_the_site_is_built_without_warnings(render: Render, tmp_path: Path, answers: dict[str, str]) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(**answers), project)
    save(project)
    built = build_site(project)
    assert built.returncode == 0, built.stderr
    assert git("status", "--porcelain", cwd=project) == "", "git ignores what it makes"
    site = project / "build" / "site"
    pages = {
        path.relative_to(site).as_posix(): BeautifulSoup(path.read_text(), "html.parser")
        for path in site.rglob("*.html")
    }
    for page in (project / "docs").glob("*.md"):
        assert f"{page.stem}.html" in pages
        assert pages["index.html"].find("a", href=f"{page.stem}.html") or page.stem == "index"
    package = project / "src" / "my_project"
    for module in package.rglob("*.py"):
        parts = module.relative_to(package.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if parts[-1] == "__init__" or not parts[-1].startswith("_"):  # private ones have no page
            assert f"reference/{name}.html" in pages, name
    for name, soup in pages.items():
        for tag in soup.find_all(["a", "img", "link", "script"]):
            to = str(tag.get("href") or tag.get("src") or "")
            if to and not re.match(r"\w+:|#|//", to):
                path = (site / name).parent / re.split("[?#]", to)[0]
                assert path.exists(), f"{name} leads to {to}"


OWN = '''"""Of my own: `x` is code."""

import torch


def double(x: torch.Tensor) -> torch.Tensor:
    """Twice `x`.

    Args:
        x: of shape (N, C), in metres.

    Returns:
        the same shape.
    """
    return 2 * x
'''


def build_site(project: Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", "build/site"]
    return run(sys.executable, *command, cwd=project, ok=False)


@pytest.mark.slow
def test_the_site_shows_docstrings_and_drops_a_removed_module(render: Render, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(extras="docs_site"), project)
    package = project / "src" / "my_project"
    for path in package.glob("[!_]*"):  # their pages take long to build
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    own = package / "own.py"
    own.write_text(OWN)
    links = "See [the config](../configs/train.yaml) and [data](../data/README.md)."
    (project / "docs" / "notes.md").write_text(f"# Notes\n\n{links}\n")
    built = build_site(project)
    assert built.returncode == 0, built.stderr
    site = project / "build" / "site"
    page = BeautifulSoup((site / "reference" / "my_project.own.html").read_text(), "html.parser")
    assert "x" in [code.get_text() for code in page.find_all("code")]
    assert "of shape (N, C), in metres." in page.get_text()
    assert [str(title.contents[0]) for title in page.find_all("h1")] == ["own"]
    assert (site / "notes.html").is_file(), "a page of the owner's needs no entry"
    own.unlink()
    built = build_site(project)
    assert built.returncode == 0, built.stderr
    (project / "docs" / "notes.md").write_text("# Notes\n\nSee [nothing](no-such-page.md).\n")
    built = build_site(project)
    assert built.returncode == 1
    assert "no-such-page.md" in built.stderr


# --- uv ---


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("uv"), reason="uv is not installed")
def test_uv_installs_torch_from_the_index_that_the_docs_name(render: Render, tmp_path: Path) -> None:
    builds = os.environ.get("PIP_FIND_LINKS", "")
    if not (builds and list(Path(builds).glob("torch-*+cpu-*.whl"))):
        pytest.skip("there is no build of torch for the CPU at hand")
    project = tmp_path / "project"
    shutil.copytree(render(), project)
    page = (project / "docs" / "install.md").read_text()
    [settings] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    folder = settings.replace('"INDEX"', f'"{Path(builds).as_uri()}"\nformat = "flat"')
    with (project / "pyproject.toml").open("a") as file:
        file.write("\n" + folder)
    [block] = re.findall(r"```\n(uv venv.*?)```", page, re.DOTALL)
    for command in block.splitlines():
        done = run("sh", "-c", command, cwd=project)
    assert "usage: python -m my_project" in done.stdout
    save(project)
    assert "uv.lock" in git("ls-files", cwd=project).splitlines()
    locked = (project / "uv.lock").read_text()
    assert "nvidia-" not in locked
    run(".venv/bin/python", "-m", "pip", "--version", cwd=project)
    run("make", "lint", cwd=project)
    assert (project / "uv.lock").read_text() == locked
    python = project / ".venv" / "bin" / "python"
    assert run(python, "-c", "import torch; print(torch.__version__)", cwd=project).stdout.strip().endswith("+cpu")
