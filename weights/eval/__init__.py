"""How good the embedded model is: judges on real glyphs that have no part in its training."""
