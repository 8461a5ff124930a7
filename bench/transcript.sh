#!/usr/bin/env bash
# Run the update that the README shows again: `make transcript`. The excerpt of the CHANGELOG in its output is left out.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
copier=${COPIER:-copier}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=you GIT_AUTHOR_EMAIL=you@example.com GIT_COMMITTER_NAME=you GIT_COMMITTER_EMAIL=you@example.com

git clone --quiet "$root" "$folder/template"
make --silent -C "$folder/template" tags
$copier copy --quiet --defaults --vcs-ref v0.1.0 "$folder/template" "$folder/my-project"
cd "$folder/my-project"
git init --quiet
git add --all
git commit --quiet --message "A project of v0.1.0"

show() {
  echo "\$ $*"
  eval "$*"
}

show "sed -i 's/Train a model, or/Train a model of ours, or/' src/my_project/__main__.py"
show 'git commit --quiet --all --message "Say whose models these are"'
echo '$ copier update --trust --defaults --quiet'
$copier update --trust --defaults --quiet --vcs-ref v0.3.0 | sed -e '1i …' -e '1,/git clean/d' | sed '2{/^$/d}'
show "grep -rn 'model of ours' src"
