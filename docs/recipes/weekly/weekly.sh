#!/bin/sh
# One study a week: pull, run, compare with last week's, gate.
#
#   HSA_URL       the Prometheus; how to be let in: HSA_TOKEN, HSA_USER, … as for hsa pull
#   STATE         folder that stays from week to week
#   CONFIG        hsa.toml of the study: limits, start-up times
#   GATES         more conditions of --fail-on, separated by blanks
#   PULL_FLAGS    more flags of hsa pull, separated by blanks
#   WEEK, UNTIL   another name and another end (ISO 8601, UTC) than this week and now: to do a week later
#   PUBLISH       a script that is run once latest/ is whole: publish.sh, or one of your own; it is told STATE and WEEK
#   KEEP_WEEKS    folders of weeks that stay, this one included; KEEP_DUMPS=1 keeps the pulled files, too
#   RUN_WEEKS     most weeks in one run (1: each week by itself): this week is added to last week's run, whose files
#                 are not read again, until it holds so many; then a run begins anew
#
# Exit code 3: something changed that somebody must act on, see changes.md. Any other than 0: the study failed; the
# same command goes on where it was.
set -eu
: "${HSA_URL:?the address of Prometheus}" "${STATE:?a folder that stays}" "${CONFIG:?a file hsa.toml}"
week=${WEEK:-$(date -u +%G-W%V)}
case $week in ????-W??) ;; *) echo "WEEK: $week is no week; write it as 2026-W48" >&2; exit 2 ;; esac
here=$STATE/$week
mkdir -p "$here"

# The weeks sort by name: the last one before this that has an answer is what this one is compared with.
last=
for one in "$STATE"/????-W??; do
  [ "$one" = "$here" ] && break
  [ -f "$one/run/summary.json" ] && last=$one
done
set -- ${last:+--fail-on "decision-changed:$last/run"}
for gate in ${GATES:-}; do set -- "$@" --fail-on "$gate"; done

# A week that is done once more has the same end, and as many weeks in its run.
[ -s "$here/until" ] || echo "${UNTIL:-$(date -u +%Y-%m-%dT%H:%M:%SZ)}" > "$here/until"
if [ ! -s "$here/weeks" ]; then
  weeks=1
  [ -d "$here/run" ] || [ ! -s "${last:-none}/weeks" ] || weeks=$(($(cat "$last/weeks") + 1))
  [ "$weeks" -le "${RUN_WEEKS:-1}" ] || weeks=1
  echo "$weeks" > "$here/weeks"
fi

pull() {
  [ ! -f "$here/pulled" ] || return 0
  hsa pull --url "$HSA_URL" --config "$CONFIG" "$@" --to "$(cat "$here/until")" --out "$here/dumps" \
    ${PULL_FLAGS:-} > "$here/pull.txt"
  touch "$here/pulled"
}
study() {
  code=0
  hsa "$@" --config "$CONFIG" -o markdown > "$here/answer.md" || code=$?
}
anew() {
  echo "weekly.sh: $week: $1; seven days are pulled and read by themselves" >&2
  rm -rf "$here/dumps" "$here/pulled"
  echo 1 > "$here/weeks"
  touch "$here/anew"
}

code=1
if [ -f "$here/pulled" ] && [ ! -d "$here/dumps" ]; then
  study report "$here/run" "$@"
  [ "$code" -ne 1 ] || anew "the run can't be renewed, and its files were removed"
elif [ -n "$last" ] && [ "$(cat "$here/weeks")" -gt 1 ]; then
  pull --from "$(cat "$last/until")"
  if [ ! -d "$here/run" ]; then
    rm -rf "$here/run.part"
    cp -Rp "$last/run" "$here/run.part"
    mv "$here/run.part" "$here/run"
  fi
  study run "$here/dumps" --extend "$here/run" "$@"
  [ "$code" -ne 1 ] || anew "this week can't be added to last week's run"
fi
if [ "$code" -eq 1 ]; then
  pull --last 7d
  # The run of before stays until there is something to read.
  [ ! -f "$here/anew" ] || rm -rf "$here/run" "$here/anew"
  study run "$here/dumps" --run-dir "$here/run" "$@"
fi
[ "$code" -eq 0 ] || [ "$code" -eq 3 ] || exit "$code"

[ -z "$last" ] || hsa compare "$last/run" "$here/run" -o markdown > "$here/changes.md"

# What people and other programs read: always the newest whole week.
rm -rf "$STATE/next"
mkdir "$STATE/next"
cp "$here/answer.md" "$here/run/report.html" "$here/run/summary.json" "$STATE/next/"
for file in "$here/changes.md" "$here/run/policy.yaml"; do [ ! -f "$file" ] || cp "$file" "$STATE/next/"; done
echo "$code" > "$STATE/next/gate"
rm -rf "$STATE/latest"
mv "$STATE/next" "$STATE/latest"
[ -z "${PUBLISH:-}" ] || WEEK=$week sh "$PUBLISH"

[ "${KEEP_DUMPS:-}" = 1 ] || rm -rf "$here/dumps"
set -- "$STATE"/????-W??
while [ "$#" -gt "${KEEP_WEEKS:-8}" ]; do rm -rf "$1"; shift; done
exit "$code"
