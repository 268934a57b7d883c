-- What the counters that show an engine's role gained over the input; after a reset the new value is the gain.
-- grain: one row per series and quantity with at least two samples
-- in samples: stored samples
-- in counters: counters to read and what they count (series_id, quantity VARCHAR)
-- out series_id: number of the series
-- out quantity: output, finished, prompt, computed or received
-- out total: gain from the first sample to the last [tokens or requests]
WITH steps AS (
  SELECT c.series_id, c.quantity, s.t, s.value,
    lag(s.value) OVER (PARTITION BY c.series_id, c.quantity ORDER BY s.t) AS before
  FROM samples s JOIN counters c USING (series_id)
  WHERE s.value IS NOT NULL
)
SELECT series_id::BIGINT AS series_id, quantity,
  sum(CASE WHEN value < before THEN value ELSE value - before END ORDER BY t)::DOUBLE AS total
FROM steps
WHERE before IS NOT NULL
GROUP BY ALL
ORDER BY series_id, quantity
