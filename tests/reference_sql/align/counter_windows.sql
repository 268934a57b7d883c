-- Rate of every counter per window: increases shared out over the windows they overlap.
-- grain: one row per counter and window that any increase overlaps; windows inside a gap are absent
-- param window_s: width of a window [s]
-- in increases: result of increases
-- out series_id: number of the series
-- out t: start of the window [s since 1970, UTC]
-- out value: increase per second over the covered part [unit of the series per second]
-- out coverage: covered part of the window [ratio, 0..1]; the first and last window can read low
WITH placed AS (
  SELECT series_id, t0, t1, increase,
    unnest(range(floor(t0 / $window_s)::BIGINT, ceil(t1 / $window_s)::BIGINT)) AS slot
  FROM increases
  WHERE NOT gap AND t1 > t0
), shared AS (
  SELECT series_id, slot, t0, increase / (t1 - t0) AS rate,
    least(t1, (slot + 1) * $window_s) - greatest(t0, slot * $window_s) AS overlap_s
  FROM placed
)
-- sums are ordered: floats added in another order differ in their last bits
SELECT series_id::BIGINT AS series_id, (slot * $window_s)::DOUBLE AS t,
  (sum(rate * overlap_s ORDER BY t0) / sum(overlap_s ORDER BY t0))::DOUBLE AS value,
  least(1.0, sum(overlap_s ORDER BY t0) / $window_s)::DOUBLE AS coverage
FROM shared
WHERE overlap_s > 0
GROUP BY series_id, slot
ORDER BY series_id, t
