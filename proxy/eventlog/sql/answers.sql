-- The latest answers as users got them, or the bad ones among them.
-- param most count = 100: rows at most
-- param worst integer = 0: 1 shows failed and short answers alone
SELECT
  timestamp_ms,
  request_id,
  user_id,
  side,
  arm,
  region,
  cohort,
  client,
  bucket,
  k,
  k_returned,
  coverage,
  latency_ms,
  algorithm,
  alpha,
  level,
  stage,
  toggles_version,
  failed,
  items
FROM events.ranking
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND ({worst} = 0 OR failed OR k_returned < k OR coverage < 1)
ORDER BY timestamp_ms DESC, request_id
LIMIT {most}
