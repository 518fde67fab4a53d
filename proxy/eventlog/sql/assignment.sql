-- Users who were not always in one bucket, or got several arms of the experiment while one policy held.
-- No rows: the assignment is deterministic.
-- param most count = 100: rows at most
SELECT
  user_id,
  toggles_version,
  COUNT(DISTINCT bucket) AS buckets,
  COUNT(DISTINCT CASE WHEN exposed AND shadow = false AND stage = '' AND arm <> 'none' THEN arm END) AS arms,
  COUNT(*) AS requests
FROM events.ranking
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND user_id IS NOT NULL
  AND bucket IS NOT NULL
GROUP BY user_id, toggles_version
HAVING COUNT(DISTINCT bucket) > 1
  OR COUNT(DISTINCT CASE WHEN exposed AND shadow = false AND stage = '' AND arm <> 'none' THEN arm END) > 1
ORDER BY requests DESC, user_id, toggles_version
LIMIT {most}
