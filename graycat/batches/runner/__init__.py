"""Advances live batches: prepares their items, refills the queue, collects the images and ends the batch."""
