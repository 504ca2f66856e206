-- Pass through: every row, every column.
SELECT auction, bidder, price, channel, url, "dateTime", extra FROM bid;
