"""`extensions/update` works with other templates: small ones that use the features of public ones."""

import contextlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import copier
import plumbum
import pytest
import yaml
from conftest import ROOT, extension, git, save, tree, unmerged
from renders import scripts

pytestmark = pytest.mark.slow

MIGRATION: dict[str, Any] = {
    "command": [
        "{{ _copier_python }}",
        "{{ _copier_conf.src_path / 'extensions' / 'update' }}",
        "copier",
        "{{ _copier_conf.answers_file }}",
        "{{ _copier_conf.conflict }}",
        "{{ _copier_conf.exclude | list | to_json }}",
        "{{ _copier_conf.skip_tasks | to_json }}",
    ],
    "when": True,
}
ANSWERS = "{{ _copier_conf.answers_file }}"
PLACE = "# Changes here will be overwritten by Copier\n{{ _copier_answers | to_nice_yaml }}"
OLD, NEW = "one = 1\n\n\n\ntwo = 2\n", "one = 1\n\n\n\ntwo = 2  # later\n"
MOVES = {"v2.0.0": [{"from": ["src/*/first.py"], "to": "src/*/inner/second.py"}]}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def release(template: Path, version: str, files: dict[str, str], **settings: Any) -> None:
    """A version of a template that has these files and settings, and a copy of the update."""
    for path in template.iterdir() if template.exists() else ():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    name = settings.pop("name", "copier.yml")
    own, envops = settings.pop("_migrations", []), settings.get("_envops", {})
    marks = {"{{": envops.get("variable_start_string", "{{"), "}}": envops.get("variable_end_string", "}}")}
    entry = json.loads(re.sub("{{|}}", lambda mark: marks[mark[0]], json.dumps(MIGRATION)))
    settings = {"_subdirectory": "inside", "package": {"default": "fish"}, **settings, "_migrations": [entry, *own]}
    lists = {"moves.yml": settings.pop("moves", MOVES), "ownership.yml": {}}
    shutil.copytree(ROOT / "extensions" / "update", template / "extensions" / "update", ignore=without_caches)
    write(template / "extensions", {key: yaml.safe_dump(value) for key, value in lists.items()})
    write(template, {name: yaml.safe_dump(settings, sort_keys=False), **files})
    save(template, version)
    git("tag", version, cwd=template)


without_caches = shutil.ignore_patterns("__pycache__")


def copy(template: Path, project: Path, **options: Any) -> None:
    copier.run_copy(str(template), project, vcs_ref="v1.0.0", defaults=True, unsafe=True, quiet=True, **options)


def update(project: Path, **options: Any) -> None:
    """Update by Copier, which runs the program before and after its own changes."""
    copier.run_update(project, defaults=True, unsafe=True, quiet=True, overwrite=True, **options)


def begun(template: Path, project: Path, **options: Any) -> Path:
    """A project of the first version, with an edit at the top of a file that the second moves."""
    copy(template, project, **options)
    save(project, "as copied")
    first = next(project.rglob("first.py"))
    first.write_text(f"# own\n{first.read_text()}")
    save(project, "edited")
    return project


def program(template: Path, project: Path, *words: str, status: int = 0) -> str:
    """Run the program on a project, in this process; returns its output."""
    main = scripts(template, git("rev-parse", "HEAD", cwd=template))["update.commands"].main
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        assert main([str(project), *words]) == status, said.getvalue()
    return said.getvalue()


def two_releases(template: Path, old: dict[str, str], new: dict[str, str], **settings: Any) -> None:
    """Two releases; the second one moves `first.py` and changes its last line."""
    for version, files, module, text in (("v1.0.0", old, "first", OLD), ("v2.0.0", new, "inner/second", NEW)):
        names = {f"inside/src/{{{{ package }}}}/{module}.py.jinja": text, f"inside/{ANSWERS}.jinja": PLACE}
        release(template, version, {**names, **files}, **settings)


