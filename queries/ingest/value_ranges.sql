-- The values that tell a percentage from a ratio.
-- grain: one row per series with at least one value
-- param over_one: a ratio does not go above this [ratio]
-- in samples: stored samples
-- in bounded: series that are documented as a ratio or a percentage, and the distance of neighbouring values where the exporter rounds; 0 = it does not (series_id, steps DOUBLE)
-- out series_id: number of the series
-- out low: smallest value [unit of the series]
-- out high: largest value [unit of the series]
-- out over: values above over_one [count]
-- out between: values that lie between two steps of the exporter [count]
SELECT b.series_id::BIGINT AS series_id, min(s.value)::DOUBLE AS low, max(s.value)::DOUBLE AS high,
  count(*) FILTER (s.value > $over_one)::BIGINT AS over,
  count(*) FILTER (b.steps > 0 AND abs(s.value / nullif(b.steps, 0) - round(s.value / nullif(b.steps, 0))) > 1e-6)::BIGINT
    AS between
FROM samples s JOIN bounded b USING (series_id)
WHERE s.value IS NOT NULL
GROUP BY b.series_id
ORDER BY b.series_id
