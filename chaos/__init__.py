"""``make chaos``: one fault after the other on a whole graycat under load of every kind, and an audit after each."""
