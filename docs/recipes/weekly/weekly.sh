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
  [ -f "$one/run/summary.json" ] && last=$one/run
done

if [ ! -f "$here/pulled" ]; then
  hsa pull --url "$HSA_URL" --config "$CONFIG" --last 7d ${UNTIL:+--to "$UNTIL"} --out "$here/dumps" \
    ${PULL_FLAGS:-} > "$here/pull.txt"
  touch "$here/pulled"
fi

set -- ${last:+--fail-on "decision-changed:$last"}
for gate in ${GATES:-}; do set -- "$@" --fail-on "$gate"; done
code=0
if [ -d "$here/dumps" ]; then
  hsa run "$here/dumps" --config "$CONFIG" --run-dir "$here/run" -o markdown "$@" > "$here/answer.md" || code=$?
else
  hsa report "$here/run" -o markdown "$@" > "$here/answer.md" || code=$?
fi
[ "$code" -eq 0 ] || [ "$code" -eq 3 ] || exit "$code"

[ -z "$last" ] || hsa compare "$last" "$here/run" -o markdown > "$here/changes.md"

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
