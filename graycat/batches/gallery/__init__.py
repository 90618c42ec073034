"""The gallery of a batch: its page, thumbnails, zip and export."""
