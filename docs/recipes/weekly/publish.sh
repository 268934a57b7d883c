#!/bin/sh
# Puts the newest week where people look: weekly.sh runs it, where PUBLISH names it. What has no variable is left out.
#
#   STATE, WEEK   as of weekly.sh
#   BUCKET        s3://… or gs://…: latest/ is copied below it, by aws or by gcloud
#   REPO          folder of a clone: decision, changes and policy become a pull request, by git and gh. Who commits, who
#                 may push and who may ask are their own settings (GIT_AUTHOR_NAME, GH_TOKEN, …)
set -eu
: "${STATE:?a folder that stays}" "${WEEK:?a week, as 2026-W48}"
latest=$STATE/latest

case ${BUCKET:-} in
  '') ;;
  s3://*) aws s3 cp --recursive --only-show-errors "$latest" "${BUCKET%/}/$WEEK" ;;
  gs://*) gcloud storage cp --recursive "$latest/*" "${BUCKET%/}/$WEEK/" ;;
  *) echo "BUCKET: $BUCKET begins with neither s3:// nor gs://" >&2; exit 2 ;;
esac

[ -n "${REPO:-}" ] || exit 0
cd "$REPO"
git fetch -q origin
git checkout -q -B "hsa-$WEEK" origin/HEAD
mkdir -p hsa
for file in answer.md changes.md policy.yaml; do
  if [ -f "$latest/$file" ]; then cp "$latest/$file" "hsa/$file"; else rm -f "hsa/$file"; fi
done
git add --all hsa
if git diff --cached --quiet; then exit 0; fi
title="hsa: $WEEK"
if [ "$(cat "$latest/gate")" = 3 ]; then title="$title, something to act on"; fi
body=hsa/answer.md
if [ -f hsa/changes.md ]; then body=hsa/changes.md; fi
git commit -q -m "$title"
git push -q --force origin "hsa-$WEEK"
# A week done once more has its request already: the push above is in it.
gh pr view "hsa-$WEEK" > /dev/null 2>&1 || gh pr create --head "hsa-$WEEK" --title "$title" --body-file "$body"
