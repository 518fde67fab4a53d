-- The latest failures, one row for each source that failed a request.
-- param most count = 100: rows at most
-- param component name = '': of this alone; empty: of all
SELECT
  timestamp_ms,
  request_id,
  route,
  side,
  region,
  cohort,
  client,
  component,
  severity,
  error_code,
  message
FROM events.error
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND ({component} = '' OR component = {component})
ORDER BY timestamp_ms DESC, request_id, component
LIMIT {most}
