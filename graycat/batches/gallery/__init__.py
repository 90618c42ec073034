"""A batch to look at: its page, thumbnails, zip and export."""
