-- What each series looks like: spacing, holes, repeats, resets, range.
-- grain: one row per series
-- in samples: stored samples
-- in kinds: kind of every series (series_id, kind)
-- out series_id: number of the series
-- out rows: samples stored [count]
-- out first_t: first sample [UTC]
-- out last_t: last sample [UTC]
-- out interval_s: median time between samples; null with fewer than two [s]
-- out news_s: median time between changes of the value; null when it never changes twice [s]
-- out gaps: pauses longer than 2.5 intervals, nulls counted as absent [count]
-- out longest_gap_s: the longest of them [s]
-- out nulls: samples whose value is null [count]
-- out lookback: samples repeated by the server across a gap [count]
-- out resets: drops of a counter; always 0 for a gauge [count]
-- out low: smallest value [unit of the series]
-- out high: largest value [unit of the series]
WITH present AS (
  SELECT s.series_id, k.kind, s.t, s.value,
    lag(s.t) OVER own AS before_t, lag(s.value) OVER own AS before
  FROM samples s JOIN kinds k USING (series_id)
  WHERE s.value IS NOT NULL
  WINDOW own AS (PARTITION BY s.series_id ORDER BY s.t)
), spaced AS (
  SELECT *, epoch_us(t) / 1e6 - epoch_us(before_t) / 1e6 AS pause_s FROM present
), usual AS (
  SELECT series_id, median(pause_s) AS interval_s FROM spaced GROUP BY series_id
), changes AS (
  SELECT series_id, epoch_us(t) / 1e6 - lag(epoch_us(t) / 1e6) OVER (PARTITION BY series_id ORDER BY t) AS since_s
  FROM spaced WHERE value IS DISTINCT FROM before
), news AS (
  SELECT series_id, median(since_s) AS news_s FROM changes GROUP BY series_id
), counted AS (
  SELECT series_id, count(*) AS rows, min(t) AS first_t, max(t) AS last_t,
    count(*) FILTER (value IS NULL) AS nulls, count(*) FILTER (flag = 'lookback') AS lookback,
    min(value) AS low, max(value) AS high
  FROM samples GROUP BY series_id
), holes AS (
  SELECT p.series_id,
    count(*) FILTER (p.pause_s > 2.5 * u.interval_s) AS gaps,
    max(p.pause_s) FILTER (p.pause_s > 2.5 * u.interval_s) AS longest_gap_s,
    count(*) FILTER (p.kind = 'counter' AND p.value < p.before) AS resets
  FROM spaced p JOIN usual u USING (series_id) GROUP BY p.series_id
)
SELECT
  c.series_id::BIGINT AS series_id, c.rows::BIGINT AS rows, c.first_t, c.last_t,
  u.interval_s::DOUBLE AS interval_s, n.news_s::DOUBLE AS news_s,
  coalesce(h.gaps, 0)::BIGINT AS gaps, h.longest_gap_s::DOUBLE AS longest_gap_s,
  c.nulls::BIGINT AS nulls, c.lookback::BIGINT AS lookback, coalesce(h.resets, 0)::BIGINT AS resets,
  c.low::DOUBLE AS low, c.high::DOUBLE AS high
FROM counted c
LEFT JOIN usual u USING (series_id) LEFT JOIN news n USING (series_id) LEFT JOIN holes h USING (series_id)
ORDER BY c.series_id
