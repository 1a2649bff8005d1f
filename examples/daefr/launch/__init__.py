"""Ways to start the stages of DAEFR: one node, several, SLURM, SkyPilot and Ray; see `docs/guides/launch.md`."""
