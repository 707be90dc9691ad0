"""Commands of the program `taco`. Takes what people type; gives calls of the wings, and messages for people."""
