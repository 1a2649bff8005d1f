"""Other programs' doors: what a host needs to load and run models of this library, and what it can lend to it."""
