-- Every sample once: which rows are stored, which are exact copies, which contradict another, which a better form holds.
-- grain: one row per staged sample
-- in staged: samples as read, in file order (key, t_us, value, flag, file_no)
-- in ids: final number of every series, the group of its metric and capture, whether a fuller replica of it is kept (key, series_id, metric_group, is_copy)
-- in whole: files that were read to their end and how faithful their form is, higher is better, null when its times are a guess and others know theirs (file_no, form BIGINT)
-- param on_conflict: reject, or which of several values at one time is kept: first, last or max [word]
-- out series_id: number of the series
-- out t: time of the sample [UTC]
-- out value: value, null where flagged [unit of the series]
-- out flag: why the value is null
-- out file_no: number of the file the row came from
-- out fate: stored, duplicate, conflict or superseded
WITH placed AS (
  SELECT i.series_id, i.metric_group, i.is_copy, s.t_us, s.value, s.flag, s.file_no, w.form
  FROM staged s JOIN ids i USING (key) JOIN whole w USING (file_no)
), spans AS (
  SELECT metric_group, form, min(t_us) AS low, max(t_us) AS high FROM placed GROUP BY ALL
), better AS (
  SELECT l.metric_group, l.form, h.low, h.high
  FROM spans l JOIN spans h ON h.metric_group = l.metric_group AND h.form > l.form
), held AS (
  SELECT p.*,
    p.is_copy OR p.form IS NULL OR EXISTS (
      SELECT 1 FROM better b WHERE b.metric_group = p.metric_group AND b.form = p.form AND p.t_us BETWEEN b.low AND b.high
    ) AS superseded
  FROM placed p
), ranked AS (
  SELECT *,
    row_number() OVER (moment ORDER BY file_no, flag) AS copy,
    row_number() OVER (moment ORDER BY value IS NULL,
      CASE $on_conflict::VARCHAR WHEN 'max' THEN -value WHEN 'last' THEN -file_no ELSE file_no END, file_no, value) AS choice,
    count(*) OVER moment AS copies,
    min(value) OVER moment AS low,
    max(value) OVER moment AS high,
    count(value) OVER moment AS present
  FROM held
  WINDOW moment AS (PARTITION BY series_id, t_us, superseded)
)
SELECT
  series_id::BIGINT AS series_id,
  make_timestamptz(t_us) AS t,
  value::DOUBLE AS value,
  flag::VARCHAR AS flag,
  file_no::BIGINT AS file_no,
  CASE
    WHEN superseded THEN 'superseded'
    WHEN copies > 1 AND (low IS DISTINCT FROM high OR present NOT IN (0, copies)) THEN
      CASE WHEN $on_conflict::VARCHAR <> 'reject' AND choice = 1 THEN 'stored' ELSE 'conflict' END
    WHEN copy > 1 THEN 'duplicate'
    ELSE 'stored'
  END AS fate
FROM ranked
ORDER BY series_id, t, file_no, fate DESC, flag, value
