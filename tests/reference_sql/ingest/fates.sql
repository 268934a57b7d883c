-- What became of each file's samples.
-- grain: one row per file and fate
-- in judged: result of deduplicate
-- out file_no: number of the file
-- out fate: stored, duplicate, conflict or superseded
-- out rows: samples [count]
SELECT file_no::BIGINT AS file_no, fate, count(*)::BIGINT AS rows
FROM judged
GROUP BY ALL
ORDER BY file_no, fate
