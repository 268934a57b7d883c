-- One value per signal and window from the series that carry it: totals, means or ratios over the pool.
-- grain: one row per service, capture, role, GPU group, signal, preference and window
-- param least_coverage: below this share of a window's samples the value is null [ratio, 0..1]
-- in windows: value of every series per window, as counter_windows and gauge_windows give it (series_id, t DOUBLE, value, coverage)
-- in terms: which series carry which signal (signal, source, preference, pool, role, gpu_group, service, capture, instance, emitter, term, side, sign, series_id, generation)
-- in instances: result of instances
-- out service: namespace/model
-- out capture: capture name
-- out role: prefill, decode, mixed or service
-- out gpu_group: GPU model; null = all together
-- out signal: catalogue signal
-- out source: exporter
-- out preference: place of the source in the catalogue, 0 first
-- out t: start of the window [s since 1970, UTC]
-- out value: pool total, mean or ratio; null when too little was present [unit of the signal]
-- out instances: instances of the pool; null for front ends [count]
-- out coverage: share of the window's samples present [ratio, 0..1]
WITH formulas AS (
  SELECT *, row_number() OVER (ORDER BY service, capture, role, gpu_group, signal, preference)::INTEGER AS formula
  FROM (
    SELECT service, capture, role, gpu_group, signal, source, preference, pool, count(DISTINCT term) AS parts
    FROM terms GROUP BY ALL)
), numbered AS (
  SELECT f.formula, dense_rank() OVER (ORDER BY t.emitter)::INTEGER AS emitter, t.instance IS NOT NULL AS pooled,
    t.term::INTEGER AS term, t.side = 'num' AS above, t.sign, t.series_id, t.generation::INTEGER AS generation
  FROM terms t JOIN formulas f
    ON (t.service, t.capture, t.role, t.signal, t.preference) = (f.service, f.capture, f.role, f.signal, f.preference)
    AND t.gpu_group IS NOT DISTINCT FROM f.gpu_group
), by_term AS (
  -- sums are ordered here and below: floats added in another order differ in their last bits
  SELECT n.formula, n.emitter, n.generation, n.pooled, n.above, n.term, w.t,
    sum(w.value * n.sign ORDER BY n.series_id) AS total, count(*) AS series,
    max(w.coverage) AS coverage  -- of one scrape: a label value that is new in the window says nothing of it
  FROM numbered n JOIN windows w USING (series_id)
  GROUP BY ALL
), by_name AS (
  SELECT formula, emitter, generation, pooled, t,
    sum(total ORDER BY term) FILTER (above) AS total, sum(total / series ORDER BY term) FILTER (above) AS mean,
    sum(total ORDER BY term) FILTER (NOT above) AS below, min(coverage) AS coverage, count(*) AS parts
  FROM by_term GROUP BY ALL
), renamed AS (
  -- emitters whose metrics changed their names: old and new ones are one series, never two
  SELECT formula, emitter FROM numbered GROUP BY ALL HAVING count(DISTINCT generation) > 1
), by_emitter AS (
  SELECT * FROM by_name ANTI JOIN renamed USING (formula, emitter)
  UNION ALL
  SELECT n.* FROM by_name n SEMI JOIN renamed USING (formula, emitter) JOIN formulas f USING (formula)
  QUALIFY row_number() OVER (
    PARTITION BY formula, emitter, t ORDER BY n.parts = f.parts DESC, round(coverage, 6) DESC, generation) = 1
), lived AS (
  SELECT *, t = min(t) OVER life AS is_first, t = max(t) OVER life AS is_last
  FROM by_emitter
  WINDOW life AS (PARTITION BY formula, emitter)
), by_pool AS (
  SELECT formula, l.t,
    sum(total ORDER BY emitter) FILTER (whole) AS total, avg(mean ORDER BY emitter) FILTER (whole) AS mean,
    sum(below ORDER BY emitter) FILTER (whole) AS below, sum(l.coverage ORDER BY emitter) FILTER (whole) AS covered,
    count(*) FILTER (whole) AS emitters, count(*) FILTER (whole AND pooled) AS reporting,
    bool_or(pooled) AS pooled, count(*) FILTER (is_first) AS begun, count(*) FILTER (is_last) AS ended
  FROM (
    SELECT lived.*, lived.parts = formulas.parts AS whole  -- a part that is missing in the window is no zero
    FROM lived JOIN formulas USING (formula)) l
  GROUP BY ALL
), expected AS (
  -- front ends and others that no instance count covers are expected between their first and their last window
  SELECT *, sum(begun) OVER upto - coalesce(sum(ended) OVER past, 0) AS alive
  FROM by_pool
  WINDOW upto AS (PARTITION BY formula ORDER BY t),
    past AS (PARTITION BY formula ORDER BY t ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), judged AS (
  SELECT f.*, e.t, e.total, e.mean, e.below, e.reporting, i.instances,
    coalesce(e.covered / CASE WHEN i.instances IS NULL THEN e.alive ELSE nullif(e.emitters, 0) END, 0) AS coverage
  FROM expected e JOIN formulas f USING (formula)
  LEFT JOIN instances i ON (i.service, i.capture, i.role, i.t) = (f.service, f.capture, f.role, e.t)
    AND i.gpu_group IS NOT DISTINCT FROM f.gpu_group AND e.pooled
)
SELECT service, capture, role, gpu_group, signal, source, preference::BIGINT AS preference, t::DOUBLE AS t,
  CASE
    WHEN coverage < $least_coverage OR reporting < 0.5 * instances THEN NULL
    WHEN pool = 'mean' THEN mean
    WHEN pool = 'ratio' THEN total / nullif(below, 0)
    WHEN instances > reporting AND reporting > 0 THEN total / reporting * instances
    ELSE total
  END::DOUBLE AS value,
  instances::DOUBLE AS instances, least(1.0, coverage)::DOUBLE AS coverage
FROM judged
ORDER BY service, capture, role, gpu_group, signal, preference, t
