"""What is hidden from whom: paths of the boxes, other callers' work, and what a terminal would obey."""
