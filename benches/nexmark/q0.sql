-- q0, pass through: what it costs to move bids from source to sink.
SELECT auction, bidder, price, dateTime, extra
FROM bid;
