-- Requests that failed per thousand requests: of all components together, and of each.
-- The source divides by the requests that had an error; here it is by all that were made (facts 2.4).
-- param route name = '': of this route alone; empty: of all
WITH asked AS (
  SELECT SUM(weight) AS requests
  FROM events.ranking
  WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
    AND timestamp_ms >= {since}
    AND timestamp_ms < {until}
    AND shadow = false
    AND ({route} = '' OR route = {route})
),
errors AS (
  SELECT component, severity, request_id
  FROM events.error
  WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
    AND timestamp_ms >= {since}
    AND timestamp_ms < {until}
    AND shadow = false
    AND ({route} = '' OR route = {route})
)
SELECT
  'all' AS component,
  'all' AS severity,
  COUNT(*) AS errors,
  COUNT(DISTINCT request_id) AS failed_requests,
  COUNT(DISTINCT request_id) * 1000.0 / (SELECT requests FROM asked) AS error_rate_per_1k
FROM errors

UNION ALL

SELECT
  component,
  severity,
  COUNT(*) AS errors,
  COUNT(DISTINCT request_id) AS failed_requests,
  COUNT(DISTINCT request_id) * 1000.0 / (SELECT requests FROM asked) AS error_rate_per_1k
FROM errors
GROUP BY component, severity
ORDER BY failed_requests DESC, errors DESC, component, severity
