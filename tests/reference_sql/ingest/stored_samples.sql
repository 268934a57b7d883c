-- The samples that are kept, with values repeated across a scrape gap set to null.
-- grain: one row per series and time
-- in judged: result of deduplicate
-- in captured: capture of every series (series_id, capture)
-- in frozen: stretches in which all series repeat together, and until when single ones may go on (capture, first_t, last_t, settle_t); no rows when there are none
-- out series_id: number of the series
-- out t: time of the sample [UTC]
-- out value: value; null = missing, never zero [unit of the series]
-- out flag: why the value is null; lookback = repeated by the server across a gap
WITH held AS (
  -- what each series repeated: one that still holds it a step or two later has not been scraped yet
  SELECT j.series_id, f.first_t, j.value
  FROM judged j JOIN captured c USING (series_id) JOIN frozen f ON f.capture = c.capture AND j.t = f.last_t
  WHERE j.fate = 'stored'
), stretches AS (
  SELECT c.series_id, f.first_t, f.last_t, f.settle_t, h.value AS held
  FROM captured c JOIN frozen f USING (capture) LEFT JOIN held h ON (h.series_id, h.first_t) = (c.series_id, f.first_t)
), late AS (
  SELECT s.series_id, s.first_t, min(j.t) AS moved_t
  FROM stretches s JOIN judged j ON j.series_id = s.series_id AND j.t > s.last_t AND j.t <= s.settle_t
  WHERE j.fate = 'stored' AND j.value IS DISTINCT FROM s.held
  GROUP BY ALL
), repeated AS (
  SELECT DISTINCT j.series_id, j.t
  FROM judged j JOIN stretches s USING (series_id) LEFT JOIN late l ON (l.series_id, l.first_t) = (s.series_id, s.first_t)
  WHERE j.t BETWEEN s.first_t AND s.last_t
    OR (j.t > s.last_t AND j.t <= s.settle_t AND j.value = s.held AND j.t < coalesce(l.moved_t, 'infinity'::TIMESTAMPTZ))
)
SELECT
  j.series_id::BIGINT AS series_id,
  j.t AS t,
  CASE WHEN r.series_id IS NULL THEN j.value END::DOUBLE AS value,
  CASE WHEN r.series_id IS NULL THEN j.flag ELSE 'lookback' END::VARCHAR AS flag
FROM judged j
LEFT JOIN repeated r ON (r.series_id, r.t) = (j.series_id, j.t)
WHERE j.fate = 'stored'
ORDER BY j.series_id, j.t