def assert_followed(project: Path) -> None:
    """The file has moved, with the edits of owner and template."""
    assert not list(project.rglob("first.py"))
    assert (project / "src" / "fish" / "inner" / "second.py").read_text() == f"# own\n{NEW}"
    assert unmerged(project) == []


def both_ways(template: Path, project: Path) -> None:
    """Update by the program, undo, update by Copier: the edit follows the move, and undo restores everything."""
    before = tree(project)
    program(template, project, "--defaults")
    assert_followed(project)
    after = tree(project)
    program(template, project, "--undo")
    assert (tree(project), git("status", "--short", cwd=project)) == (before, "")
    update(project)
    assert_followed(project)
    ignored = set(git("ls-files", "--others", "--ignored", "--exclude-standard", cwd=project).split())
    assert {path for path, content in tree(project).items() if after.get(path) != content} <= ignored


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return tmp_path / "template"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


# --- settings of Copier ---


def test_a_template_with_jinja_extensions_is_rendered(template: Path, project: Path) -> None:
    files = {
        "inside/list.txt.jinja": "{% for n in [1, 2, 3] %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}\n"
    }
    two_releases(template, files, files, _jinja_extensions=["jinja2.ext.loopcontrols"])
    both_ways(template, begun(template, project))


def test_a_folder_may_be_made_for_each_item_of_a_list(template: Path, project: Path) -> None:
    each = "inside/{% yield item from ['a', 'b'] %}{{ item }}{% endyield %}/in/item.txt.jinja"
    two_releases(template, {each: "{{ item }}\n"}, {each: "{{ item }}, later\n"})
    both_ways(template, begun(template, project))
    assert [(project / item / "in" / "item.txt").read_text() for item in "ab"] == ["a, later\n", "b, later\n"]


TASK = """
import pathlib, subprocess, sys
pathlib.Path('made.txt').write_text(sys.argv[1])
pathlib.Path('unwanted.txt').unlink()
pathlib.Path('venv').mkdir(exist_ok=True)
pathlib.Path('venv', 'ignored').write_text(sys.argv[1])
source = pathlib.Path('format.txt')
source.write_text(source.read_text().upper())
if sys.argv[2] == 'copy':
    subprocess.run(['git', 'init', '--quiet'], check=True)
"""


def test_changes_made_by_tasks_are_merged(template: Path, project: Path) -> None:
    for version, module, text in (("v1.0.0", "first", OLD), ("v2.0.0", "inner/second", NEW)):
        command = [sys.executable, "-c", TASK, version, "{{ _copier_operation }}"]
        files = {
            f"inside/src/{{{{ package }}}}/{module}.py.jinja": text,
            f"inside/{ANSWERS}.jinja": PLACE,
            "inside/format.txt": f"formatted by a task\n\n\n\nof {version}\n",
            "inside/.gitignore": "venv/\n",
            "inside/.gitattributes": "*.txt text\n",
            "inside/unwanted.txt": "a task deletes it\n",
        }
        release(template, version, files, _tasks=[{"command": command}])
    begun(template, project)
    (project / "format.txt").write_text("FORMATTED BY A TASK, OWN\n\n\n\nOF V1.0.0\n")
    save(project, "own")
    both_ways(template, project)
    assert (project / "format.txt").read_text() == "FORMATTED BY A TASK, OWN\n\n\n\nOF V2.0.0\n"
    assert (project / "made.txt").read_text() == "v2.0.0"
    staged = git("ls-files", cwd=project).split()
    assert "made.txt" in staged
    assert "venv/ignored" not in staged


def test_a_new_file_of_a_task_is_added_by_both_ways(template: Path, project: Path) -> None:
    task = "pathlib.Path('made.txt').exists() or pathlib.Path('made.txt').symlink_to('format.txt')"
    two_releases(template, {}, {})
    git("tag", "--delete", "v2.0.0", cwd=template)
    command = [sys.executable, "-c", f"import pathlib; {task}"]
    files = {"inside/src/{{ package }}/inner/second.py": NEW, f"inside/{ANSWERS}.jinja": PLACE}
    release(template, "v2.0.0", files, _tasks=[{"command": command}])
    both_ways(template, begun(template, project))
    assert (project / "made.txt").is_symlink()
    assert "A  made.txt" in git("status", "--short", cwd=project)


