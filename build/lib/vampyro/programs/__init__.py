"""How Pyro programs are traced, checked, compiled and seeded."""
