"""What other programs need to load and run models of this library, and what they can take from it."""