def test_tasks_that_the_owner_skips_do_not_run(template: Path, project: Path) -> None:
    mark = project.with_name("mark")
    two_releases(template, {}, {}, _tasks=[{"command": [sys.executable, "-c", f"open({str(mark)!r}, 'w')"]}])
    begun(template, project)
    mark.unlink()
    update(project, skip_tasks=True)
    assert_followed(project)
    assert not mark.exists()


def test_a_template_may_set_delimiters_suffix_and_settings_file(template: Path, project: Path) -> None:
    envops = {"block_start_string": "[%", "block_end_string": "%]"}
    envops |= {"variable_start_string": "[[", "variable_end_string": "]]"}
    for version, module, text in (("v1.0.0", "first", OLD), ("v2.0.0", "inner/second", NEW)):
        files = {
            f"inside/src/[[ package ]]/{module}.py.tmpl": text,
            "inside/[[ _copier_conf.answers_file ]].tmpl": "[[ _copier_answers | to_nice_yaml ]]",
            "inside/[% if package == 'fish' %]sea[% else %]land[% endif %]/{{ kept }}.txt": "as it is\n",
        }
        release(template, version, files, _envops=envops, _templates_suffix=".tmpl", name="copier.yaml")
    both_ways(template, begun(template, project))
    assert (project / "sea" / "{{ kept }}.txt").exists()


def test_settings_may_be_included_and_the_subdirectory_templated(template: Path, project: Path) -> None:
    for version, module, text in (("v1.0.0", "first", OLD), ("v2.0.0", "inner/second", NEW)):
        files = {
            f"{{{{ own }}}}/src/{{{{ package }}}}/{module}.py": text,
            f"{{{{ own }}}}/{ANSWERS}": PLACE,
            "parts/settings.yml": "_subdirectory: '{% raw %}{{ own }}{% endraw %}'\n_templates_suffix: ''\n",
            "parts/questions.yml": "package:\n  default: fish\n",
            "parts/migrations.yml": yaml.safe_dump({"_migrations": [MIGRATION]}),
            "copier.yml": "---\n!include parts/*.yml\n---\nlast:\n  default: 1\n",
        }
        release(template, version, files)
    both_ways(template, begun(template, project))


def test_a_template_without_a_subdirectory_excludes_its_own_files(template: Path, project: Path) -> None:
    for version, module, text in (("v1.0.0", "first", OLD), ("v2.0.0", "inner/second", NEW)):
        files = {f"src/{{{{ package }}}}/{module}.py": text, f"{ANSWERS}.jinja": PLACE}
        exclude = ["copier.yml", "/extensions", ".git"]
        release(template, version, files, _subdirectory="", _exclude=exclude)
    begun(template, project)
    write(project, {"extensions": "a file here, and a folder in the repository of the template\n"})
    save(project, "own")
    both_ways(template, project)


def test_the_template_may_name_its_answers_file_and_have_it_in_a_folder(template: Path, project: Path) -> None:
    two_releases(template, {}, {}, _answers_file=".config/fish.yml")
    begun(template, project)
    assert (project / ".config" / "fish.yml").exists()
    before = tree(project)
    program(template, project, "--defaults")
    assert_followed(project)
    program(template, project, "--undo")
    assert tree(project) == before
    update(project, answers_file=".config/fish.yml")
    assert_followed(project)


