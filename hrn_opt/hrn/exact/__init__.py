"""Twins of other libraries' arithmetic, equal to the last bit: do not improve them."""
