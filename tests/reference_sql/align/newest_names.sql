-- Increases without those of an older metric name where the same instance reports under a newer one.
-- grain: one row per counter and pair of neighbouring samples, as in the input
-- in increases: result of increases
-- in terms: which series carry which signal; only formulas whose metrics were renamed are looked at (service, capture, signal, preference, term, emitter, generation, series_id)
-- out series_id: number of the series
-- out t0: time of the earlier sample [s since 1970, UTC]
-- out t1: time of the later sample [s since 1970, UTC]
-- out increase: what the counter gained [unit of the series]
-- out gap: whether the pause is too long to belong to one window's rate
WITH renamed AS (
  SELECT *, min(generation) OVER part < max(generation) OVER part AS several FROM terms
  WINDOW part AS (PARTITION BY service, capture, signal, preference, term, emitter)
), pairs AS (
  SELECT DISTINCT o.series_id AS older_id, n.series_id AS newer_id
  FROM renamed o JOIN renamed n
    ON (o.service, o.capture, o.signal, o.preference, o.term) = (n.service, n.capture, n.signal, n.preference, n.term)
    AND o.emitter IS NOT DISTINCT FROM n.emitter AND n.generation < o.generation AND n.series_id <> o.series_id
  WHERE o.several
), shadowed AS (
  -- one scrape brings both names at one moment
  SELECT DISTINCT p.older_id AS series_id, i.t1 FROM pairs p JOIN increases i ON i.series_id = p.newer_id
)
SELECT series_id::BIGINT AS series_id, t0::DOUBLE AS t0, t1::DOUBLE AS t1, increase::DOUBLE AS increase,
  gap::BOOLEAN AS gap
FROM increases ANTI JOIN shadowed USING (series_id, t1)
ORDER BY series_id, t1
