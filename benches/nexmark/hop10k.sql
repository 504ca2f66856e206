-- Keyed hopping windows, 10,000 keys.
SELECT k, window_start, window_end, count(*) AS n, sum(v) AS total, max(v) AS most
FROM TABLE(HOP(TABLE keyed, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY k, window_start, window_end;
