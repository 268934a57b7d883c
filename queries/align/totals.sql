-- What the counters of a signal gained over the whole input, gaps included.
-- grain: one row per service, role, signal and preference
-- in gains: what each counter gained, sums over its increases (series_id, gain DOUBLE)
-- in terms: which series carry which signal (signal, preference, pool, role, gpu_group, service, side, sign, series_id)
-- out service: namespace/model
-- out role: prefill, decode, mixed or service
-- out signal: catalogue signal
-- out preference: place of the source in the catalogue, 0 first
-- out total: gain [unit of the signal times seconds]
SELECT t.service, t.role, t.signal, t.preference::BIGINT AS preference,
  sum(g.gain * t.sign ORDER BY g.series_id)::DOUBLE AS total
FROM gains g JOIN terms t USING (series_id)
WHERE t.side = 'num' AND t.pool = 'sum' AND t.gpu_group IS NULL
GROUP BY ALL
ORDER BY t.service, t.role, t.signal, preference
