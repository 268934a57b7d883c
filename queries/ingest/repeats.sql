-- How many series repeat their last value at each moment: scrape gaps show as moments where nearly all do.
-- grain: one row per capture and time
-- in judged: result of deduplicate
-- in captured: capture of every series and whether it behaves like a clock (series_id, capture, clock_like)
-- out capture: capture name
-- out t: time [UTC]
-- out series: series with a value now and one before [count]
-- out repeats: of those, how many repeat it [count]
-- out clocks: clock-like series among them [count]
-- out clock_repeats: of those, how many repeat [count]
WITH steps AS (
  SELECT c.capture, c.clock_like, j.t, j.value, lag(j.value) OVER (PARTITION BY j.series_id ORDER BY j.t) AS before
  FROM judged j JOIN captured c USING (series_id)
  WHERE j.fate = 'stored' AND j.value IS NOT NULL
)
SELECT
  capture::VARCHAR AS capture,
  t,
  count(*)::BIGINT AS series,
  count(*) FILTER (value = before)::BIGINT AS repeats,
  count(*) FILTER (clock_like)::BIGINT AS clocks,
  count(*) FILTER (clock_like AND value = before)::BIGINT AS clock_repeats
FROM steps
WHERE before IS NOT NULL
GROUP BY ALL
ORDER BY capture, t
