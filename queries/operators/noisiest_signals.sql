-- Signals by how much of their movement the load does not explain, the noisiest first.
-- grain: one row per service, signal and role; what was not measured comes last
-- in study: verdicts; of the whole window and all GPU types
-- out service: namespace/model
-- out signal: catalogue signal
-- out role: role of the signal
-- out source: exporter it came from
-- out verdict: proportional, guard, unusable or unknown
-- out snr_ratio: spread that load explains ÷ noise [ratio]
-- out drift_ratio: slow change at equal load, relative to the elasticity [ratio]
-- out lag_s: delay behind the load; negative = ahead [s]
-- out interval_s: time between values that carry news [s]
-- out coverage_ratio: share of windows with a value [ratio]
-- out reason: first reason of the verdict
SELECT service, signal, role, source, verdict, snr::DOUBLE AS snr_ratio, drift::DOUBLE AS drift_ratio,
  lag_s::DOUBLE AS lag_s, interval_s::DOUBLE AS interval_s,
  coverage::DOUBLE AS coverage_ratio, reasons[1].text AS reason
FROM study
WHERE fit = 'whole' AND gpu_type IS NULL
ORDER BY snr_ratio NULLS LAST, service, signal, role
