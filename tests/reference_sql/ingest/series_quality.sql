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
-- out changes: how often the value changed [count]
-- out changed_t: when it changed for the last time; null when it never did [UTC]
-- out still_from: first sample of the longest stretch without a change; null without a value [UTC]
-- out still_to: last sample of that stretch, the first of several as long [UTC]
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
), numbered AS (
  SELECT series_id, t, count(*) FILTER (value IS DISTINCT FROM before) OVER own AS stretch
  FROM present
  WINDOW own AS (PARTITION BY series_id ORDER BY t)
), stretches AS (
  SELECT series_id, stretch, min(t) AS since, max(t) AS until FROM numbered GROUP BY ALL
), stills AS (
  SELECT series_id, max(stretch) - 1 AS changes,
    max(since) FILTER (stretch > 1) AS changed_t,
    min({'length': -epoch_us(until) + epoch_us(since), 'since': since, 'until': until}) AS longest
  FROM stretches GROUP BY series_id
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
  c.low::DOUBLE AS low, c.high::DOUBLE AS high,
  coalesce(s.changes, 0)::BIGINT AS changes, s.changed_t, s.longest.since AS still_from, s.longest.until AS still_to
FROM counted c
LEFT JOIN usual u USING (series_id) LEFT JOIN news n USING (series_id) LEFT JOIN holes h USING (series_id)
LEFT JOIN stills s USING (series_id)
ORDER BY c.series_id
