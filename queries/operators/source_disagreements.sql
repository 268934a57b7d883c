-- Signals whose two best sources differ by more than 5 %, the widest apart first.
-- grain: one row per service, role and signal
-- in disagreements: pairs of sources that differ
-- in signals: aligned values; how much of the window the chosen source covers
-- out service: namespace/model
-- out role: prefill, decode, mixed or service
-- out signal: catalogue signal
-- out source: exporter that is used
-- out other: exporter that would be used without it
-- out difference_ratio: median of larger ÷ smaller value of a window, minus 1 [ratio]
-- out coverage_ratio: windows in which the used one has a value ÷ all windows [ratio]
-- out mean_value: mean of the used one, to see what the difference is of [unit of the signal]
WITH used AS (
  SELECT service, role, signal, (count(value) / count(*)) AS coverage_ratio, avg(value) AS mean_value
  FROM signals
  WHERE gpu_type IS NULL
  GROUP BY service, role, signal
)
SELECT d.service, d.role, d.signal, d.source, d.other, (exp(d.difference) - 1)::DOUBLE AS difference_ratio,
  u.coverage_ratio::DOUBLE AS coverage_ratio, u.mean_value::DOUBLE AS mean_value
FROM disagreements d LEFT JOIN used u USING (service, role, signal)
ORDER BY difference_ratio DESC, d.service, d.role, d.signal
