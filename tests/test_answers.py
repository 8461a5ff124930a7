"""Each answer makes a valid project, or is refused with a message that says what is allowed."""

import ast
import importlib.metadata
import keyword
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import QUESTIONS, ROOT, Render, copier_copy, in_project, run, with_copier

NAME = re.compile(r"[a-z]([a-z0-9_]*[a-z0-9])?")

LETTERS = "use a-z, 0-9, _, like my_project"
LINE = "one line of printable text"
START = "Validation error for question '{}': "
ADDRESS = "name@example.com"
REFUSED = [
    ("package_name", "", LETTERS),
    ("package_name", "My_Project", LETTERS),
    ("package_name", "my-project", LETTERS),
    ("package_name", "my project", LETTERS),
    ("package_name", "2net", LETTERS),
    ("package_name", "_net", LETTERS),
    ("package_name", "net_", LETTERS),
    ("package_name", "net\n", LETTERS),
    ("package_name", "프로젝트", LETTERS),
    ("package_name", "../net", LETTERS),
    ("package_name", "net/../../x", LETTERS),
    ("package_name", "{{ project_name }}", LETTERS),
    ("package_name", "x" * 31, "at most 30"),
    ("package_name", "class", "use class_project: class is"),
    ("package_name", "json", "use json_project: json is"),
    ("package_name", "test", "use test_project: test is"),
    ("package_name", "torch", "use torch_project: torch is"),
    ("package_name", "pil", "use pil_project: pil is"),
    ("package_name", "pillow", "use pillow_project: pillow is"),
    ("package_name", "setuptools", "use setuptools_project: setuptools is"),
    ("package_name", "src", "use src_project: src is"),
    ("package_name", "setup", "use setup_project: setup is"),
    ("package_name", "con", "use con_project: con is"),
    ("project_name", "", "at least one"),
    ("project_name", " ", "spaces"),
    ("project_name", "x" * 81, "at most 80"),
    ("project_name", "a\nb", LINE),
    ("project_name", "a\x7fb", LINE),
    ("project_name", "a\u202eb", LINE),
    ("description", "a\tb", LINE),
    ("description", "a\x00b", LINE),
    ("description", "a\u2028b", LINE),
    ("description", "ends with a space ", "spaces"),
    ("description", "x" * 201, "at most 200"),
    ("user_name", "a\r\nb", LINE),
    ("user_name", "\x1b[31mred", LINE),
    ("user_name", "x" * 81, "at most 80"),
    ("user_email", "nobody", ADDRESS),
    ("user_email", "a b@example.com", ADDRESS),
    ("user_email", "a@b", ADDRESS),
    ("user_email", "a..b@example.com", ADDRESS),
    ("user_email", "a@example.com\nb@example.com", ADDRESS),
    ("user_email", "이름@example.com", ADDRESS),
    ("license", "WTFPL", "MIT"),
    ("data_kind", "smells", "image_classification"),
    ("config_format", "toml", "yaml"),
    ("components", "drawer", "folder"),
    ("tracker", "paper", "tensorboard"),
    ("extras", "toys", "sweep"),
    ("ci", "pigeons", "github"),
]
BY_COMMAND = [REFUSED[2], REFUSED[13], REFUSED[26], REFUSED[37], REFUSED[43]]


@pytest.mark.parametrize(("question", "answer", "allowed"), REFUSED, ids=lambda value: ascii(value)[:30])
def test_a_bad_answer_is_refused(plain: Path, tmp_path: Path, question: str, answer: str, allowed: str) -> None:
    with pytest.raises(ValueError, match=question) as refusal:
        copier_copy(plain, tmp_path / "project", **{question: answer})
    assert allowed in str(refusal.value)
    assert "\n" not in str(refusal.value)
    if "validator" in QUESTIONS[question] and "choices" not in QUESTIONS[question]:
        # Copier shows one line: what to do comes first, and fits in 80 columns
        assert len(re.split("[:;] ", str(refusal.value).partition(": ")[2])[0]) <= 80 - len(START.format(question))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("question", "answer", "allowed"), BY_COMMAND, ids=lambda value: ascii(value)[:30])
