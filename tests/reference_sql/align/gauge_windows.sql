-- Mean of every gauge per window; a sample at the end of a window belongs to it, as a counter's increase does.
-- grain: one row per gauge and window with at least one value
-- param window_s: width of a window [s]
-- in samples: stored samples
-- in gauges: gauges to read (series_id, interval_s)
-- out series_id: number of the series
-- out t: start of the window [s since 1970, UTC]
-- out value: mean of the samples [unit of the series]
-- out coverage: samples present over samples expected [ratio, 0..1]
SELECT s.series_id::BIGINT AS series_id,
  ((ceil(epoch_us(s.t) / 1e6 / $window_s) - 1) * $window_s)::DOUBLE AS t,
  avg(s.value ORDER BY s.t)::DOUBLE AS value,
  least(1.0, count(*) * any_value(g.interval_s) / $window_s)::DOUBLE AS coverage
FROM samples s JOIN gauges g USING (series_id)
WHERE s.value IS NOT NULL
GROUP BY s.series_id, ceil(epoch_us(s.t) / 1e6 / $window_s)
ORDER BY 1, 2