def test_two_templates_update_one_project_each_with_its_answers_file(
    template: Path, project: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    two_releases(template, {}, {}, package={"default": "fish"})
    for version in ("v1.0.0", "v2.0.0"):
        files = {"inside/other.txt": version, f"inside/{ANSWERS}.jinja": PLACE}
        release(other, version, files, bird={"default": "owl"}, moves={})
    begun(template, project)
    name = ".copier-answers.other.yml"
    copy(other, project, answers_file=name)
    save(project, "with the other template")
    program(other, project, "--defaults", "--answers-file", name)
    save(project, "the other template updated")
    assert (project / "other.txt").read_text() == "v2.0.0"
    recorded = yaml.safe_load((project / name).read_text())
    assert (recorded["_commit"], recorded["bird"]) == ("v2.0.0", "owl")
    assert yaml.safe_load((project / ".copier-answers.yml").read_text())["_commit"] == "v1.0.0"
    both_ways(template, project)
    save(project, "updated")
    assert (project / "other.txt").read_text() == "v2.0.0"


def test_files_may_say_which_version_of_which_template_they_are_from(template: Path, project: Path) -> None:
    says = "by {{ _copier_answers._src_path }}\n\n\n\nat {{ _copier_answers._commit }}\n"
    two_releases(template, {"inside/README.md.jinja": says}, {"inside/README.md.jinja": says})
    begun(template, project)
    (project / "README.md").write_text(f"by {template}, and by me\n\n\n\nat v1.0.0\n")
    save(project, "own")
    both_ways(template, project)
    assert (project / "README.md").read_text() == f"by {template}, and by me\n\n\n\nat v2.0.0\n"


def test_a_template_may_read_the_answers_to_another_one(template: Path, project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    release(other, "v1.0.0", {f"inside/{ANSWERS}.jinja": PLACE}, bird={"default": "owl"}, moves={})
    files = {"inside/birds.txt.jinja": "{{ bird }} {{ _external_data.other.bird }}\n"}
    settings: dict[str, Any] = {
        "other": {"default": ".copier-answers.other.yml"},
        "_external_data": {"other": "{{ other }}"},
        "bird": {"default": "{{ _external_data.other.bird }}"},
    }
    later = {"inside/birds.txt.jinja": f"{files['inside/birds.txt.jinja']}\n\n\nlater\n"}
    two_releases(template, files, later, **settings)
    copy(other, project, answers_file=".copier-answers.other.yml", data={"bird": "crow"})
    begun(template, project)
    program(template, project, "--defaults")  # `copier update` itself warns that its copies lack the file
    assert_followed(project)
    assert (project / "birds.txt").read_text() == "crow crow\n\n\n\nlater\n"
    assert ".copier-answers.other.yml" not in git("diff", "--name-only", "HEAD", cwd=project)


# --- questions ---


def test_secret_hidden_and_conditional_questions_work(template: Path, project: Path) -> None:
    questions: dict[str, Any] = {
        "token": {"default": "none", "secret": True},
        "slug": {"default": "{{ package | upper }}", "when": False},
        "more": {"default": "{{ package }}", "when": "{{ package == 'bird' }}"},
    }
    files = {"inside/{{ slug }}.txt.jinja": "{{ token }} {{ slug }} {{ more }}\n"}
    two_releases(template, files, files, **questions)
    both_ways(template, begun(template, project, data={"token": "hush"}))
    assert (project / "FISH.txt").read_text() == "hush FISH fish\n"


def test_an_answer_that_is_no_longer_valid_becomes_the_default(template: Path, project: Path) -> None:
    for version, module, text, kinds in (("v1.0.0", "first", OLD, "ab"), ("v2.0.0", "inner/second", NEW, "cd")):
        files = {f"inside/src/{{{{ package }}}}/{module}.py": text, f"inside/{ANSWERS}.jinja": PLACE}
        release(template, version, files, Kind={"type": "str", "choices": list(kinds), "default": kinds[0]})
    both_ways(template, begun(template, project, data={"Kind": "b"}))
    assert yaml.safe_load((project / ".copier-answers.yml").read_text())["Kind"] == "c"


def test_files_move_with_a_name_that_is_computed_and_recorded_nowhere(template: Path, project: Path) -> None:
    for version, module, text in (("v1.0.0", "first", OLD), ("v2.0.0", "inner/second", NEW)):
        files = {f"inside/src/{{{{ slug }}}}/{module}.py.jinja": text, f"inside/{ANSWERS}.jinja": PLACE}
        moves = {**MOVES, "answers": {"slug": {"moves": "src/{slug}/**"}}}
        slug = {"default": "{{ package | lower }}", "when": False}
        release(template, version, files, moves=moves, slug=slug)
    begun(template, project)
    write(project, {"src/fish/own.py": "own = 1\n"})
    save(project, "own")
    program(template, project, "--defaults", "--data", "package=Bird")
    assert not (project / "src" / "fish").exists()
    assert (project / "src" / "bird" / "inner" / "second.py").read_text() == f"# own\n{NEW}"
    assert (project / "src" / "bird" / "own.py").exists()
    program(template, project, "--undo")
    update(project, data={"package": "Bird"})
    assert (project / "src" / "bird" / "inner" / "second.py").read_text() == f"# own\n{NEW}"
    assert "slug" not in (project / ".copier-answers.yml").read_text()


def test_a_migration_of_the_templates_own_runs_as_well(template: Path, project: Path) -> None:
    before = "import os; os.path.exists('src/fish/first.py') and os.remove('src/fish/first.py')"
    after = "open('notes.txt', 'a').write('migrated\\n')"
    own = [
        {"version": "v2.0.0", "command": [sys.executable, "-c", before], "when": "{{ _stage == 'before' }}"},
        {"command": [sys.executable, "-c", after], "when": "{{ _stage == 'after' }}"},
    ]
    two_releases(template, {}, {}, _migrations=own)
    begun(template, project)
    update(project)
    assert_followed(project)
    assert (project / "notes.txt").read_text() == "migrated\n"


# --- the files of a version ---


def with_a_script(template: Path, **settings: Any) -> None:
    """Two releases, the second with an executable file; it is checked out, without a branch."""
    files = {"inside/run.sh": "true\n", "inside/about.txt": "one\n"}
    files["inside/version.txt.jinja"] = "{{ _copier_answers._commit }}\n"  # so that the version becomes a repository
    two_releases(template, {}, files, **settings)
    (template / "inside" / "run.sh").chmod(0o755)
    save(template, "executable")
    git("tag", "--force", "v2.0.0", cwd=template)
    git("checkout", "--quiet", "--detach", cwd=template)


def unpacked(template: Path, ref: str, folder: Path) -> tuple[dict[str, tuple[bytes, int]], set[str]]:
    """The files of a version for a render, and the paths of those that are links to the clone's."""
    versions = scripts(template, git("rev-parse", "HEAD", cwd=template))["update.versions"]
    folder.mkdir()
    source = versions.unpack(ref, folder)
    files = tree(source)
    return files, {path for path in files if (template / path).exists() and (source / path).samefile(template / path)}


def checked_out(template: Path, ref: str, folder: Path) -> dict[str, tuple[bytes, int]]:
    git("clone", "--quiet", f"--branch={ref}", template, folder, cwd=template)
    return tree(folder)


def test_the_version_that_is_checked_out_is_linked_and_never_written(
    template: Path, project: Path, tmp_path: Path
) -> None:
    with_a_script(template)
    write(template, {"inside/untracked.txt": "not a file of the version\n"})
    old, new = (checked_out(template, ref, tmp_path / ref) for ref in ("v1.0.0", "v2.0.0"))
    assert unpacked(template, "v2.0.0", tmp_path / "new") == (new, set(new))
    assert unpacked(template, "v1.0.0", tmp_path / "old") == (old, set())

    def states() -> dict[str, tuple[Any, ...]]:
        return {path: (*state, (template / path).stat().st_mtime_ns) for path, state in tree(template).items()}

    before = states()
    program(template, begun(template, project), "--defaults")
    assert_followed(project)
    assert (project / "version.txt").read_text() == "v2.0.0\n"
    assert states() == before


def test_copier_update_writes_only_the_old_version_for_its_renders(
    template: Path, project: Path, tmp_path: Path
) -> None:
    with_a_script(template)
    begun(template, project)
    with plumbum.local.env(GIT_TRACE=str(tmp_path / "trace")):
        update(project)
    assert_followed(project)
    assert (tmp_path / "trace").read_text().count(" checkout-index --all ") == 1


def edit_unnoticed(template: Path) -> None:
    """Change a file so that `git status` shows nothing."""
    git("update-index", "--assume-unchanged", "inside/about.txt", cwd=template)
    (template / "inside" / "about.txt").write_text("two\n")


def drop_mode(template: Path) -> None:
    git("config", "core.fileMode", "false", cwd=template)
    (template / "inside" / "run.sh").chmod(0o644)


def add_link(template: Path) -> None:
    (template / "inside" / "link.txt").symlink_to("about.txt")
    save(template, "a link")
    git("tag", "--force", "v2.0.0", cwd=template)


@pytest.mark.parametrize(
    "change",
    [
        lambda template: git("checkout", "--quiet", "main", cwd=template),
        lambda template: (template / "inside" / "about.txt").unlink(),
        edit_unnoticed,
        drop_mode,
        add_link,
    ],
    ids=["a branch", "deleted", "edited", "mode", "symbolic link"],
)
def test_a_version_is_written_if_its_files_are_not_those_of_the_clone(
    change: Callable[[Path], object], template: Path, tmp_path: Path
) -> None:
    with_a_script(template)
    change(template)
    expected = checked_out(template, "v2.0.0", tmp_path / "v2.0.0")
    assert unpacked(template, "v2.0.0", tmp_path / "new") == (expected, set())


def test_a_version_is_written_where_links_fail(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_script(template)
    link, made = os.link, list[Path]()

    def failing(path: Path, place: Path) -> None:
        if len(made) == 2:
            raise OSError("Invalid cross-device link")
        link(path, place)
        made.append(place)

    monkeypatch.setattr(os, "link", failing)
    expected = checked_out(template, "v2.0.0", tmp_path / "v2.0.0")
    assert unpacked(template, "v2.0.0", tmp_path / "new") == (expected, set())
    assert len(made) == 2


def test_code_of_the_template_cannot_change_files_of_the_clone(template: Path, project: Path, tmp_path: Path) -> None:
    code = "import sys; [open(name, 'a').write('later\\n') for name in (sys.argv[1], 'mark.txt')]"
    about = "{{ _copier_conf.src_path / 'inside' / 'about.txt' }}"
    with_a_script(template, _tasks=[{"command": [sys.executable, "-c", code, about]}])
    before = tree(template)
    program(template, begun(template, project), "--defaults")
    assert_followed(project)
    assert (project / "mark.txt").exists()
    assert {path: tree(template)[path] for path in before} == before
    other = tmp_path / "other"
    with_a_script(other, _jinja_extensions=["jinja2.ext.loopcontrols"])
    assert unpacked(other, "v2.0.0", tmp_path / "new")[1] == set()


# --- metadata of a template ---


@pytest.mark.parametrize("heading", ["2.0.0", "v2.0.0 (2026-01-02)", "[2.0.0](https://example.com/2.0.0) - 2026"])
def test_the_changelog_is_read_however_its_versions_are_written(heading: str, tmp_path: Path) -> None:
    versions = extension("update.versions")
    log = f"# Changes\n\n## [Unreleased]\n\n- later\n\n## About\n\n## {heading}\n\n- this\n\n## 1.0.0\n\n- before\n"
    (tmp_path / "CHANGELOG.md").write_text(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "TEMPLATE", tmp_path)
        old, new = versions.Version("1.0.0"), versions.Version("2.0.0")
        assert list(versions.changelog_sections(old, new)) == [f"## {heading}\n\n- this"]


def test_a_template_without_moves_and_owners_has_empty_lists(template: Path, project: Path) -> None:
    two_releases(template, {}, {})
    begun(template, project)
    for version in ("v1.0.0", "v2.0.0"):
        git("checkout", "--quiet", version, cwd=template)
        write(template / "extensions", {"moves.yml": "# nothing moved\n", "ownership.yml": "yours:\nbaseline:\n"})
        save(template, "empty lists")
        git("tag", "--force", version, cwd=template)
    program(template, project, "--defaults", status=1)
    assert unmerged(project) == ["src/fish/first.py"]


@pytest.mark.parametrize("name", [1.1, "next"])
def test_a_version_that_yaml_takes_for_a_number_is_refused(name: Any, template: Path, project: Path) -> None:
    two_releases(template, {}, {}, moves={name: MOVES["v2.0.0"]})
    begun(template, project)
    said = program(template, project, "--defaults", status=1)
    assert said == f"error: moves.yml: {name!r} is not a version; write it in quotes, such as '1.10'\n"


@pytest.mark.parametrize(
    ("name", "answers", "expected"),
    [
        ("{{room}}/b.py", {}, {"./b.py", "/b.py"}),
        ("{{either}}/{{self}}b.py", {}, {"./b.py", "/b.py"}),
        ("a{{folder}}.py", {"folder": "x"}, {"ax.py"}),
        ("a{{folder}}.py", {}, {"a.py", "a/in.py"}),
        ("{{ a }}/b.py", {}, {"*/b.py"}),
        ("{{ a }}/{{- b -}}.py", {"a": "x[1]"}, {"x[[]1]/*.py"}),
        ("{% if a %}b{% endif %}/c", {}, {"b/c", "/c"}),
        ("{% if a %}b{% elif c %}d{% else %}e{% endif %}", {}, {"b", "d", "e"}),
        ("{%- if a -%}{% if b %}c{% endif %}d{%- endif -%}", {}, {"cd", "d", ""}),
        ("{% for x in y %}{{ x }}{% endfor %}.txt", {}, {"*.txt"}),
        ("a{{ _copier_conf.sep }}b", {}, {"a/b"}),
        ("[id]/*.js", {}, {"[[]id]/[*].js"}),
        ("{% raw %}{{ a }}{% endraw %}", {}, {"{{ a }}"}),
    ],
)
def test_a_name_with_jinja_is_a_pattern_for_all_that_it_can_become(
    name: str, answers: dict[str, str], expected: set[str]
) -> None:
    computed = {
        "room": "{% if kind == 'tabular' %}.{% endif %}",
        "either": "{{ room }}",
        "self": "{{ self }}",
        "folder": "{% if in_folders %}/in{% endif %}",
    }
    assert extension("update.names").patterns(name, {}, answers, computed) == expected


def test_a_pattern_matches_paths_and_can_escape_brackets() -> None:
    fitting = extension("update.names").any_of(["[[]id]/*.js", "a/*/b"])
    assert [bool(fitting.fullmatch(path)) for path in ("[id]/x.js", "i/x.js", "a/x/b", "a/x/y/b")] == [
        True,
        False,
        True,
        False,
    ]


def test_no_output_names_anything_of_this_template(template: Path, project: Path) -> None:
    two_releases(template, {}, {})
    begun(template, project)
    before = tree(project)
    moved = "src/fish/first.py → src/fish/inner/second.py"
    assert moved in program(template, project, "--preview")
    assert moved in program(template, project, "--explain", str(project / "src" / "fish" / "first.py"))
    assert tree(project) == before
    (project / "src" / "fish" / "first.py").write_text(OLD.replace("two = 2", "two = 3"))
    save(project, "another line")
    said = program(template, project, "--defaults", status=1)
    assert unmerged(project) == ["src/fish/inner/second.py"]
    assert "make" not in said