def test_copier_fails_with_the_message(plain: Path, tmp_path: Path, question: str, answer: str, allowed: str) -> None:
    words: list[str | Path] = ["-m", "copier", "copy", "--defaults", "-d", f"{question}={answer}", plain, "project"]
    done = with_copier(*words, cwd=tmp_path, ok=False)
    assert done.returncode != 0
    assert question in done.stderr
    assert allowed in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_bad_answers_covers_every_question() -> None:
    settings = yaml.safe_load((ROOT / "copier.yml").read_text())
    questions = {key for key, value in settings.items() if not key.startswith("_") and value.get("when") is not False}
    assert {question for question, _, _ in REFUSED} == questions


def test_questions_and_choices_fit_in_80_columns() -> None:
    for about in (about for key, about in QUESTIONS.items() if not key.startswith("_")):
        for text in (about.get("help", ""), *about.get("choices", [])):
            assert len(text) <= 80 - len(" > o  "), text


@pytest.fixture(scope="session")
def names() -> dict[str, set[str]]:
    """The lists in extensions/names.jinja."""
    source = (ROOT / "extensions" / "names.jinja").read_text()
    return {name: set(words.split()) for name, words in re.findall(r"set (\w+) = '''(.*?)'''", source, re.DOTALL)}


def test_the_lists_have_every_keyword_and_standard_module(names: dict[str, set[str]]) -> None:
    assert set(filter(NAME.fullmatch, keyword.kwlist)) <= names["keywords"]
    assert set(filter(NAME.fullmatch, sys.stdlib_module_names)) <= names["standard"]


def test_the_list_has_every_package_that_a_project_installs(names: dict[str, set[str]]) -> None:
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]}
    for package in pinned:
        files = importlib.metadata.files(package) or []
        modules = {file.parts[0].partition(".")[0].lower() for file in files if file.suffix == ".py"}
        modules.add(re.sub("[-.]+", "_", package).lower())
        assert set(filter(NAME.fullmatch, modules)) <= names["installed"] | names["standard"], package


@pytest.mark.parametrize(
    ("project_name", "package_name"),
    [
        ("My project", "my_project"),
        ("DigitNet v2.1", "digitnet_v2_1"),
        ("-- a  b --", "a_b"),
        ("숫자 분류기", "my_project"),
        ("🙂", "my_project"),
        ("3D", "project_3d"),
        ("2024", "my_project"),
        ("Torch", "project_torch"),
        ("import", "project_import"),
        ("json", "project_json"),
        ("x" * 80, "x" * 30),
        ("deep-learning-project-structure", "deep_learning_project"),
        ("Vögel & Söhne 한글", "voegel_soehne"),
        ("Größe ÄÖÜ", "groesse_aeoeue"),
        ("Gro\u0308ße e\u0301te\u0301", "groesse_ete"),
        ("Señal Łódź Çeşme", "senal_lodz_cesme"),
        ("Nhận dạng tiếng Việt", "nhan_dang_tieng_viet"),
        ("Øre İstanbul", "ore_istanbul"),
        ("Clásse", "classe"),
        ("clàss", "project_class"),
        ("abcdefghij " * 2 + "abcdefgh xyz", "abcdefghij_abcdefghij_abcdefgh"),
    ],
)
def test_the_package_name_follows_from_the_project_name(render: Render, project_name: str, package_name: str) -> None:
    assert (render(project_name=project_name) / "src" / package_name).is_dir()


ODD = [
    "숫자 분류기",
    "🙂 digits",
    'it\'s "quoted" \'\'\'and\'\'\' """again"""',
    "back\\slash \\n \\u0041 \\",
    "#hash: {braces} [brackets] <tag> & %percent% $dollar `tick`",
    "{{ 7 * 7 }} {% raw %} {# no #}",
    "- yes: |",
    "&anchor *alias !tag ? @at",
    "null",
    "1e3",
    "ß İ ǅ e\u0301 \u200d",
]


