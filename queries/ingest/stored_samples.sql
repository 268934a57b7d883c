-- The samples that are kept, with values repeated across a scrape gap set to null.
-- grain: one row per series and time
-- in judged: result of deduplicate
-- in captured: capture of every series (series_id, capture)
-- in frozen: stretches in which all series repeat together (capture, first_t, last_t); no rows when there are none
-- out series_id: number of the series
-- out t: time of the sample [UTC]
-- out value: value; null = missing, never zero [unit of the series]
-- out flag: why the value is null; lookback = repeated by the server across a gap
SELECT
  j.series_id::BIGINT AS series_id,
  j.t AS t,
  CASE WHEN f.capture IS NULL THEN j.value END::DOUBLE AS value,
  CASE WHEN f.capture IS NULL THEN j.flag ELSE 'lookback' END::VARCHAR AS flag
FROM judged j
JOIN captured c USING (series_id)
LEFT JOIN frozen f ON f.capture = c.capture AND j.t BETWEEN f.first_t AND f.last_t
WHERE j.fate = 'stored'
ORDER BY j.series_id, j.t
