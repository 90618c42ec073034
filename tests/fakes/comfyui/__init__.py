"""A ComfyUI server without a GPU: its wire, its queue, its habits by version, and faults on demand.

Run as ``python -m tests.fakes.comfyui --port N``. It draws pictures that depend on seed and prompt. Every fact of the
wire that it speaks is a row of ``tests/wire/test_fake_comfyui*.py``; the same rows run against a real server.
"""
