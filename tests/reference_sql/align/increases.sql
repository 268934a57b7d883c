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
), moments AS (
  SELECT capture, metric, t1, lag(t1) OVER looks AS moment_before, min(t1) OVER looks AS first_t
  FROM (SELECT DISTINCT capture, metric, t1 FROM present)
  WINDOW looks AS (PARTITION BY capture, metric ORDER BY t1)
), largest AS (
  SELECT capture, metric, max(gain) AS gain FROM gains GROUP BY ALL
), births AS (
  -- a counter that appears after its siblings counted from zero since the last look at any of them; a larger first
  -- value is an old counter seen late
  SELECT p.series_id, least(m.moment_before, p.t1 - p.interval_s) AS t0, p.t1, p.value AS gain, p.interval_s
  FROM present p JOIN moments m USING (capture, metric, t1) JOIN largest l USING (capture, metric)
  WHERE p.t0 IS NULL AND p.t1 > m.first_t + 1.5 * p.interval_s AND p.value <= 10 * l.gain
)
SELECT series_id::BIGINT AS series_id, t0::DOUBLE AS t0, t1::DOUBLE AS t1, gain::DOUBLE AS increase,
  (t1 - t0 > 2.5 * interval_s)::BOOLEAN AS gap
FROM (
  SELECT series_id, t0, t1, gain, interval_s FROM gains
  UNION ALL SELECT series_id, t0, t1, gain, interval_s FROM births
)
ORDER BY series_id, t1
