"""The OpenAPI document: ``/openapi.json``. ``graycat/web/docs`` shows it."""
