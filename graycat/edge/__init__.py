"""Configurations of proxies that stand before graycat: nginx, HAProxy, Caddy; made from graycat's own settings."""
