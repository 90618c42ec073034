"""All processes of graycat on one machine: what they are, and what starts, restarts and stops them."""
