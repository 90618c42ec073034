"""Moves live batches on: prepares their items, fills the queue, collects the images and ends the batch."""
