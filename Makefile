# Needs Python 3.11 or newer, git and make; the rest is installed below this folder on first use.
#
#   make demo        a new project with default answers, trained and tested
#   make check       format, types and the quick tests, in a minute and a half
#   make test        every test that guards a promise, in 18 to 20 minutes on two cores; ARGS="-k sweep" for a part
#   make exhaustive  all combinations and many more random cases, before a release; writes a table to docs/testing.md
#   make planted     plant known faults one by one and check that a test finds each; ARGS="--only 7"
#   make coverage    line coverage of extensions/ and of a default project by `make test`
#
#   make preview     render the work tree to build/preview; ARGS="-d components=folder" sets answers
#   make example     render examples/digits, the default project, again
#   make fuzz        random projects, edits and versions: N=500 cases, or repeat one with SEED=17 N=1
#   make kill-test   kill a training run KILLS=30 times: it ends like an uninterrupted one; then make each of its calls fail once
#   make losses      what Copier alone loses and the template's merge keeps: the table of docs/updating.md
#   make transcript  run the update that the README shows
#   make tags        a tag for each release commit
#   make pictures    draw the README's first three pictures, and the page of serve (needs Chromium)
#   make kinds       train every kind of data: the table of docs/kinds.md and the pictures of new projects (minutes)
#   make help        this list

PYTHON ?= python3
ARGS ?=
N ?= 500
SEED ?=
KILLS ?= 30

venv := .venv/bin/python
demo := build/demo-venv/bin/python
pytest := OMP_NUM_THREADS=1 $(venv) -m pytest --numprocesses auto --dist worksteal
pip := -m pip install --quiet --constraint constraints.txt
copy = -m copier copy --defaults --quiet --vcs-ref HEAD $(ARGS) .
enough = @"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11")'

.PHONY: help demo pictures kinds test check exhaustive planted coverage preview example tags clean
help:
	@sed -n '/^#   /s/^#   //p' Makefile

# --- a project, from nothing to its accuracy ---

build/demo-venv/installed: constraints.txt
	$(enough)
	test -x $(demo) || "$(PYTHON)" -m venv build/demo-venv
	$(demo) $(pip) copier setuptools
	@touch $@

demo: build/demo-venv/installed
	rm -rf build/demo
	$(demo) -W ignore $(copy) build/demo
	$(demo) $(pip) --no-build-isolation --editable build/demo
	OMP_NUM_THREADS=1 PYTHON=$(demo) build/demo/scripts/train.sh configs/train.yaml
	PYTHON=$(demo) build/demo/scripts/test.sh

# The README's first three, from a run like the demo's. `kinds` makes those of new projects and of docs/kinds.md.
pictures: demo .venv/installed
	cp build/demo/images/loader/train.png docs/pictures/loader.png
	cp build/demo/images/result/confusion.png docs/pictures/confusion.png
	cp build/demo/images/result/curves.png docs/pictures/curves.png
	$(venv) bench/page.py

kinds: .venv/installed
	$(venv) bench/kinds.py

# --- tests of the template; constraints.txt lists every package, hence --no-deps ---

.venv/installed: constraints.txt
	$(enough)
	test -x $(venv) || "$(PYTHON)" -m venv .venv
	PIP_COMPILE=0 $(venv) $(pip) --no-deps --requirement constraints.txt
	-@$(venv) -m compileall -qq -j 0 -x '/transformers/models/|/tests?/' .venv/lib # pip would compile on one processor, and what no one imports
	@touch $@

test: .venv/installed lint
	$(pytest) -m "not exhaustive" --durations=20 $(ARGS)

check: .venv/installed lint
	$(pytest) -m "not slow and not exhaustive" $(ARGS)

exhaustive: .venv/installed lint
	OMP_NUM_THREADS=1 $(venv) bench/exhaustive.py $(ARGS)

planted: .venv/installed
	$(venv) tests/planted.py $(ARGS)

coverage: .venv/installed
	OMP_NUM_THREADS=1 $(venv) bench/lines.py $(ARGS)

.PHONY: fuzz kill-test losses transcript lint
fuzz: .venv/installed
	N=$(N) $(if $(SEED),SEED=$(SEED)) $(pytest) tests/test_fuzz.py $(ARGS)

kill-test: .venv/installed
	KILLS=$(KILLS) $(pytest) tests/test_kill.py tests/test_faults.py -k "weights or fails_once" $(ARGS)

losses: .venv/installed
	OMP_NUM_THREADS=1 $(venv) tests/losses.py

transcript: .venv/installed
	@COPIER="$(CURDIR)/$(venv) -m copier" bench/transcript.sh

# The second line: Python files of the template with a project's line length, all extras at once.
lint: .venv/installed
	$(venv) -m ruff check
	$(venv) -m ruff check --isolated --line-length 100 --select E,F,W template/project
	$(venv) -m ruff format --check
	$(venv) -m mypy

preview: .venv/installed
	rm -rf build/preview
	$(venv) -W ignore $(copy) build/preview
	@echo "The work tree as a project: build/preview"

# The answers file is removed: it contains the path of this clone.
example: .venv/installed
	rm -rf examples/digits
	$(venv) -W ignore $(copy) -d project_name=Digits examples/digits
	rm examples/digits/.copier-answers.yml

# A release is the commit with that subject. A tag on another commit is an error: released versions never change.
tags:
	@git log --format='%H %s' | sed -n 's/^\([0-9a-f]*\) Release \(v[0-9][0-9]*\.[0-9][0-9]*\.[0-9][0-9]*\)$$/\1 \2/p' | \
	while read -r commit tag; do \
	  test "$$(git rev-parse --quiet --verify "refs/tags/$$tag^{commit}")" = "$$commit" || git tag "$$tag" "$$commit" || exit 1; \
	done

clean:
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache
