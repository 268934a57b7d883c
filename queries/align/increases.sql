-- Increase of every counter from one sample to the next; after a reset the new value is the increase.
-- grain: one row per counter and pair of neighbouring samples, and one for the first sample of a counter born late
-- in samples: stored samples
-- in counters: counters to read (series_id, capture, metric, interval_s)
-- out series_id: number of the series
-- out t0: time of the earlier sample [s since 1970, UTC]
-- out t1: time of the later sample [s since 1970, UTC]
-- out increase: what the counter gained [unit of the series]
-- out gap: whether the pause is too long to belong to one window's rate (over 2.5 intervals)
WITH present AS (
  SELECT s.series_id, c.capture, c.metric, c.interval_s, epoch_us(s.t) / 1e6 AS t1, s.value,
    lag(epoch_us(s.t) / 1e6) OVER own AS t0, lag(s.value) OVER own AS before
  FROM samples s JOIN counters c USING (series_id)
  WHERE s.value IS NOT NULL
  WINDOW own AS (PARTITION BY s.series_id ORDER BY s.t)
), gains AS (
  SELECT *, CASE WHEN value < before THEN value ELSE value - before END AS gain FROM present WHERE t0 IS NOT NULL
), siblings AS (
  SELECT capture, metric, min(t1) AS first_t, max(gain) AS largest FROM (
    SELECT capture, metric, t1, NULL AS gain FROM present UNION ALL SELECT capture, metric, t1, gain FROM gains
  ) GROUP BY ALL
), births AS (
  -- a counter that appears after its siblings counted from zero; a larger first value is an old counter seen late
  SELECT p.series_id, p.t1 - p.interval_s AS t0, p.t1, p.value AS gain
  FROM present p JOIN siblings s USING (capture, metric)
  WHERE p.t0 IS NULL AND p.t1 > s.first_t + 1.5 * p.interval_s AND p.value <= 10 * s.largest
)
SELECT series_id::BIGINT AS series_id, t0::DOUBLE AS t0, t1::DOUBLE AS t1, gain::DOUBLE AS increase,
  (t1 - t0 > 2.5 * interval_s)::BOOLEAN AS gap
FROM gains
UNION ALL
SELECT series_id::BIGINT, t0::DOUBLE, t1::DOUBLE, gain::DOUBLE, false FROM births
ORDER BY series_id, t1
