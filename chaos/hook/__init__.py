"""What the harness puts into graycat's processes; its folder is on their PYTHONPATH, beside that of the repository."""
