-- What the counters of a signal gained over the whole input, gaps included.
-- grain: one row per service, signal and preference
-- in increases: result of increases
-- in terms: which series carry which signal (signal, preference, pool, gpu_group, service, side, sign, series_id)
-- out service: namespace/model
-- out signal: catalogue signal
-- out preference: place of the source in the catalogue, 0 first
-- out total: gain [unit of the signal times seconds]
SELECT t.service, t.signal, t.preference::BIGINT AS preference, sum(i.increase * t.sign)::DOUBLE AS total
FROM increases i JOIN terms t USING (series_id)
WHERE t.side = 'num' AND t.pool = 'sum' AND t.gpu_group IS NULL
GROUP BY ALL
ORDER BY t.service, t.signal, preference
