-- Carts that are left in a web shop: a pattern that times out finds them, a classifier says what becomes of them, and the shop knows whom
-- to write to first.
-- Run it from the root of the repository: eagre run examples/webshop.sql        docs/examples.md explains each statement.

-- Thirty-six hours of a shop. outcome says what became of each cart.
CREATE TABLE click (WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND)
WITH ('connector' = 'webshop', 'number-of-rows' = '131072');

-- A cart that is not bought within half an hour after the visit has begun.
CREATE VIEW left_cart AS
SELECT visitor, left_at, looks, items, round(value, 2) AS value, is_paying, device, is_member, outcome FROM click MATCH_RECOGNIZE (
  PARTITION BY visitor ORDER BY event_time
  MEASURES LAST(event_time) AS left_at, COUNT(LOOK.*) AS looks, COUNT(PUT.*) - COUNT(TAKE.*) AS items,
    SUM(PUT.amount) - COALESCE(SUM(TAKE.amount), 0) AS value, COUNT(PAY.*) > 0 AS is_paying,
    LAST(device) AS device, LAST(is_member) AS is_member, LAST(outcome) AS outcome, match_status() AS status
  PATTERN (LOOK* PUT (LOOK | PUT | TAKE | PAY)* BUY) WITHIN INTERVAL '30' MINUTE
  DEFINE LOOK AS action = 'view', PUT AS action = 'add', TAKE AS action = 'remove', PAY AS action = 'checkout', BUY AS action = 'buy'
  EMIT PARTIAL ON TIMEOUT
)
WHERE status = 'timeout' AND items > 0;

-- What a visit showed, as numbers.
CREATE VIEW shown AS
SELECT visitor, left_at, value, looks, items, is_paying, is_member, device = 'phone' AS on_phone, ln(value) AS ln_value, outcome
FROM left_cart;

-- Learns from the first day what becomes of such carts: by midnight it is known of those that were left until seven.
CREATE MODEL fate
WITH ('task' = 'classifier', 'arch' = 'mlp', 'label' = 'outcome', 'seed' = '7', 'epochs' = '60',
  'priorities' = 'hesitated = 100, returned = 10')
AS SELECT looks, items, is_paying, is_member, on_phone, ln_value, outcome FROM shown
WHERE left_at < TIMESTAMP '2025-01-01 19:00:00';

-- The carts of the next morning, each with its likely fate as soon as it is left, and what it is worth to write to its owner: a hint
-- brings back who hesitates; who returns by himself needs none.
CREATE VIEW judged AS
SELECT visitor, left_at, value, looks, c.label, c.priority, c.priority * value / 100 AS worth, outcome
FROM (
  SELECT *, classify(fate, looks, items, is_paying, is_member, on_phone, ln_value) AS c FROM shown
  WHERE left_at >= TIMESTAMP '2025-01-02 00:00:00'
);

-- Whom to write to first.
SELECT left_at, visitor, value, looks, label, round(priority) AS priority, round(worth) AS worth, outcome
FROM judged ORDER BY worth DESC, visitor LIMIT 10;

-- How good that is: a hundred letters by the list, by the price of the cart, and as the carts come.
WITH ranked AS (
  SELECT *, ROW_NUMBER() OVER (ORDER BY worth DESC, visitor) AS by_worth, ROW_NUMBER() OVER (ORDER BY value DESC, visitor) AS by_price,
    ROW_NUMBER() OVER (ORDER BY left_at, visitor) AS by_time FROM judged
), letters AS (
  SELECT 'by worth' AS letters, value, outcome FROM ranked WHERE by_worth <= 100
  UNION ALL SELECT 'by price', value, outcome FROM ranked WHERE by_price <= 100
  UNION ALL SELECT 'as they come', value, outcome FROM ranked WHERE by_time <= 100
)
SELECT letters, count(*) FILTER (WHERE outcome = 'hesitated') AS who_hesitates,
  round(sum(value) FILTER (WHERE outcome = 'hesitated')) AS at_stake
FROM letters GROUP BY letters ORDER BY at_stake DESC;

-- How often the classifier is right, beside always saying what is most frequent.
SELECT count(*) AS carts, round(avg(CASE WHEN label = outcome THEN 1.0 ELSE 0.0 END), 3) AS accuracy,
  round(avg(CASE WHEN outcome = 'lost' THEN 1.0 ELSE 0.0 END), 3) AS most_frequent FROM judged;
