"""Names: which LoRA versions a look, an alias, a route or a mix means, while versions come and go.

It knows no tensors.
"""
