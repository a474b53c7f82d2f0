#!/usr/bin/env bash
# tox 4.67.15, virtualenv 21.15.11 (seen on 2026-11-29, Python 3.11)
#
# tox leaves a file named .venv in the project, of one line that names one of its environments, so that editors find it (the
# redirect of PEP 832). It does so unasked, where an environment is called "dev" or installs the project with
# `package = editable`. Where that file lies, `python3 -m venv .venv` fails, and the line ".venv/" that most .gitignore files
# have does not cover it: it matches folders alone. A project whose instructions begin with `python3 -m venv .venv` can be
# set up before its first run of tox, and not after it.
#
# We had expected nothing outside .tox. The cure is `venv_redirect = false` under [tox], and ".venv" without the slash.
#
# Output seen:
#   .venv: .tox/py
#   git sees: ?? .venv
#   python3 -m venv .venv: status 1
#   with venv_redirect = false: no .venv
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv tools
tools/bin/pip install -q tox==4.67.15 virtualenv==21.15.11
mkdir project
cd project
cat > pyproject.toml <<'TOML'
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "small"
version = "1"
[tool.setuptools]
py-modules = []
TOML
cat > tox.ini <<'INI'
[tox]
env_list = py
[testenv]
package = editable
commands = python -c "pass"
INI
printf '.venv/\n.tox/\nbuild/\n*.egg-info/\n' > .gitignore
git init -q .
git add .
../tools/bin/tox -q > ../log 2>&1
status=0
file=$(cat .venv)
seen=$(git status --porcelain .venv)
python3 -m venv .venv > ../log 2>&1 || status=$?
rm -f .venv
sed 's/^\[tox\]$/[tox]\nvenv_redirect = false/' tox.ini > other.ini
../tools/bin/tox -q -c other.ini > ../log 2>&1
[ -e .venv ] && left="a .venv" || left="no .venv"
printf '.venv: %s\ngit sees: %s\npython3 -m venv .venv: status %s\nwith venv_redirect = false: %s\n' "$file" "$seen" "$status" "$left"
[ "$file $seen $status $left" = ".tox/py ?? .venv 1 no .venv" ] || {
  echo "the behaviour has changed"
  exit 1
}
