"""Webhooks: what a caller asks for, the deliveries, and who sends them."""
