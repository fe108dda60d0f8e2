"""From pixels to captions: bundles, decoding and confidence."""
