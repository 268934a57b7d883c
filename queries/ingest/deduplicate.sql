-- Every sample once: which rows are stored, which are exact copies, which contradict another.
-- grain: one row per staged sample
-- in staged: samples as read, in file order (key, t_us, value, flag, file_no)
-- in ids: final number of every series (key, series_id)
-- in whole: files that were read to their end (file_no)
-- out series_id: number of the series
-- out t: time of the sample [UTC]
-- out value: value, null where flagged [unit of the series]
-- out flag: why the value is null
-- out file_no: number of the file the row came from
-- out fate: stored, duplicate or conflict
WITH placed AS (
  SELECT i.series_id, s.t_us, s.value, s.flag, s.file_no
  FROM staged s JOIN ids i USING (key) JOIN whole w USING (file_no)
), ranked AS (
  SELECT *,
    row_number() OVER moment AS copy,
    count(*) OVER same AS copies,
    min(value) OVER same AS low,
    max(value) OVER same AS high,
    count(value) OVER same AS present
  FROM placed
  WINDOW same AS (PARTITION BY series_id, t_us), moment AS (PARTITION BY series_id, t_us ORDER BY file_no, flag)
)
SELECT
  series_id::BIGINT AS series_id,
  make_timestamptz(t_us) AS t,
  value::DOUBLE AS value,
  flag::VARCHAR AS flag,
  file_no::BIGINT AS file_no,
  CASE
    WHEN copies > 1 AND (low IS DISTINCT FROM high OR present NOT IN (0, copies)) THEN 'conflict'
    WHEN copy > 1 THEN 'duplicate'
    ELSE 'stored'
  END AS fate
FROM ranked
ORDER BY series_id, t, file_no, fate DESC, flag, value
