-- One value per instance, signal and row of several windows: the chosen source, instance by instance.
-- grain: one row per service, capture, role, instance, signal and row with enough windows
-- param row_s: width of a row, a multiple of the window [s]
-- param window_s: width of a window [s]
-- param least_coverage: share of a window's samples, and of a row's windows, below which there is no value [ratio, 0..1]
-- in windows: value of every series per window, as counter_windows and gauge_windows give it (series_id, t DOUBLE, value, coverage)
-- in terms: series of the chosen source of each signal, of the instances wanted (signal, pool, role, service, capture, instance, term, side, sign, series_id, generation)
-- out service: namespace/model
-- out capture: capture name
-- out role: prefill, decode or mixed
-- out instance: unit an autoscaler adds
-- out t: start of the row [s since 1970, UTC]
-- out signal: catalogue signal
-- out value: the instance's total, mean or ratio [unit of the signal]
WITH formulas AS (
  SELECT service, capture, role, signal, generation, count(DISTINCT term) AS parts FROM terms GROUP BY ALL
), by_term AS (
  -- sums are ordered here and below: floats added in another order differ in their last bits
  SELECT n.service, n.capture, n.role, n.instance, n.signal, n.pool, n.generation, n.side = 'num' AS above, n.term,
    w.t, sum(w.value * n.sign ORDER BY n.series_id) AS total, count(*) AS series
  FROM terms n JOIN windows w USING (series_id)
  WHERE w.coverage >= $least_coverage
  GROUP BY ALL
), by_window AS (
  SELECT b.service, b.capture, b.role, b.instance, b.signal, b.pool, b.generation, b.t,
    sum(total ORDER BY term) FILTER (above) AS total, sum(total / series ORDER BY term) FILTER (above) AS mean,
    sum(total ORDER BY term) FILTER (NOT above) AS below
  FROM by_term b JOIN formulas f USING (service, capture, role, signal, generation)
  GROUP BY ALL
  HAVING count(*) = any_value(f.parts)  -- a part that is missing in the window is no zero
), newest AS (
  SELECT * FROM by_window
  QUALIFY row_number() OVER (PARTITION BY service, capture, role, instance, signal, t ORDER BY generation) = 1
)
SELECT service, capture, role, instance, (floor(t / $row_s) * $row_s)::DOUBLE AS t, signal,
  CASE any_value(pool)
    WHEN 'mean' THEN avg(mean ORDER BY newest.t)
    WHEN 'ratio' THEN sum(total ORDER BY newest.t) / nullif(sum(below ORDER BY newest.t), 0)
    ELSE avg(total ORDER BY newest.t)
  END::DOUBLE AS value
FROM newest
GROUP BY service, capture, role, instance, signal, floor(newest.t / $row_s)
HAVING count(*) >= $least_coverage * $row_s / $window_s
ORDER BY service, capture, role, signal, instance, 5