@pytest.mark.parametrize("text", [*ODD[:4], *(pytest.param(text, marks=pytest.mark.slow) for text in ODD[4:])])
def test_odd_text_is_copied_unchanged(render: Render, text: str) -> None:
    project = render(project_name=text, description=text, user_name=text, user_email="o'neil+x@example.com")
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["description"] == text
    assert metadata["authors"] == [{"name": text, "email": "o'neil+x@example.com"}]
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text())
    assert {answers[key] for key in ("project_name", "description", "user_name")} == {text}
    assert text in (project / "README.md").read_text()
    assert text in (project / "LICENSE").read_text()
    for module in project.rglob("*.py"):
        ast.parse(module.read_text(), module.name)


@pytest.mark.parametrize(
    ("user_name", "user_email", "authors"),
    [
        ("", "", None),
        ("Lee", "", [{"name": "Lee"}]),
        ("", "lee@example.com", [{"email": "lee@example.com"}]),
    ],
)
def test_the_author_may_stay_empty(
    render: Render, user_name: str, user_email: str, authors: list[dict[str, str]] | None
) -> None:
    project = render(user_name=user_name, user_email=user_email, description="")
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata.get("authors") == authors
    assert "description" not in metadata


@pytest.mark.parametrize(
    ("license", "words"),
    [
        ("MIT", "Permission is hereby granted, free of charge"),
        ("Apache-2.0", "Apache License"),
        ("BSD-3-Clause", "Redistribution and use in source and binary forms"),
        ("GPL-3.0-or-later", "GNU GENERAL PUBLIC LICENSE"),
        ("none", "All rights reserved"),
    ],
)
def test_the_license_file_matches_the_answer(render: Render, license: str, words: str) -> None:
    project = render(license=license, user_name="Lee")
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    text = (project / "LICENSE").read_text()
    assert metadata["license"] == ("LicenseRef-Proprietary" if license == "none" else license)
    assert words in text
    assert "Copyright" in text
    assert text == text.rstrip() + "\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "answers",
    [
        {"project_name": ODD[0], "package_name": "ab", "user_name": ODD[1], "license": "none"},
        {"project_name": ODD[2], "package_name": "a" * 30, "user_name": ODD[2], "license": "GPL-3.0-or-later"},
        {"project_name": ODD[4], "description": ODD[3], "user_name": ODD[3], "user_email": "a@b.example"},
        {"project_name": ODD[5], "description": "", "user_email": "a@b.example", "license": "Apache-2.0"},
    ],
)
def test_odd_answers_make_a_project_that_installs(render: Render, tmp_path: Path, answers: dict[str, str]) -> None:
    project = tmp_path / "프로젝트 one"
    project.parent.mkdir(exist_ok=True)
    source = render(**answers)
    run("cp", "-r", source, project, cwd=tmp_path)
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", f"--target={tmp_path / 'site'}"]
    run(sys.executable, *install, project, cwd=tmp_path)
    package = answers.get("package_name") or next(path.name for path in (source / "src").iterdir())
    show = f"import importlib.metadata as m; print(m.version({package!r}))"
    assert run(sys.executable, "-c", show, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")).stdout == "0.1.0\n"
    assert "usage" in in_project(project, "-m", package, "--help").stdout


def test_copier_settings_fill_in_the_author(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "settings.yml"
    settings.write_text("defaults:\n  user_name: Lee\n  user_email: lee@example.com\n")
    monkeypatch.setenv("COPIER_SETTINGS_PATH", str(settings))
    copier_copy(plain, tmp_path / "project")
    metadata = tomllib.loads((tmp_path / "project" / "pyproject.toml").read_text())["project"]
    assert metadata["authors"] == [{"name": "Lee", "email": "lee@example.com"}]
