-- How many series repeat their last value at each moment: scrape gaps show as moments where nearly all do.
-- grain: one row per capture and time at which a series has a value and had one before
-- in judged: result of deduplicate
-- in captured: capture of every series and whether it behaves like a clock (series_id, capture, clock_like)
-- out capture: capture name
-- out t: time [UTC]
-- out series: series with a value now and one before [count]
-- out repeats: of those, how many repeat it [count]
-- out clocks: clock-like series among them [count]
-- out clock_repeats: of those, how many repeat [count]
-- out alive: series that have begun before and not ended yet, with a value now or not [count]
WITH steps AS (
  SELECT c.capture, c.clock_like, j.t, j.value, lag(j.value) OVER own AS before,
    row_number() OVER own = 1 AS is_first, lead(j.t) OVER own IS NULL AS is_last
  FROM judged j JOIN captured c USING (series_id)
  WHERE j.fate = 'stored' AND j.value IS NOT NULL
  WINDOW own AS (PARTITION BY j.series_id ORDER BY j.t)
), moments AS (
  SELECT capture, t,
    count(before) AS series,
    count(*) FILTER (value = before) AS repeats,
    count(*) FILTER (clock_like AND before IS NOT NULL) AS clocks,
    count(*) FILTER (clock_like AND value = before) AS clock_repeats,
    count(*) FILTER (is_first) AS begun,
    count(*) FILTER (is_last) AS ended
  FROM steps GROUP BY ALL
), lives AS (
  SELECT *, sum(begun) OVER past - coalesce(sum(ended) OVER past, 0) AS alive FROM moments
  WINDOW past AS (PARTITION BY capture ORDER BY t ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
)
SELECT capture::VARCHAR AS capture, t, series::BIGINT AS series, repeats::BIGINT AS repeats,
  clocks::BIGINT AS clocks, clock_repeats::BIGINT AS clock_repeats, alive::BIGINT AS alive
FROM lives
WHERE series > 0
ORDER BY capture, t
