"""Everything that a short run on a GPU must answer: `campaign` runs the rest, step by step."""
