"""Each row of the promised layout exists and is used: one test per row."""

import configparser
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Render, git, in_project, run, tree

PACKAGE = Path("src/my_project")
OWN = {
    "loss": ["loss.name=FocalLoss", "loss.args={}"],
    "optim": ["optimizer.name=Lion", "optimizer.lr=0.0003"],
    "scheduler": ["scheduler.name=warmup_cosine"],
    "transforms": ["data.transforms={random_flip: {}, random_erase: {}}"],
}


@pytest.fixture(scope="session", params=[pytest.param(layout, marks=pytest.mark.slow) for layout in ("file", "folder")])
def trained(request: pytest.FixtureRequest, render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has trained one epoch with all its own components, and tested the result."""
    project = tmp_path_factory.mktemp(f"trained-{request.param}") / "project"
    shutil.copytree(render(components=request.param), project)
    options = [option for options in OWN.values() for option in options]
    configs = ["configs/train.yaml", "configs/debug.yaml"]
    in_project(project, "-m", "my_project", "train", *configs, "train.epochs=1", *options)
    in_project(project, "-m", "my_project", "test")
    return project


@pytest.fixture(scope="session")
def used(trained: Path) -> list[str]:
    """The modules that the package imports when a command runs."""
    command = (
        "import sys, my_project.cli, my_project.engine.loop, my_project.task, my_project.components as c;"
        "c.defined_in(c.model);"
        "my_project.cli.main(['check-data']);"
        "print(*(name.removeprefix('my_project.') for name in sys.modules))"
    )
    return in_project(trained, "-c", command).stdout.split()


def new(project: Path, render: Render, pattern: str) -> list[str]:
    """The files that match `pattern` and were written by training and testing."""
    made = set(tree(project)) - set(tree(render()))
    return sorted(name for name in made if Path(name).match(pattern))


@pytest.mark.parametrize("ending", ["json", "ini", "yaml", "py"])
def test_configs_has_what_to_run_in_the_chosen_format(render: Render, ending: str) -> None:
    project = render(config_format=ending)
    files = sorted((project / "configs").iterdir())
    assert [path.name for path in files] == [f"{name}.{ending}" for name in ("debug", "long", "train")]
    text = files[-1].read_text()
    if ending == "json":
        json.loads(text)
    elif ending == "ini":
        configparser.ConfigParser(interpolation=None).read_string(text)
    elif ending == "py":
        compile(text, "config", "exec")
    else:
        yaml.safe_load(text)


def test_docs_explains_each_config_format_with_the_same_example(render: Render) -> None:
    text = (render() / "docs" / "configs.md").read_text()
    for language in ("yaml", "json", "ini", "python"):
        assert f"```{language}\n" in text, language


def test_data_has_a_folder_per_class_in_train_valid_and_test(trained: Path) -> None:
    readme = (trained / "data" / "README.md").read_text()
    with zipfile.ZipFile(trained / "data" / "sample.zip") as archive:
        names = archive.namelist()
    for split in ("train", "valid", "test"):
        classes = sorted(path.name for path in (trained / "data" / split).iterdir())
        assert classes == [str(digit) for digit in range(10)]
        assert all(any(name.startswith(f"{split}/{label}/") for name in names) for label in classes)
        assert f"{split}/" in readme


@pytest.mark.parametrize(
    "page", ["install", "running", "cluster", "faults", "api", "configs", "data", "recipes", "updating"]
)
def test_docs_has_each_page_and_a_link_to_it(render: Render, page: str) -> None:
    project = render()
    assert len((project / "docs" / f"{page}.md").read_text().split()) > 50
    assert f"docs/{page}.md" in (project / "README.md").read_text()


def test_links_between_pages_are_valid(render: Render) -> None:
    project = render()
    for page in project.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            if not re.match(r"\w+:", link):
                assert (page.parent / link).exists(), f"{page.relative_to(project)} links to {link}"


def test_images_has_what_the_loader_yields(trained: Path, render: Render) -> None:
    assert (trained / "images" / "loader" / "example.png").is_file()
    assert new(trained, render, "images/loader/*.png")


def test_images_has_samples_that_a_trained_model_can_be_tried_on(trained: Path) -> None:
    samples = list((trained / "images" / "sample").iterdir())
    said = in_project(trained, "-m", "my_project", "run", "images/sample", "--json").stdout
    assert len(json.loads(said)) == len([path for path in samples if path.suffix == ".png"]) > 0


def test_images_has_results(trained: Path, render: Render) -> None:
    assert (trained / "images" / "result" / "example.png").is_file()
    assert len(new(trained, render, "images/result/*.png")) >= 3


def test_checkpoints_has_trained_models_under_a_naming_rule(trained: Path) -> None:
    assert (trained / "checkpoints" / "README.md").is_file()
    (folder,) = [path for path in (trained / "checkpoints").iterdir() if path.is_dir()]
    names = sorted(path.name for path in folder.iterdir())
    assert {"config.yaml", "last.pt", "metrics.csv"} < set(names)
    assert [name for name in names if re.fullmatch(r"cnn-e001-acc[01]\.\d{4}\.pt", name)]
    overrides = ["run.name={seed}", "checkpoint.name=best-{step}", "train.epochs=1"]
    configs = ["configs/train.yaml", "configs/debug.yaml"]
    in_project(trained, "-m", "my_project", "train", *configs, *overrides, "run.checkpoints=build/own")
    assert list((trained / "build" / "own" / "0").glob("best-*.pt"))


@pytest.mark.parametrize("name", ["0_data", "1_tutorial"])
def test_notebooks_has_content_about_this_project(render: Render, name: str) -> None:
    notebook = json.loads((render() / "notebooks" / f"{name}.ipynb").read_text())
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    words = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    assert len(code) >= 4
    assert len(words) >= 4
    assert "my_project" in "\n".join(code)
    assert not any(cell.get("outputs") for cell in notebook["cells"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # for warnings of Jupyter itself
def test_a_notebook_runs_in_a_kernel(render: Render, tmp_path: Path) -> None:
    """test_kinds.py runs the cells of all notebooks without a kernel."""
    project = tmp_path / "project"
    shutil.copytree(render(), project)
    command = (
        "import nbformat, nbclient, sys; book = nbformat.read(sys.argv[1], as_version=4);"
        "nbclient.NotebookClient(book, timeout=300, resources={'metadata': {'path': 'notebooks'}}).execute()"
    )
    in_project(project, "-c", command, "notebooks/1_tutorial.ipynb", cold=True)


@pytest.mark.parametrize("name", ["train", "test", "run"])
def test_scripts_has_each_command_and_it_works_from_any_folder(
    render: Render, python: Path, tmp_path: Path, name: str
) -> None:
    project = render()
    script: list[str | Path] = [
        "env",
        f"PYTHON={python}",
        f"PYTHONPATH={project / 'src'}",
        project / "scripts" / f"{name}.sh",
    ]
    (tmp_path / "my_project.py").write_text("raise SystemExit('a module of the current folder')\n")
    assert f"-m my_project {name} " in run(*script, "--help", cwd=tmp_path).stdout
    refused = run(*script, "no/such/thing", cwd=tmp_path, ok=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("part", ["dataset", "dataloader", "model", "train", "valid", "test"])
def test_test_has_unit_tests_of_each_part(render: Render, part: str) -> None:
    text = (render() / "test" / f"test_{part}.py").read_text()
    assert len(re.findall(r"^def test_", text, re.MULTILINE)) >= 2


@pytest.mark.parametrize("module", ["data.dataset", "data.dataloader", "data.utils"])
def test_package_has_dataset_dataloader_and_data_utils(used: list[str], module: str) -> None:
    assert module in used


@pytest.mark.parametrize("module", ["model.cnn", "model.resnet", "model.utils"])
def test_package_has_models_and_model_utils(used: list[str], module: str) -> None:
    assert module in used


def test_package_has_visualization(used: list[str]) -> None:
    assert "visualization.plots" in used


@pytest.mark.parametrize("part", ["loss", "optim", "scheduler", "transforms"])
def test_package_has_own_components_that_a_run_has_used(trained: Path, part: str) -> None:
    (path,) = [path for path in (trained / PACKAGE).iterdir() if path.stem == part]
    (config,) = (trained / "checkpoints").glob("*/config.yaml")
    names = [option.rpartition("=")[2].strip("{").split(":")[0] for option in OWN[part][:1]]
    files = [path] if path.is_file() else list(path.glob("*.py"))
    for name in names:
        assert any(re.search(rf"^(def|class) {name}\b", file.read_text(), re.MULTILINE) for file in files)
        assert name in config.read_text()


def test_components_are_one_file_each_or_one_folder_each(render: Render) -> None:
    for part in OWN:
        assert (render(components="file") / PACKAGE / f"{part}.py").is_file()
        assert not (render(components="file") / PACKAGE / part).exists()
        assert (render(components="folder") / PACKAGE / part / "__init__.py").is_file()
        assert not (render(components="folder") / PACKAGE / f"{part}.py").exists()


def test_setup_py_installs_by_the_metadata_of_pyproject(render: Render, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(), project)
    assert in_project(project, "setup.py", "--name", "--version").stdout.split()[-2:] == ["my_project", "0.1.0"]
    assert len((project / "setup.py").read_text().splitlines()) < 10


# --- small enough to read ---


def test_the_example_equals_a_new_render(render: Render) -> None:
    fresh = tree(render(project_name="Digits"))
    del fresh[".copier-answers.yml"]
    assert tree(ROOT / "examples" / "digits") == fresh, "make example"


def test_a_project_has_at_most_92_files(render: Render) -> None:
    assert len(tree(render())) <= 92


def test_a_project_has_at_most_4600_lines_of_python(render: Render) -> None:
    lines = {path: len(path.read_text().splitlines()) for path in render().rglob("*.py")}
    assert sum(lines.values()) <= 4600


def test_the_questions_have_at_most_150_lines_and_the_switches_come_after_them() -> None:
    questions, _, switches = (ROOT / "copier.yml").read_text().partition("\n# Switches")
    assert len(questions.splitlines()) <= 150
    assert "when: false" not in questions
    assert not [key for key, value in yaml.safe_load("#" + switches).items() if value["when"] is not False]


def test_paths_of_the_template_are_short_plain_and_seen_by_editors() -> None:
    paths = git("ls-files", "-z", "template", "extensions", cwd=ROOT).split("\0")[:-1]
    assert max(map(len, paths)) <= 90  # Windows allows 260, including the path of Copier's clone
    assert [path for path in paths if " " in path or "%" in path] == []
    rooms = {name for path in paths for name in re.findall(r"{{(\w+)}}", path)}
    assert rooms <= yaml.safe_load((ROOT / "copier.yml").read_text()).keys()


def test_each_switch_names_a_room_or_a_file() -> None:
    settings = yaml.safe_load((ROOT / "copier.yml").read_text())
    switches = {key for key, value in settings.items() if not key.startswith("_") and value.get("when") is False}
    paths = git("ls-files", "-z", "template", cwd=ROOT)
    assert [switch for switch in switches if f"{{{{{switch}}}}}" not in paths] == []


@pytest.mark.parametrize("components", ["file", "folder"])
@pytest.mark.parametrize("tracker", ["none", "tensorboard"])
def test_docs_api_gives_the_purpose_of_each_file(render: Render, components: str, tracker: str) -> None:
    project = render(components=components, tracker=tracker)
    api = (project / "docs" / "api.md").read_text()
    for name in tree(project):
        path = Path(name)
        if path.name == "__init__.py" and not (project / path).read_text().strip():
            continue
        folder = path.suffix in (".png", ".zip") and f"{path.parent}/" in api
        assert path.name in api or folder, f"docs/api.md doesn't name {name}"
    for name in re.findall(r"^\| `([^`]+)` \|", api.partition("## The contract")[0], re.MULTILINE):
        there = (project / name).exists() or (project / PACKAGE / name).exists()
        assert there, f"docs/api.md names {name}, which is not there"


def test_no_file_contains_a_path_of_this_machine(render: Render) -> None:
    places = [str(ROOT), str(Path.home()) + "/"]
    for name, (content, _) in tree(render()).items():
        if name != ".copier-answers.yml":
            assert not any(place.encode() in content for place in places if len(place) > 2), name
