"""From a Korean or English prompt to the English one that the predictor draws.

`language` finds Korean, `translator` is what every backend offers, `glossary` and `seq2seq` are the two
backends, `cache` stands in front of either, and `backends` builds the one that was chosen. Nothing here knows
KServe, requests or pictures.
"""
