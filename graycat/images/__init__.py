"""Image bytes and the bodies of image requests: decoded, checked and rewritten."""
