-- Every record carries a checksum: a flipped bit is found when it is read.  `seal` is records.py's.

UPDATE spec SET record = seal(record);
UPDATE job SET record = seal(record);
UPDATE launch SET record = seal(record);
UPDATE accounting SET record = seal(record);
UPDATE node SET record = seal(record);
