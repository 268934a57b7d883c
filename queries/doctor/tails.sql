-- How far the highest values of a latency lie from the rest, and how much of the variance they carry.
-- grain: one row per group of series with at least one value
-- param top_share: share of the samples, farthest from the mean first, that count as the tail [ratio]
-- in samples: stored samples
-- in grouped: series of one latency, and the number of their group (series_id, group_no)
-- out group_no: number of the group
-- out moments: values [count]
-- out mean: their mean [unit of the metric]
-- out deviation: their standard deviation; null for one value [unit of the metric]
-- out high: 99 % of them are within it [unit of the metric]
-- out peak: the highest [unit of the metric]
-- out carried: share of the variance that the tail carries; null where nothing varies [ratio]
WITH told AS (
  SELECT g.group_no, s.value, avg(s.value) OVER (PARTITION BY g.group_no) AS mean
  FROM samples s JOIN grouped g USING (series_id)
  WHERE s.value IS NOT NULL
), ranked AS (
  SELECT group_no, value, (value - mean) ^ 2 AS square,
    row_number() OVER (PARTITION BY group_no ORDER BY abs(value - mean) DESC) AS place,
    count(*) OVER (PARTITION BY group_no) AS total
  FROM told
)
SELECT group_no::BIGINT AS group_no,
  count(*)::BIGINT AS moments,
  avg(value)::DOUBLE AS mean,
  stddev_samp(value)::DOUBLE AS deviation,
  quantile_cont(value, 0.99)::DOUBLE AS high,
  max(value)::DOUBLE AS peak,
  (sum(square) FILTER (place <= greatest(1, round($top_share * total))) / nullif(sum(square), 0))::DOUBLE AS carried
FROM ranked
GROUP BY group_no
ORDER BY group_no
