-- A login, then a change of the account, then a large transfer, whatever lies between.
SELECT * FROM event MATCH_RECOGNIZE (
  PARTITION BY k ORDER BY ts
  MEASURES LOGIN.ts AS began, CHANGE.ts AS changed, TRANSFER.ts AS ended, TRANSFER.amount AS taken
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (LOGIN OTHER*? CHANGE OTHER*? TRANSFER) WITHIN INTERVAL '10' MINUTE
  DEFINE LOGIN AS action = 'login', CHANGE AS action = 'change', TRANSFER AS action = 'transfer' AND amount >= 800
)
