-- When the number of instances asked for changed.
-- grain: one row per service, capture, role and sample at which the sum over its workloads' changes is not zero
-- in samples: stored samples
-- in replicas: series of the number asked for, one per workload (series_id, service, capture, role)
-- out service: namespace/model
-- out capture: capture name
-- out role: prefill, decode or mixed
-- out at_s: first sample with the new number [s since 1970, UTC]
-- out change: instances more than before [count]
WITH moved AS (
  SELECT r.service, r.capture, r.role, epoch_us(s.t) / 1e6 AS at_s,
    s.value - lag(s.value) OVER (PARTITION BY s.series_id ORDER BY s.t) AS change
  FROM samples s JOIN replicas r USING (series_id)
  WHERE s.value IS NOT NULL
)
SELECT service, capture, role, at_s::DOUBLE AS at_s, sum(change)::DOUBLE AS change
FROM moved
WHERE change <> 0
GROUP BY ALL
HAVING sum(change) <> 0
ORDER BY service, capture, role, at_s
