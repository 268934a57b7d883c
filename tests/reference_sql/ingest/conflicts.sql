-- Samples that contradict another of the same series and time; all sides are quarantined.
-- grain: one row per contradicting sample
-- in judged: result of deduplicate
-- out file_no: number of the file
-- out series_id: number of the series
-- out t_us: time of the sample [us since 1970, UTC]
-- out value: its value [unit of the series]
SELECT file_no::BIGINT AS file_no, series_id::BIGINT AS series_id, epoch_us(t)::BIGINT AS t_us, value::DOUBLE AS value
FROM judged
WHERE fate = 'conflict'
ORDER BY file_no, series_id, t
