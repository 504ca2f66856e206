-- Looked at, and bought in the end.
SELECT * FROM event MATCH_RECOGNIZE (
  PARTITION BY k ORDER BY ts
  MEASURES LOOKED.ts AS began, BUYS.ts AS ended, COUNT(*) AS clicks
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (LOOKED OTHER* BUYS) WITHIN INTERVAL '10' MINUTE
  DEFINE LOOKED AS action = 'view', OTHER AS action <> 'buy', BUYS AS action = 'buy'
)
