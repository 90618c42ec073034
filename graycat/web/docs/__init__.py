"""The pages that explain graycat: the API reference at ``/docs``, and the guides below ``/docs/guides``."""
