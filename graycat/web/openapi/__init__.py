"""The OpenAPI document (``/openapi.json``) and the page that shows it (``/docs``)."""
