#!/usr/bin/env bash
# Validate for a build server: a SARIF log in a file, annotations on stdout, a step summary. `action.yml` runs this.
# Everything comes in variables and is handed on as whole words, so that nothing of it is ever read as shell:
#   VALIDATE_PATH  VALIDATE_ARGS                   one path, one option a line
#   VALIDATE_SCHEMA  VALIDATE_SARIF                a shape or schema; the log's file
#   VALIDATE_ANNOTATIONS  VALIDATE_FAIL            "false" leaves out the annotations; never fails because of findings
# Exits as `curate validate` does: 0 clean, 1 errors were found, 2 and 3 it could not run.
set -euo pipefail

words() { # The lines of a variable that are not blank.
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line == *[![:space:]]* ]]; then printf '%s\n' "$line"; fi
  done <<<"$1"
}

mapfile -t paths < <(words "${VALIDATE_PATH:-.}")
mapfile -t options < <(words "${VALIDATE_ARGS:-}")
if [[ -n ${VALIDATE_SCHEMA:-} ]]; then options+=("--schema=$VALIDATE_SCHEMA"); fi

validate() { curate validate "${options[@]}" "$@" -- "${paths[@]}"; }

again() { # The same verdict in another format: what was told already is not told twice, unless it went wrong.
  local told code=0
  told=$(mktemp)
  validate "$@" 2>"$told" || code=$?
  if ((code > 1)); then cat "$told" >&2; fi
  rm -f "$told"
  if ((code > 1)); then exit "$code"; fi
}

code=0
validate --format sarif --output "${VALIDATE_SARIF:-curate.sarif}" || code=$?
if ((code > 1)); then exit "$code"; fi
if [[ ${VALIDATE_ANNOTATIONS:-true} != false ]]; then again --format github; fi
if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then again --format markdown >>"$GITHUB_STEP_SUMMARY"; fi
if [[ ${VALIDATE_FAIL:-true} == false ]]; then code=0; fi
exit "$code"
