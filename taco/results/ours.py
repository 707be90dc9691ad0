"""Variants that are not of the paper, by their labels; wherever they are printed, this is said."""

BY_PROPOSAL = "classes by proposal"
"""The variant that names each proposal (`taco.method.naming`)."""
GATED = "gated"
"""The variant whose mask is empty where the map stays low (`taco.results.gating`)."""
OURS = (BY_PROPOSAL, GATED)
OURS_NOTE = "(ours): not of the paper; docs/paper-and-code.md says what it is and what it was found to bring."
