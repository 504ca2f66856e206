-- q10, log to files: every bid, with the day and the minute that say where it is filed. `eagre bench` inserts it into a table of CSV
-- files PARTITIONED BY (dt, hm).
SELECT auction, bidder, price, dateTime, extra, DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS dt, DATE_FORMAT(dateTime, 'HH:mm') AS hm
FROM bid;
