-- When counters fell back: a process started again.
-- grain: one row per counter and reset
-- in samples: stored samples
-- in kinds: kind of every series (series_id, kind)
-- out series_id: number of the series
-- out t: first sample after the reset [UTC]
-- out before: value before it [unit of the series]
-- out after: value after it [unit of the series]
WITH steps AS (
  SELECT s.series_id, s.t, s.value, lag(s.value) OVER (PARTITION BY s.series_id ORDER BY s.t) AS before
  FROM samples s JOIN kinds k USING (series_id)
  WHERE k.kind = 'counter' AND s.value IS NOT NULL
)
SELECT series_id::BIGINT AS series_id, t, before::DOUBLE AS before, value::DOUBLE AS after
FROM steps
WHERE value < before
ORDER BY series_id, t
