-- How the values and the steps of series run: up, down, between whole numbers, at uneven times.
-- grain: one row per series with at least one value
-- in samples: stored samples
-- in spaced: series to look at and their usual time between samples (series_id, interval_s)
-- out series_id: number of the series
-- out steps: pauses between neighbouring values [count]
-- out rises: values above the one before [count]
-- out falls: values below the one before [count]
-- out zeros: values that are 0 [count]
-- out broken: values that are no whole number [count]
-- out close: pauses below a tenth of the usual one [count]
-- out uneven: pauses from a tenth to 2.5 of the usual one that are off it by more than a tenth [count]
-- out shortest_s: the shortest pause of at least a tenth of the usual one [s]
WITH steps AS (
  SELECT s.series_id, p.interval_s, s.value,
    s.value - lag(s.value) OVER own AS change,
    (epoch_us(s.t) - lag(epoch_us(s.t)) OVER own) / 1e6 AS pause_s
  FROM samples s JOIN spaced p USING (series_id)
  WHERE s.value IS NOT NULL
  WINDOW own AS (PARTITION BY s.series_id ORDER BY s.t)
)
SELECT series_id::BIGINT AS series_id,
  count(pause_s)::BIGINT AS steps,
  count(*) FILTER (change > 0)::BIGINT AS rises,
  count(*) FILTER (change < 0)::BIGINT AS falls,
  count(*) FILTER (value = 0)::BIGINT AS zeros,
  count(*) FILTER (value <> round(value))::BIGINT AS broken,
  count(*) FILTER (pause_s < 0.1 * interval_s)::BIGINT AS close,
  count(*) FILTER (pause_s BETWEEN 0.1 * interval_s AND 2.5 * interval_s
    AND abs(pause_s - interval_s) > 0.1 * interval_s)::BIGINT AS uneven,
  (min(pause_s) FILTER (pause_s >= 0.1 * interval_s))::DOUBLE AS shortest_s
FROM steps
GROUP BY series_id
ORDER BY series_id
