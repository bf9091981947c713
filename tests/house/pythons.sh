#!/usr/bin/env bash
# Installs the base package, without any extra, on each Python that pyproject.toml promises beyond the oldest, and runs
# there what a data owner types first and border tests of rooms that need no extra. `make pythons` calls it.
# A Python that is not at hand is named and passed over. PYTHONS="3.12" asks for some of them only.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests=(
  tests/curate/test_bad_lines.py
  tests/curate/test_checks.py
  tests/curate/test_dedupe.py
  tests/curate/test_door.py
  tests/curate/test_export.py
  tests/curate/test_fold.py
  tests/curate/test_init.py
  tests/curate/test_journal.py
  tests/curate/test_shape.py
  tests/curate/test_split.py
  tests/curate/tui/test_home.py
)
promised=$(sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml | tail -n +2)

# A shim of a version manager may be there and run nothing.
interpreter() {
  local candidate
  for candidate in "python$1" "$HOME"/.pyenv/versions/"$1"*/bin/python"$1"; do
    if "$candidate" -c '' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

circle() {
  local bin=$1 folder
  folder=$(mktemp -d)
  (
    cd "$folder"
    "$bin/python" -c 'import curate, train'
    "$bin/curate" init tour --sample
    "$bin/curate" validate tour
    "$bin/curate" dedupe tour
    "$bin/curate" split tour
    "$bin/curate" export tour --to trl
    "$bin/curate" list tour --category classify --split test --format jsonl >list.jsonl
    test "$(wc -l <list.jsonl)" -eq 35
    "$bin/train" new >recipe.toml
  ) >"$folder.log" 2>&1 || { cat "$folder.log" >&2; return 1; }
  rm -r "$folder" "$folder.log"
}

for version in ${PYTHONS:-$promised}; do
  python=$(interpreter "$version")
  if [ -z "$python" ]; then
    echo "Python $version: passed over, since it is not on this machine"
    continue
  fi
  environment=$PWD/.venv-python$version
  if [ ! -e "$environment/installed" ] || [ pyproject.toml -nt "$environment/installed" ]; then
    "$python" -m venv --clear "$environment"
    "$environment/bin/python" -m pip --disable-pip-version-check --quiet install --editable . pytest hypothesis
    touch "$environment/installed"
  fi
  circle "$environment/bin"
  "$environment/bin/python" -m pytest -m "not ci" "${tests[@]}"
  echo "$("$environment/bin/python" --version): the circle of commands and the border tests pass on the base install"
done
