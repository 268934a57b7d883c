-- How the values and the steps of series run: up, down, between whole numbers, at uneven times.
-- grain: one row per series with at least one value
-- in samples: stored samples
-- in spaced: series to look at and their usual time between samples (series_id, interval_s)
-- in torn: moments whose samples contradict each other and are not stored (series_id, t); they count as steps
-- out series_id: number of the series
-- out steps: pauses between neighbouring values [count]
-- out rises: values above the one before [count]
-- out falls: values below the one before [count]
-- out zeros: values that are 0 [count]
-- out broken: values that are no whole number [count]
-- out close: pauses below a tenth of the usual one [count]
-- out uneven: pauses from a tenth to 2.5 of the usual one that are off it by more than a tenth [count]
-- out shortest_s: the shortest pause of at least a tenth of the usual one [s]
WITH moments AS (
  SELECT series_id, t, value FROM samples WHERE value IS NOT NULL
  UNION ALL
  SELECT DISTINCT series_id, t, NULL::DOUBLE AS value FROM torn
), steps AS (
  SELECT m.series_id, p.interval_s, m.value,
    m.value - lag(m.value) OVER own AS change,
    (epoch_us(m.t) - lag(epoch_us(m.t)) OVER own) / 1e6 AS pause_s
  FROM moments m JOIN spaced p USING (series_id)
  WINDOW own AS (PARTITION BY m.series_id ORDER BY m.t)
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
HAVING count(value) > 0
ORDER BY series_id
