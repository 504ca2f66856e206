-- Looked at, put into the cart, and bought.
SELECT * FROM event MATCH_RECOGNIZE (
  PARTITION BY k ORDER BY ts
  MEASURES LOOKED.ts AS began, PUTS.ts AS put, BUYS.ts AS ended, COUNT(*) AS clicks
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (LOOKED BEFORE_CART* PUTS BEFORE_BUYING* BUYS) WITHIN INTERVAL '10' MINUTE
  DEFINE LOOKED AS action = 'view', BEFORE_CART AS action <> 'cart', PUTS AS action = 'cart',
         BEFORE_BUYING AS action <> 'buy', BUYS AS action = 'buy'
)
