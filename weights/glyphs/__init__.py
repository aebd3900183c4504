"""The real emoji glyphs that the embedded model is trained on and judged against, in both looks."""
